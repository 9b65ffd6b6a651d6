//! Fetching documents from servers that mean well, and others.

use weir_pipeline::fetch::{Fetch, FetchRequest, Fetched};

use super::super::fetch::HttpFetch;
use super::super::tls::{Pem, TlsSettings};
use super::stub::{Answer, Stub};
use super::tls::authority_and_stub;
use super::*;

/// Fetches as a component does: on a thread, without a runtime.
async fn fetch_with(fetcher: HttpFetch, url: String, etag: Option<&'static str>, ms: u64) -> Result<Fetched, String> {
    let fetched = tokio::task::spawn_blocking(move || {
        let timeout = Duration::from_millis(ms);
        fetcher.fetch(&FetchRequest { url: &url, etag, max_bytes: 1 << 20, timeout }).map_err(|e| e.to_string())
    });
    fetched.await.unwrap()
}

async fn fetch(stub: &Stub, etag: Option<&'static str>) -> Result<Fetched, String> {
    fetch_with(HttpFetch::new(), format!("http://{}/prices.json?token=secret", stub.address), etag, 20_000).await
}

#[tokio::test]
async fn a_document_comes_with_its_tag_and_once() {
    let answers = [Answer::http(200, &[("etag", "\"v1\"")], b"{}"), Answer::http(304, &[], b"")];
    let stub = Stub::http(answers).await;
    let first = fetch(&stub, None).await.unwrap();
    assert_eq!(first, Fetched::New { body: b"{}".to_vec(), etag: Some("\"v1\"".to_owned()) });
    assert_eq!(fetch(&stub, Some("\"v1\"")).await, Ok(Fetched::Unchanged));
    let arrived = stub.arrived();
    assert_eq!((arrived[0].method.as_str(), arrived[0].path.as_str()), ("GET", "/prices.json?token=secret"));
    assert_eq!(arrived[0].header("host"), stub.address.to_string());
    assert!(arrived[0].header("user-agent").starts_with("weir/"));
    assert_eq!((arrived[0].header("if-none-match"), arrived[1].header("if-none-match")), ("", "\"v1\""));
}

#[tokio::test]
async fn what_is_no_document_is_an_error_that_keeps_secrets() {
    let large = vec![b' '; (1 << 20) + 1];
    let answers = [
        (Answer::http(500, &[], b"oops"), "HTTP status 500"),
        (Answer::http(404, &[], b""), "HTTP status 404"),
        // Nobody said which version is known.
        (Answer::http(304, &[], b""), "elsewhere without saying where"),
        (Answer::http(200, &[], &large), "larger than 1 MiB"),
        (Answer::endless(200), "larger than 1 MiB"),
        (Answer::http(302, &[("location", "ftp://elsewhere")], b""), "to where we do not go"),
    ];
    for (answer, hint) in answers {
        let stub = Stub::http([answer]).await;
        let error = fetch(&stub, None).await.unwrap_err();
        assert!(error.contains(hint) && error.contains("/prices.json"), "{hint}: {error}");
        assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
    }
    let stub = Stub::http([]).await;
    let address = stub.address;
    drop(stub);
    let nobody = fetch_with(HttpFetch::new(), format!("http://{address}/"), None, 20_000).await.unwrap_err();
    assert!(nobody.contains("cannot connect") || nobody.contains("broke off"), "{nobody}");
    let nonsense = fetch_with(HttpFetch::new(), "ftp://h/x".to_owned(), None, 20_000).await.unwrap_err();
    assert!(nonsense.contains("neither http nor https"), "{nonsense}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let stub = Stub::http([Answer::never()]).await;
    let url = format!("http://{}/", stub.address);
    let error = fetch_with(HttpFetch::new(), url, None, 100).await.unwrap_err();
    assert!(error.contains("no answer within 100ms"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let end = Stub::http([Answer::http(200, &[], b"1")]).await;
    let to_end = format!("http://{}/there", end.address);
    let stub = Stub::http([
        Answer::http(301, &[("location", "/next?x=1")], b""),
        Answer::http(307, &[("location", &to_end)], b""),
    ])
    .await;
    assert_eq!(fetch(&stub, None).await, Ok(Fetched::New { body: b"1".to_vec(), etag: None }));
    assert_eq!(stub.arrived()[1].path, "/next?x=1");
    assert_eq!(end.only().path, "/there");
    let circle = Stub::http(vec![Answer::http(302, &[("location", "/again")], b""); 9]).await;
    assert!(fetch(&circle, None).await.unwrap_err().contains("more than 5 times"));
    assert_eq!(circle.arrived().len(), 6);
}

#[tokio::test]
async fn https_is_spoken_with_whom_one_trusts_and_not_left() {
    let answers = [Answer::http(200, &[], b"1"), Answer::http(302, &[("location", "http://127.0.0.1:9/plain")], b"")];
    let (stub, ca) = authority_and_stub(answers).await;
    let url = format!("https://{}/", stub.address);
    let tls = TlsSettings { ca: Some(Pem::Text(ca.into())), ..TlsSettings::default() };
    let fetcher = HttpFetch::with_tls(tls);
    let found = fetch_with(fetcher.clone(), url.clone(), None, 20_000).await;
    assert_eq!(found, Ok(Fetched::New { body: b"1".to_vec(), etag: None }));
    let downgraded = fetch_with(fetcher, url.clone(), None, 20_000).await.unwrap_err();
    assert!(downgraded.contains("to where we do not go"), "{downgraded}");
    let stranger = TlsSettings { ca: Some(Pem::Text(authority_and_stub([]).await.1.into())), ..TlsSettings::default() };
    let distrusted = fetch_with(HttpFetch::with_tls(stranger), url, None, 20_000).await.unwrap_err();
    assert!(distrusted.contains("TLS handshake"), "{distrusted}");
}
