//! Costs computed again: what changes, what must not, and what happens beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use weir_pipeline::batch::Batch;
use weir_pipeline::clock::Environment;
use weir_pipeline::receipt::Outcome;
use weir_store::commit::Backoff;
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::{Engine, Format, write};
use weir_store::recost::{Costs, Options, Prepared, Recompute, Recomputed, Row, Selection, commit, prepare};
use weir_store::table::Delta;
use weir_store::{StoreError, rebuild};

use crate::evolution;
use crate::support::{self, assert_same_spans, attribute, canonical, string};
use crate::writing::{Fault, Faulty};

/// 2026-11-21 in microseconds.
const DAY: i64 = 1_795_219_200_000_000;
const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The columns that a recost may change.
const MONEY: &str = "cost_status, cost_source, cost_deferred_to, cost_caveat, total_cost, input_cost, output_cost, \
                     cache_read_cost, cache_write_cost, price_key, price_version, previous_total_cost, \
                     previous_price_version, recost_time";

/// Makes rows cost so many times as much and so much more, in 10⁻¹² USD.
struct Dearer {
    times: i128,
    more: i128,
    rows: Vec<Row>,
    seen: Vec<(bool, String)>,
}

impl Dearer {
    fn new(times: i128, more: i128) -> Self {
        Self { times, more, rows: Vec::new(), seen: Vec::new() }
    }
}

impl Recompute for Dearer {
    fn read(&mut self, spans: &Batch, rows: Vec<Row>) {
        assert_eq!(spans.len(), rows.len());
        let names = spans.spans().map(|span| span.fields().name.as_str().to_owned());
        self.seen.extend(rows.iter().map(|row| row.selected).zip(names));
        self.rows.extend(rows.into_iter().filter(|row| row.selected));
    }

    fn decide(&mut self) -> Vec<Recomputed> {
        let dearer = |row: Row| {
            let changed = row.costs.total.unwrap_or(0) * self.times + self.more;
            let total = if changed == 0 { row.costs.total } else { Some(changed) };
            let status = row.costs.status.clone().or(total.map(|_| "priced".into()));
            let costs = Costs { total, status, price_version: Some("new".into()), ..row.costs.clone() };
            Recomputed { row, costs, earlier_status: None }
        };
        std::mem::take(&mut self.rows).into_iter().map(dearer).collect()
    }
}

fn everything() -> Selection {
    Selection { from_micros: 0, to_micros: i64::MAX, environment: None, condition: None }
}

fn options() -> Options {
    Options {
        now_micros: DAY + 5,
        parameters: vec![("catalog", "new".to_owned())],
        backoff: Backoff { attempts: 100, first: Duration::from_millis(1), most: Duration::from_millis(5) },
        environment: Environment::with(|| 0, 7),
    }
}

async fn table(root: &Root) -> Delta {
    Delta::open_for_change(root, DEFAULT_PROJECT).await.unwrap()
}

async fn recost(root: &Root, selection: &Selection, mut recompute: Dearer) -> (Prepared, Option<u64>) {
    let mut table = table(root).await;
    let prepared = prepare(&table, selection, &mut recompute, &options(), false).await.unwrap();
    let version = commit(&mut table, &prepared, &options()).await.unwrap();
    (prepared, version)
}

async fn csv(root: &Root, sql: &str) -> String {
    let engine = Engine::over(root, DEFAULT_PROJECT).await.unwrap();
    let mut out = Vec::new();
    write(&engine.collect(sql).await.unwrap(), Format::Csv, &mut out).unwrap();
    String::from_utf8(out).unwrap().split_once('\n').unwrap().1.trim_end().to_owned()
}

/// A call that cost `n` thousandths of a USD, in an environment and on a day after the 21st.
fn call(n: u64, days: u64, environment: &str) -> bytes::Bytes {
    let mut span = support::span(
        n,
        vec![
            string("gen_ai.provider.name", "openai"),
            string("gen_ai.response.model", if n.is_multiple_of(2) { "even" } else { "odd" }),
            string("weir.cost.status", "priced"),
            string("weir.cost.price_id", "openai/x"),
            string("weir.cost.catalog", "old"),
            attribute("gen_ai.usage.cost.amount", Value::DoubleValue(n as f64 / 1e3)),
        ],
    );
    span.start_time_unix_nano += days * 86_400_000_000_000;
    span.end_time_unix_nano += days * 86_400_000_000_000;
    support::request(vec![string("deployment.environment", environment)], vec![span])
}

async fn store(root: &Root, requests: impl IntoIterator<Item = bytes::Bytes>) {
    let (writer, _) = support::writer(root);
    let mut waiters = Vec::new();
    for request in requests {
        let (batch, waiter) = support::awaited(request);
        writer.write(batch).await;
        waiters.push(waiter);
    }
    writer.close().await;
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
}

async fn data_files(store: &InMemory) -> usize {
    let files = store.list(Some(&Path::from("lake/projects/default/spans")));
    let is_data = |path: &str| path.ends_with(".parquet") && !path.contains("_delta_log");
    files.filter(|file| std::future::ready(is_data(file.as_ref().unwrap().location.as_ref()))).count().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_change_exactly_and_nothing_else_does() {
    let (_, root) = support::memory();
    // A part of the corpus is enough: every kind of attribute is in it.
    let requests: Vec<_> = support::corpus().into_iter().step_by(8).map(|(_, request)| request).collect();
    store(&root, requests.clone()).await;
    store(&root, (1..=9).map(|n| call(n, 0, "prod"))).await;
    let expected =
        canonical(&requests.into_iter().chain((1..=9).map(|n| call(n, 0, "prod"))).collect::<Vec<_>>().concat());
    let others = format!("select * exclude ({MONEY}) from spans order by trace_id, span_id, name");
    let before = csv(&root, &others).await;
    let sum = "select cast(sum(total_cost) * 1000000000000 as bigint) from spans";
    let sum_before: i128 = csv(&root, sum).await.parse().unwrap();
    assert!(sum_before >= 45_000_000_000, "1 + 2 + … + 9 thousandths, and what the corpus gives");

    // Times 3, and 7 units more for each row.
    let rows = expected.len() as i128;
    let (prepared, version) = recost(&root, &everything(), Dearer::new(3, 7)).await;
    assert_eq!(prepared.changed(), rows as u64);
    assert!(version.is_some());
    assert_eq!(csv(&root, sum).await, (3 * sum_before + 7 * rows).to_string());
    assert_eq!(csv(&root, &others).await, before);
    let kept = "select total_cost, previous_total_cost, price_key, price_version, previous_price_version, cost_status, \
                recost_time from spans where name = 'span 2'";
    assert_eq!(
        csv(&root, kept).await,
        "0.006000000007,0.002000000000,openai/x,new,old,priced,2026-11-21T00:00:00.000005Z"
    );
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    let rows = engine.collect("select * from spans").await.unwrap();
    let rebuilt: Vec<u8> = rows.iter().flat_map(|rows| rebuild::request(rows).unwrap()).collect();
    assert_same_spans("after a recost", &expected, &canonical(&rebuilt));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_costs_the_same_is_not_written_and_not_committed() {
    let (memory, root) = support::memory();
    store(&root, (1..=9).map(|n| call(n, n % 3, "prod"))).await;
    let (files, version) = (data_files(&memory).await, table(&root).await.delta().version());
    let (prepared, committed) = recost(&root, &everything(), Dearer::new(1, 0)).await;
    assert_eq!((prepared.changed(), prepared.files_replaced, committed), (0, 0, None));
    assert_eq!(prepared.differences[&("openai".to_owned(), "odd".to_owned())].spans, 5);
    assert_eq!(table(&root).await.delta().version(), version);
    // Again after a real one.
    recost(&root, &everything(), Dearer::new(2, 0)).await;
    let (_, committed) = recost(&root, &everything(), Dearer::new(1, 0)).await;
    assert_eq!(committed, None);
    assert!(data_files(&memory).await > files);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let (memory, root) = support::memory();
    store(&root, (1..=9).map(|n| call(n, 0, "prod"))).await;
    let files = data_files(&memory).await;
    let mut table = table(&root).await;
    let dry = prepare(&table, &everything(), &mut Dearer::new(2, 0), &options(), true).await.unwrap();
    assert_eq!(commit(&mut table, &dry, &options()).await.unwrap(), None);
    assert_eq!(data_files(&memory).await, files);
    let (prepared, _) = recost(&root, &everything(), Dearer::new(2, 0)).await;
    assert_eq!(dry.differences, prepared.differences);
    // 1 + 3 + 5 + 7 + 9 and 2 + 4 + 6 + 8 thousandths.
    let sums: BTreeMap<_, _> =
        dry.differences.iter().map(|((_, model), d)| (model.as_str(), (d.before, d.after, d.changed))).collect();
    let expected = [("even", (20, 40, 4)), ("odd", (25, 50, 5))];
    assert_eq!(sums, expected.map(|(m, (b, a, n))| (m, (b * 1_000_000_000, a * 1_000_000_000, n))).into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_selected_rows_change() {
    let after = async |selection: Selection| {
        let (_, root) = support::memory();
        let odd = "it's/an=odd %2F üname";
        store(&root, [call(1, 0, "prod"), call(2, 1, "prod"), call(3, 2, "prod"), call(4, 0, odd)]).await;
        let (prepared, _) = recost(&root, &selection, Dearer::new(0, 1)).await;
        let changed = csv(&root, "select name from spans where recost_time is not null order by name").await;
        (changed.replace('\n', ", "), prepared.files_read)
    };
    let all = everything();
    assert_eq!(after(all.clone()).await, ("span 1, span 2, span 3, span 4".into(), 4));
    // Spans start eight hours into the day.
    let range = |from: i64, to: i64| Selection { from_micros: from, to_micros: to, ..everything() };
    assert_eq!(after(range(DAY, DAY + MICROS_PER_DAY)).await, ("span 1, span 4".into(), 2));
    assert_eq!(after(range(DAY + 1, DAY + MICROS_PER_DAY + 1)).await, ("span 1, span 4".into(), 3));
    let start = DAY + MICROS_PER_DAY / 3 + MICROS_PER_DAY + 2_000;
    assert_eq!(after(range(start, start + 1)).await.0, "span 2", "from is in");
    assert_eq!(after(range(0, start)).await.0, "span 1, span 4", "to is out");
    assert_eq!(after(range(5, 5)).await, (String::new(), 0));
    let environment = |name: &str| Selection { environment: Some(name.to_owned()), ..everything() };
    assert_eq!(after(environment("prod")).await, ("span 1, span 2, span 3".into(), 3));
    assert_eq!(after(environment("it's/an=odd %2F üname")).await.0, "span 4");
    let condition = |sql: &str| Selection { condition: Some(sql.to_owned()), ..everything() };
    for (sql, names) in [
        ("total_cost > 0.002", "span 3, span 4"),
        ("response_model like 'ev%' and environment = 'prod'", "span 2"),
        ("date >= '2026-11-22'", "span 2, span 3"),
        ("attributes_string['weir.cost.catalog'] = 'old' and not (name = 'span 1')", "span 2, span 3, span 4"),
        ("user_id = 'nobody'", ""),
        ("user_id is null", "span 1, span 2, span 3, span 4"),
    ] {
        assert_eq!(after(condition(sql)).await.0, names, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_condition_is_explained_in_one_line() {
    let (_, root) = support::memory();
    store(&root, [call(1, 0, "prod")]).await;
    let table = table(&root).await;
    for (sql, hint) in [
        ("totl_cost > 1", "totl_cost"),
        ("total_cost", "not true or false"),
        ("total_cost >", "condition"),
        ("1 = 1; drop table spans", "condition"),
        ("name in (select name from spans)", "condition"),
        ("sum(total_cost) > 1", "condition"),
        ("", "condition"),
    ] {
        let selection = Selection { condition: Some(sql.to_owned()), ..everything() };
        let result = prepare(&table, &selection, &mut Dearer::new(2, 0), &options(), false).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains(hint) && !error.contains('\n'), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_the_same_file_are_shown_but_not_changed() {
    let (_, root) = support::memory();
    store(&root, (1..=3).map(|n| call(n, 0, "prod"))).await;
    let selection = Selection { condition: Some("name = 'span 2'".into()), ..everything() };
    let mut recompute = Dearer::new(2, 0);
    let table = table(&root).await;
    prepare(&table, &selection, &mut recompute, &options(), true).await.unwrap();
    recompute.seen.sort();
    let seen: Vec<_> = recompute.seen.iter().map(|(selected, name)| (*selected, name.as_str())).collect();
    assert_eq!(seen, [(false, "span 1"), (false, "span 3"), (true, "span 2")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_an_older_version_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    evolution::append_as_of_old(&evolution::old_table(folder.path()).await, &evolution::call(1)).await;
    let old = Delta::open(&root, DEFAULT_PROJECT).await.unwrap();
    let dry = prepare(&old, &everything(), &mut Dearer::new(2, 0), &options(), true).await.unwrap();
    assert_eq!(dry.changed(), 1);
    assert_eq!(Delta::open(&root, DEFAULT_PROJECT).await.unwrap().delta().version(), Some(1), "as it was");
    recost(&root, &everything(), Dearer::new(2, 0)).await;
    let row = "select total_cost, previous_total_cost, cost_status, given_cost from spans";
    assert_eq!(csv(&root, row).await, "2.000000000000,1.000000000000,priced,");
}

// === Beside others ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_before_the_commit_leaves_files_that_nobody_sees() {
    let (memory, root) = support::memory();
    store(&root, (1..=9).map(|n| call(n, 0, "prod"))).await;
    let files = data_files(&memory).await;
    let prepared =
        prepare(&table(&root).await, &everything(), &mut Dearer::new(2, 0), &options(), false).await.unwrap();
    assert_eq!(prepared.files_replaced, files);
    drop(prepared);
    assert_eq!(data_files(&memory).await, 2 * files, "they are there");
    let all = "select count(*), count(distinct span_id), sum(total_cost), count(previous_total_cost) from spans";
    assert_eq!(csv(&root, all).await, "9,9,0.045000000000,0");
    recost(&root, &everything(), Dearer::new(2, 0)).await;
    assert_eq!(csv(&root, all).await, "9,9,0.090000000000,9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_meanwhile_is_kept() {
    let (_, root) = support::memory();
    store(&root, (1..=4).map(|n| call(n, 0, "prod"))).await;
    let mut table = table(&root).await;
    let prepared = prepare(&table, &everything(), &mut Dearer::new(10, 0), &options(), false).await.unwrap();
    store(&root, (5..=9).map(|n| call(n, 0, "prod"))).await;
    assert!(commit(&mut table, &prepared, &options()).await.unwrap().is_some());
    // 1 + 2 + 3 + 4 hundredths, and 5 + … + 9 thousandths.
    let all = "select count(*), count(distinct span_id), sum(total_cost) from spans";
    assert_eq!(csv(&root, all).await, "9,9,0.135000000000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_writes_all_the_time_loses_nothing() {
    let (_, root) = support::memory();
    store(&root, [call(1, 0, "prod")]).await;
    let (writer, telemetry) = support::writer(&root);
    let writing = async {
        for n in 2..=40 {
            let (batch, waiter) = support::awaited(call(n, 0, "prod"));
            writer.write(batch).await;
            writer.drain().await;
            assert_eq!(waiter.await, Outcome::Done);
        }
    };
    let recosting = async {
        for _ in 0..5 {
            recost(&root, &everything(), Dearer::new(1, 1_000_000_000)).await;
        }
    };
    futures::join!(writing, recosting);
    assert_eq!(telemetry.sum("otelcol_exporter_sent_spans"), 39);
    let rest = "select count(*), count(distinct span_id) from spans";
    assert_eq!(csv(&root, rest).await, "40,40");
    // Each recost adds a thousandth to what it saw; the first span was there every time.
    let first = "select total_cost, previous_total_cost from spans where name = 'span 1'";
    assert_eq!(csv(&root, first).await, "0.006000000000,0.005000000000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_rewrite_the_same_files_one_is_told() {
    let (memory, root) = support::memory();
    store(&root, (1..=4).map(|n| call(n, 0, "prod"))).await;
    let files = data_files(&memory).await;
    let (mut one, mut other) = (table(&root).await, table(&root).await);
    let first = prepare(&one, &everything(), &mut Dearer::new(2, 0), &options(), false).await.unwrap();
    let second = prepare(&other, &everything(), &mut Dearer::new(3, 0), &options(), false).await.unwrap();
    assert!(commit(&mut one, &first, &options()).await.unwrap().is_some());
    let error = commit(&mut other, &second, &options()).await.unwrap_err();
    assert!(matches!(error, StoreError::Overtaken { files: n } if n == files), "{error}");
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(csv(&root, "select count(*), sum(total_cost) from spans").await, "4,0.020000000000");
    assert_eq!(data_files(&memory).await, 2 * files, "what was written in vain is deleted");
    // Those that rewrite different files do not meet.
    let (_, root) = support::memory();
    store(&root, [call(1, 0, "prod"), call(2, 0, "dev")]).await;
    let (mut one, mut other) = (table(&root).await, table(&root).await);
    let of = |name: &str| Selection { environment: Some(name.to_owned()), ..everything() };
    let first = prepare(&one, &of("prod"), &mut Dearer::new(2, 0), &options(), false).await.unwrap();
    let second = prepare(&other, &of("dev"), &mut Dearer::new(3, 0), &options(), false).await.unwrap();
    commit(&mut one, &first, &options()).await.unwrap();
    commit(&mut other, &second, &options()).await.unwrap();
    assert_eq!(csv(&root, "select count(*), sum(total_cost) from spans").await, "2,0.008000000000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_fail_and_answers_that_get_lost_commit_once() {
    for fault in [Fault::Commit, Fault::CommitAnswer] {
        let memory = Arc::new(InMemory::new());
        store(&support::root_over(memory.clone()), (1..=4).map(|n| call(n, 0, "prod"))).await;
        let faulty = Faulty::over(memory, fault, 1);
        let root = support::root_over(faulty.clone());
        recost(&root, &everything(), Dearer::new(2, 0)).await;
        assert_eq!(faulty.left(), 0, "{fault:?}: it must have happened");
        let all = "select count(*), sum(total_cost), count(previous_total_cost) from spans";
        assert_eq!(csv(&root, all).await, "4,0.020000000000,4", "{fault:?}");
    }
    // A store that takes no files, or no commit.
    for fault in [Fault::Commit, Fault::Data] {
        let memory = Arc::new(InMemory::new());
        let root = support::root_over(memory.clone());
        store(&root, (1..=4).map(|n| call(n, 0, "prod"))).await;
        let broken = support::root_over(Faulty::over(memory, fault, usize::MAX));
        let mut table = Delta::open(&broken, DEFAULT_PROJECT).await.unwrap();
        let options = Options { backoff: support::impatient(), ..options() };
        let error = match prepare(&table, &everything(), &mut Dearer::new(2, 0), &options, false).await {
            Ok(prepared) => commit(&mut table, &prepared, &options).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(!matches!(error, StoreError::Overtaken { .. }), "{fault:?}: {error}");
        assert_eq!(csv(&root, "select count(*), sum(total_cost) from spans").await, "4,0.010000000000", "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_history_says_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path().to_str().unwrap(), &Default::default()).unwrap();
    store(&root, [call(1, 0, "prod")]).await;
    let (_, version) = recost(&root, &everything(), Dearer::new(2, 0)).await;
    let log = directory.path().join(format!("projects/default/spans/_delta_log/{:020}.json", version.unwrap()));
    let text = std::fs::read_to_string(log).unwrap();
    let actions: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let info = &actions[0]["commitInfo"];
    assert_eq!(info["operation"], "RECOST");
    assert_eq!(info["operationParameters"], serde_json::json!({"catalog": "new", "changedRows": "1"}));
    let has = |action: &str| actions.iter().filter(|a| a.get(action).is_some()).count();
    assert_eq!((has("add"), has("remove"), has("txn"), actions.len()), (1, 1, 1, 4));
}
