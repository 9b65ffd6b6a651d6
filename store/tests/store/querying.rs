//! What `weir sql` is asked and answers.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use weir_pipeline::receipt::Outcome;
use weir_store::StoreError;
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::{Engine, Format};

use crate::support::{self, attribute, string};

/// A store with three LLM calls of two tenants and a task.
async fn engine() -> Engine {
    let (_, root) = support::memory();
    let (writer, _) = support::writer(&root);
    let call = |n: u64, tenant: &str, cost: &str, tokens: i64| {
        support::span(
            n,
            vec![
                string("gen_ai.provider.name", "openai"),
                string("gen_ai.operation.name", "chat"),
                string("gen_ai.request.model", "gpt-4o"),
                string("traceloop.association.properties.tenant", tenant),
                string("gen_ai.input.messages", r#"[{"role":"user","parts":[]}]"#),
                string("gen_ai.usage.cost.amount", cost),
                attribute("gen_ai.usage.input_tokens", Value::IntValue(tokens)),
                attribute("gen_ai.usage.output_tokens", Value::IntValue(1)),
            ],
        )
    };
    let spans = vec![
        call(1, "blue", "0.000000000001", 10),
        call(2, "blue", "123456.789012345678", 20),
        call(3, "red", "0.1", 30),
        support::span(4, vec![string("traceloop.span.kind", "task")]),
    ];
    let resource = vec![string("service.name", "shop"), string("deployment.environment", "prod")];
    let (batch, waiter) = support::awaited(support::request(resource, spans));
    writer.write(batch).await;
    writer.close().await;
    assert_eq!(waiter.await, Outcome::Done);
    Engine::over(&root, DEFAULT_PROJECT).await.unwrap()
}

async fn answer(engine: &Engine, sql: &str, format: Format) -> String {
    let mut out = Vec::new();
    engine.write(sql, format, &mut out).await.unwrap().unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_exact_in_every_format() {
    let engine = engine().await;
    let sql = "select association_properties['tenant'] as tenant, sum(total_cost) as cost, sum(total_tokens) as tokens \
               from spans where span_type = 'llm' group by 1 order by 1";
    let table = "+--------+---------------------+--------+\n\
                 | tenant | cost                | tokens |\n\
                 +--------+---------------------+--------+\n\
                 | blue   | 123456.789012345679 | 32     |\n\
                 | red    | 0.100000000000      | 31     |\n\
                 +--------+---------------------+--------+\n";
    assert_eq!(answer(&engine, sql, Format::Table).await, table);
    let json = "[{\"tenant\":\"blue\",\"cost\":123456.789012345679,\"tokens\":32},\
                {\"tenant\":\"red\",\"cost\":0.100000000000,\"tokens\":31}]\n";
    assert_eq!(answer(&engine, sql, Format::Json).await, json);
    let csv = "tenant,cost,tokens\nblue,123456.789012345679,32\nred,0.100000000000,31\n";
    assert_eq!(answer(&engine, sql, Format::Csv).await, csv);
    // A value that file statistics would have rounded.
    let sql = "select total_cost from spans where total_cost > 1000";
    assert_eq!(answer(&engine, sql, Format::Csv).await, "total_cost\n123456.789012345678\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_whatever_columns_are_read() {
    let engine = engine().await;
    for (sql, rows) in [
        ("select date from spans limit 2", 2),
        ("select environment from spans limit 3 offset 2", 2),
        ("select 1 from spans limit 1", 1),
        ("select name from spans limit 3", 3),
        ("select name, date from spans order by start_time desc limit 2", 2),
        ("select date from spans where environment = 'prod' limit 1", 1),
        ("select * from (select date from spans limit 2) union all select date from spans limit 3", 3),
    ] {
        assert_eq!(answer(&engine, sql, Format::Csv).await.lines().count(), rows + 1, "{sql}");
    }
    let counted = "select count(*) from (select environment from spans limit 2)";
    assert_eq!(answer(&engine, counted, Format::Csv).await, "count(*)\n2\n");
    let within = engine.within("prod");
    assert_eq!(answer(&within, "select environment from spans limit 1", Format::Csv).await.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_filled_and_unknown_is_null() {
    let engine = engine().await;
    let sql = "select service_name, environment, kind, status, provider, request_model, input_key, input_tokens \
               from spans where name in ('span 1', 'span 4') order by name";
    let csv = "service_name,environment,kind,status,provider,request_model,input_key,input_tokens\n\
               shop,prod,client,unset,openai,gpt-4o,gen_ai.input.messages,10\n\
               shop,prod,client,unset,,,,\n";
    assert_eq!(answer(&engine, sql, Format::Csv).await, csv);
    let sql = "select count(*) as n from spans where date = '2026-11-21' and duration_ns = 5000000";
    assert_eq!(answer(&engine, sql, Format::Csv).await, "n\n4\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_written_in_every_format() {
    let engine = engine().await;
    for format in [Format::Table, Format::Json, Format::Csv] {
        let text = answer(&engine, "select * from spans order by start_time", format).await;
        assert!(text.contains("span 3"), "{text}");
    }
    let json = answer(&engine, "select * from spans", Format::Json).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap().as_array().unwrap().len(), 4);
    let sql = "select attributes_int as a, events as e from spans where name = 'span 3'";
    let csv = "a,e\n\"{\"\"gen_ai.usage.input_tokens\"\":30,\"\"gen_ai.usage.output_tokens\"\":1}\",[]\n";
    assert_eq!(answer(&engine, sql, Format::Csv).await, csv);
    assert_eq!(answer(&engine, "select name from spans where false", Format::Csv).await, "name\n");
    assert_eq!(answer(&engine, "select name from spans where false", Format::Json).await, "[]\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_spans_are_seen_by_an_open_engine() {
    let (_, root) = support::memory();
    let (writer, _) = support::writer(&root);
    let (batch, waiter) = support::awaited(support::request(vec![], vec![support::span(1, vec![])]));
    writer.write(batch).await;
    assert_eq!(waiter.await, Outcome::Done);
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    assert_eq!(answer(&engine, "select count(*) as n from spans", Format::Csv).await, "n\n1\n");
    let (batch, waiter) = support::awaited(support::request(vec![], vec![support::span(2, vec![])]));
    writer.write(batch).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(answer(&engine, "select count(*) as n from spans", Format::Csv).await, "n\n2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_explained_in_one_line() {
    let engine = engine().await;
    let mistakes = [
        ("select totl_cost from spans", "total_cost"),
        ("select * from span", "table 'span' not found: the spans are in `spans`"),
        ("selct 1", "selct"),
        ("drop table spans", "can only be read"),
        ("create table x as select 1", "DDL"),
        ("insert into spans select * from spans", "DML"),
        ("copy spans to '/tmp/x.parquet'", "DML"),
        ("set datafusion.execution.batch_size = 1", "Statement"),
        ("select 1; select 2", "statement"),
        ("", "statement"),
    ];
    for (sql, hint) in mistakes {
        let error = engine.collect(sql).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains(&hint.to_lowercase()), "{sql}: {error}");
        assert!(!error.contains('\n') && !error.contains("caused by") && error.len() < 300, "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_spans_says_how_to_get_some() {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("nothing here");
    let error = Engine::open(url.to_str().unwrap(), &Default::default(), DEFAULT_PROJECT).await.unwrap_err();
    assert!(matches!(error, StoreError::NoTable { .. }), "{error}");
    assert!(error.to_string().contains("start a collector"), "{error}");
    assert!(!url.exists(), "asking must create nothing");
    let (_, root) = support::memory();
    assert!(Engine::over(&root, "unknown").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_directory_is_written_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("with space & ünïcode");
    let root = Root::open(path.to_str().unwrap(), &Default::default()).unwrap();
    let (writer, _) = support::writer(&root);
    let (batch, waiter) = support::awaited(support::request(vec![], vec![support::span(1, vec![])]));
    writer.write(batch).await;
    writer.close().await;
    assert_eq!(waiter.await, Outcome::Done);
    let engine = Engine::open(path.to_str().unwrap(), &Default::default(), DEFAULT_PROJECT).await.unwrap();
    assert_eq!(answer(&engine, "select count(*) as n from spans", Format::Csv).await, "n\n1\n");
    let day = path.join("projects/default/spans/environment=default/date=2026-11-21");
    assert!(day.is_dir(), "{}", day.display());
}
