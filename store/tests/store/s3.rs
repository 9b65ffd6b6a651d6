//! The store on a server that speaks S3's protocol: signatures, XML, conditional and multipart uploads, ranges.

use weir_pipeline::receipt::Outcome;
use weir_store::StoreError;
use weir_store::objects::DEFAULT_PROJECT;
use weir_store::query::{Engine, Format, write};

use crate::s3_server::Server;
use crate::support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_write_one_table_on_s3() {
    let server = Server::start(true).await;
    let root = server.root("s3://lake/some/where");
    root.check_conditional_put().await.unwrap();
    assert_eq!(server.keys(), Vec::<String>::new(), "the test of the store leaves nothing behind");

    let writers = [support::writer(&root), support::writer(&root)];
    let mut waiters = Vec::new();
    for n in 0..12u64 {
        let spans = (0..5).map(|m| support::span(n * 5 + m, vec![])).collect();
        let (batch, waiter) = support::awaited(support::request(vec![], spans));
        writers[n as usize % 2].0.write(batch).await;
        waiters.push(waiter);
        if n % 3 == 2 {
            // Both at once, so that they race for the next version.
            tokio::join!(writers[0].0.drain(), writers[1].0.drain());
        }
    }
    for (writer, _) in &writers {
        writer.close().await;
    }
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    let engine = Engine::open("s3://lake/some/where", &server.options(), DEFAULT_PROJECT).await.unwrap();
    let answer = engine
        .collect("select count(*) as n, count(distinct span_id) as ids, count(distinct source) as writers from spans")
        .await
        .unwrap();
    let mut csv = Vec::new();
    write(&answer, Format::Csv, &mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), "n,ids,writers\n60,60,2\n");
    let prefix = "some/where/projects/default/spans/";
    assert!(server.keys().iter().all(|key| key.starts_with(prefix)), "{:?}", server.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_uploaded_in_parts() {
    let server = Server::start(true).await;
    let root = server.root("s3://lake");
    let (writer, _) = support::writer(&root);
    // Texts that do not compress: a xorshift generator in hexadecimal.
    let mut state = 88_172_645_463_325_252u64;
    let mut noise = |words: usize| {
        let next = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        });
        next.take(words).collect::<String>()
    };
    let spans = (0..30).map(|n| support::span(n, vec![support::string("gen_ai.input.messages", &noise(40_000))]));
    let (batch, waiter) = support::awaited(support::request(vec![], spans.collect()));
    writer.write(batch).await;
    writer.close().await;
    assert_eq!(waiter.await, Outcome::Done);
    assert!(server.parts_seen() > 1, "the file was expected to need several parts");
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    let answer = engine.collect("select sum(length(input)) as n from spans").await.unwrap();
    let mut csv = Vec::new();
    write(&answer, Format::Csv, &mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), format!("n\n{}\n", 30 * 40_000 * 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_overwrites_is_refused() {
    let server = Server::start(false).await;
    let error = server.root("s3://lake/x").check_conditional_put().await.unwrap_err();
    assert!(matches!(error, StoreError::NoConditionalPut { .. }), "{error}");
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_one_clear_line() {
    let server = Server::start(true).await;
    let mut options = server.options();
    options.insert("secret_access_key".to_owned(), "wrong".to_owned());
    let error = Engine::open("s3://lake/x", &options, DEFAULT_PROJECT).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("SignatureDoesNotMatch") || text.contains("403"), "{text}");
    assert!(!text.contains("wrong"), "the secret must not be told: {text}");
}
