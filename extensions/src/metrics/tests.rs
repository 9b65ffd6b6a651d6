use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::otlp::json::to_json;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Description, ExporterCounters, OfferCounters, Push, PushError, Telemetry, Temporality};

use super::since::Since;
use super::*;
use crate::http::testing::{ask, get};

fn settings(yaml: &str) -> Result<Settings, String> {
    settings_of(yaml, &[("service.name", Some("gate\"way"))])
}

fn settings_of(yaml: &str, resource: &[(&str, Option<&str>)]) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    let owned = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    let resource: BTreeMap<_, _> = resource.iter().map(owned).collect();
    Settings::parse(Some(&node), "service::telemetry::metrics", &resource, &open).map_err(|e| e.to_string())
}

/// Whatever is sent to nobody.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Push for Nowhere {
    async fn push(&self, _: Bytes) -> Result<(), PushError> {
        Err(PushError::Refused("nobody is there".to_owned()))
    }

    fn address(&self) -> String {
        "nowhere:1".to_owned()
    }
}

fn open(node: &Node, path: &str) -> Result<Arc<dyn Push>, ConfigError> {
    match node.text() {
        Some("nowhere") => Ok(Arc::new(Nowhere)),
        _ => Err(node.error(path, "is no place")),
    }
}

/// Takes all that is sent, as JSON.
#[derive(Debug)]
struct Taking(Mutex<mpsc::UnboundedSender<serde_json::Value>>);

#[async_trait]
impl Push for Taking {
    async fn push(&self, request: Bytes) -> Result<(), PushError> {
        let message = message_of(Signal::Metrics);
        let batch = Batch::decode(Signal::Metrics, request).map_err(|e| PushError::Refused(e.to_string()))?;
        assert!(!batch.is_empty());
        let json = serde_json::from_slice(&to_json(message, &batch.encode())).unwrap();
        self.0.lock().unwrap().send(json).map_err(|e| PushError::Refused(e.to_string()))
    }

    fn address(&self) -> String {
        "here:1".to_owned()
    }
}

fn host(telemetry: &Telemetry) -> Host {
    Host::new(telemetry.clone(), &Environment::system())
}

async fn serve(yaml: &str, telemetry: &Telemetry) -> String {
    let metrics = Metrics::start(&settings(yaml).unwrap(), &host(telemetry)).unwrap();
    let (status, text) = get(metrics.addresses()[0], "/metrics").await;
    assert_eq!(status, 200);
    metrics.stop().await;
    text
}

fn value<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[tokio::test]
async fn names_and_labels_are_spelt_as_the_reader_says() {
    let telemetry = Telemetry::default();
    let offer = OfferCounters::new(&telemetry, "otlp_http/a", Signal::Traces);
    let counters = ExporterCounters::new(&telemetry, "otlp_http/a", Signal::Traces);
    offer.begin(10);
    counters.take(10);
    offer.end(10);
    counters.succeed(7);
    counters.fail(2, "permanent_error");
    telemetry.counter("weir_cost", &[("model", "a\"b\\c\nd")]).add(1_234_500_000);
    telemetry.describe("weir_cost", Description::counter("Money.").unit("USD").divided_by(1_000_000_000));

    telemetry.counter("weir_cost_picousd", &[("model", "gpt")]).add(2_500_000_000_001);

    let old = serve("{address: '127.0.0.1:0'}", &telemetry).await;
    assert_eq!(value(&old, "otelcol_exporter_sent_spans{exporter=\"otlp_http/a\"}"), Some("7"));
    assert_eq!(value(&old, "weir_exporter_in_flight_spans{exporter=\"otlp_http/a\"}"), Some("1"));
    let difference = "weir_accounting_difference{exporter=\"otlp_http/a\",signal=\"traces\"}";
    assert_eq!(value(&old, difference), Some("0"));
    assert_eq!(value(&old, "weir_cost{model=\"a\\\"b\\\\c\\nd\"}"), Some("1.2345"));
    assert_eq!(value(&old, "weir_cost_usd{model=\"gpt\"}"), Some("2.500000000001"));
    let info = format!("target_info{{service_name=\"gate\\\"way\",service_version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&old, &info), Some("1"));
    assert!(old.contains("# TYPE otelcol_exporter_sent_spans counter\n"), "{old}");
    assert!(old.contains("# TYPE weir_exporter_in_flight_spans gauge\n"), "{old}");
    assert!(old.contains("# HELP otelcol_exporter_sent_spans Records that the destination took.\n"), "{old}");
    assert!(value(&old, "otelcol_process_uptime").unwrap().parse::<f64>().unwrap() >= 0.0);
    assert!(value(&old, "otelcol_process_cpu_seconds").unwrap().parse::<f64>().unwrap() > 0.0);
    assert!(value(&old, "otelcol_process_memory_rss").unwrap().parse::<u64>().unwrap() > 1 << 20);
    assert!(!old.contains("weir_exporter_offered"), "only shown at the level detailed");

    let plain = "{level: detailed, readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]}";
    let plain = serve(plain, &telemetry).await;
    assert_eq!(value(&plain, "otelcol_exporter_sent_spans{exporter=\"otlp_http/a\"}"), Some("7"));
    let written = "{level: detailed, readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0, \
                   without_type_suffix: false, without_units: false, without_scope_info: false}}}}]}";
    let written = serve(written, &telemetry).await;
    let scope = format!("otel_scope_name=\"weir\",otel_scope_version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let sent = format!("otelcol_exporter_sent_spans_total{{exporter=\"otlp_http/a\",{scope}}}");
    assert_eq!(value(&written, &sent), Some("7"));
    assert!(written.contains("# TYPE weir_cost_usd_total counter\n"), "{written}");
    assert!(written.contains("\notelcol_process_cpu_seconds_total{"), "{written}");
    assert!(written.contains("\notelcol_process_uptime_seconds_total{"), "{written}");
    assert!(written.contains("\notelcol_process_memory_rss_bytes{"), "{written}");
    assert!(written.contains("\nweir_exporter_offered_spans_total{"), "{written}");
}

#[tokio::test]
async fn no_level_no_page_and_other_paths_are_refused() {
    let telemetry = Telemetry::default();
    let off = settings("{level: none, address: '127.0.0.1:0'}").unwrap();
    assert!(Metrics::start(&off, &host(&telemetry)).unwrap().addresses().is_empty());
    let on = Metrics::start(&settings("{address: '127.0.0.1:0'}").unwrap(), &host(&telemetry)).unwrap();
    assert_eq!(get(on.addresses()[0], "/other").await, (404, "the metrics are at /metrics\n".to_owned()));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_where_it_was_asked_for() {
    let telemetry = Telemetry::default();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = settings(&format!("{{address: '{address}'}}")).unwrap();
    let error = Metrics::start(&settings, &host(&telemetry)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("service::telemetry::metrics: {address} is already in use; change the reader's host and port")
    );
    settings.readers[0].is_default = true;
    assert!(Metrics::start(&settings, &host(&telemetry)).unwrap().addresses().is_empty());
}

#[test]
fn settings_are_those_of_the_collector() {
    let default = Settings::parse(None, "", &BTreeMap::new(), &open).unwrap();
    assert_eq!((default.level, default.readers.len()), (Level::Normal, 1));
    assert!(default.readers[0].is_default);
    assert_eq!(default.readers[0].endpoint.to_string(), "localhost:8888");
    assert!(settings("{level: none, readers: []}").unwrap().readers.is_empty());
    assert_eq!(settings("{level: Normal}").unwrap().level, Level::Normal);
    for (yaml, error) in [
        ("{adress: x}", "weir.yaml:1:2: service::telemetry::metrics: unknown key `adress`: did you mean `address`?"),
        ("{address: 'x'}", "weir.yaml:1:11: service::telemetry::metrics::address: \"x\" is not `host:port`"),
        ("{readers: []}", "weir.yaml:1:11: service::telemetry::metrics::readers: collector telemetry metrics reader"),
        ("{level: some}", "weir.yaml:1:9: service::telemetry::metrics::level: "),
        ("{address: ':1', readers: []}", "weir.yaml:1:11: service::telemetry::metrics::address: is for configurations"),
        (
            "{readers: [{periodic: {}}]}",
            "weir.yaml:1:23: service::telemetry::metrics::readers[0]::periodic: missing key `exporter`",
        ),
        (
            "{readers: [{periodic: {exporter: {console: {}}}}]}",
            "weir.yaml:1:35: service::telemetry::metrics::readers[0]::periodic::exporter: unknown key `console`: Weir's own metrics go to",
        ),
        (
            "{readers: [{periodic: {interval: 0, exporter: {otlp: nowhere}}}]}",
            "weir.yaml:1:34: service::telemetry::metrics::readers[0]::periodic::interval: must be positive: milliseconds",
        ),
        (
            "{readers: [{periodic: {interval: 10s, exporter: {otlp: nowhere}}}]}",
            "weir.yaml:1:34: service::telemetry::metrics::readers[0]::periodic::interval: ",
        ),
        (
            "{readers: [{periodic: {exporter: {otlp: {}}}}]}",
            "weir.yaml:1:41: service::telemetry::metrics::readers[0]::periodic::exporter::otlp: is no place",
        ),
        (
            "{readers: [{}]}",
            "weir.yaml:1:12: service::telemetry::metrics::readers[0]: is neither `pull` nor `periodic`",
        ),
        (
            "{readers: [{periodic: {exporter: {otlp: nowhere}}, pull: {exporter: {prometheus: }}}]}",
            "weir.yaml:1:12: service::telemetry::metrics::readers[0]: is both `pull` and `periodic`: make them two",
        ),
        (
            "{readers: [{pull: {exporter: {prometheus: {port: x}}}}]}",
            "weir.yaml:1:50: service::telemetry::metrics::readers[0]::pull::exporter::prometheus::port: ",
        ),
    ] {
        let refused = settings(yaml).unwrap_err();
        assert!(refused.starts_with(error), "{refused}");
    }
}

proptest! {
    #[test]
    fn a_quotient_keeps_every_digit(value: u64, digits in 0u32..19) {
        let text = text::quotient(value, 10u64.pow(digits));
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let padded = format!("{whole}{fraction:0<width$}", width = digits as usize);
        prop_assert_eq!(padded.parse::<u128>().unwrap(), u128::from(value));
        prop_assert!(!fraction.ends_with('0'));
    }
}

#[tokio::test]
async fn a_reload_is_asked_for_by_this_machine_alone() {
    let telemetry = Telemetry::default();
    let host = host(&telemetry);
    let metrics = Metrics::start(&settings("{address: '127.0.0.1:0'}").unwrap(), &host).unwrap();
    let to = metrics.addresses()[0];
    let post = async |headers: &[(&str, &str)]| {
        let (status, body) = ask("POST", to, "/-/reload", headers).await;
        (status, String::from_utf8(body.into()).unwrap())
    };
    assert_eq!(post(&[]).await, (400, "the process is starting or stopping\n".to_owned()));
    let mut reloads = host.serve_reloads();
    let server = tokio::spawn(async move {
        for answer in [Ok(()), Err("weir.yaml:1:1: no".to_owned())] {
            reloads.recv().await.unwrap().send(answer).unwrap();
        }
    });
    assert_eq!(post(&[]).await.0, 200);
    assert_eq!(post(&[]).await, (400, "weir.yaml:1:1: no\n".to_owned()));
    server.await.unwrap();
    assert_eq!(post(&[("origin", "http://evil.example")]).await.0, 403);
    assert_eq!(get(to, "/-/reload").await.0, 405);
}

/// A server may have sent an exporter on to here.
#[tokio::test]
async fn telemetry_that_strays_to_the_reload_changes_nothing() {
    let telemetry = Telemetry::default();
    let host = host(&telemetry);
    let metrics = Metrics::start(&settings("{address: '127.0.0.1:0'}").unwrap(), &host).unwrap();
    let to = metrics.addresses()[0];
    let mut reloads = host.serve_reloads();
    for head in [
        "content-type: application/x-protobuf\r\n\r\n",
        "content-type: Application/JSON; charset=utf-8\r\ncontent-length: 0\r\n\r\n",
        "content-type: application/grpc+proto\r\n\r\n",
        "content-length: 3\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let request = format!("POST /-/reload HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 415", "{head}");
        assert!(reloads.try_recv().is_err(), "{head}");
    }
    // As a form without anything in it, which `curl -d ''` sends.
    let asked = tokio::spawn(async move { reloads.recv().await.unwrap().send(Ok(())) });
    let form = [("content-type", "application/x-www-form-urlencoded"), ("content-length", "0")];
    assert_eq!(ask("POST", to, "/-/reload", &form).await.0, 200);
    asked.await.unwrap().unwrap();
}

#[tokio::test]
async fn pages_are_replaced_on_the_same_port() {
    let telemetry = Telemetry::default();
    let host = host(&telemetry);
    let first = Metrics::start(&settings("{address: '127.0.0.1:0'}").unwrap(), &host).unwrap();
    let to = first.addresses()[0];
    let fixed = settings(&format!("{{level: detailed, address: '{to}'}}")).unwrap();
    assert!(Metrics::start(&fixed, &host).is_err(), "it is in use");
    let second = first.restart(&fixed, &host).unwrap();
    first.stop().await;
    assert_eq!((second.addresses()[0], get(to, "/metrics").await.0), (to, 200));
    second.stop().await;
    assert!(tokio::net::TcpStream::connect(to).await.is_err());
}

/// What a metric of a request says, by its name.
fn metric<'j>(request: &'j serde_json::Value, name: &str) -> &'j serde_json::Value {
    let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("no {name} in {request}"))
}

fn attribute<'j>(attributes: &'j serde_json::Value, key: &str) -> Option<&'j str> {
    let pair = attributes.as_array()?.iter().find(|pair| pair["key"] == key)?;
    pair["value"]["stringValue"].as_str()
}

#[tokio::test]
async fn metrics_are_sent_at_intervals_and_once_more_at_the_end() {
    let telemetry = Telemetry::default();
    let offer = OfferCounters::new(&telemetry, "otlp_http/a", Signal::Traces);
    let counters = ExporterCounters::new(&telemetry, "otlp_http/a", Signal::Traces);
    offer.begin(11);
    counters.take(10);
    offer.end(11);
    counters.succeed(7);
    telemetry.counter("weir_cost_picousd", &[("model", "gpt")]).add(2_500_000_000_000);
    let mut settings =
        settings("{level: basic, readers: [{periodic: {interval: 1, exporter: {otlp: nowhere}}}]}").unwrap();
    assert!(settings.readers.is_empty(), "nobody asked for a page");
    let (sender, mut taken) = mpsc::unbounded_channel();
    settings.periodic[0].push = Arc::new(Taking(Mutex::new(sender)));
    let metrics = Metrics::start(&settings, &host(&telemetry)).unwrap();
    assert_eq!(metrics.destinations().collect::<Vec<_>>(), ["here:1"]);
    let first = taken.recv().await.unwrap();
    let resource = &first["resourceMetrics"][0]["resource"]["attributes"];
    assert_eq!(attribute(resource, "service.name"), Some("gate\"way"));
    let instance = attribute(resource, "service.instance.id").unwrap().to_owned();
    assert!(instance.len() == 36 && instance.as_bytes()[14] == b'4', "{instance}");
    assert_eq!(first["resourceMetrics"][0]["scopeMetrics"][0]["scope"]["name"], "weir");

    let sent = metric(&first, "otelcol_exporter_sent_spans");
    assert_eq!(
        (&sent["unit"], &sent["description"]),
        (&"{spans}".into(), &"Records that the destination took.".into())
    );
    assert_eq!((&sent["sum"]["isMonotonic"], &sent["sum"]["aggregationTemporality"]), (&true.into(), &2.into()));
    let point = &sent["sum"]["dataPoints"][0];
    assert_eq!((&point["asInt"], attribute(&point["attributes"], "exporter")), (&"7".into(), Some("otlp_http/a")));
    let nanos = |key: &str| point[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(0 < nanos("startTimeUnixNano") && nanos("startTimeUnixNano") <= nanos("timeUnixNano"));
    let in_flight = metric(&first, "weir_exporter_in_flight_spans");
    assert_eq!(in_flight["gauge"]["dataPoints"][0]["asInt"], "3");
    assert_eq!(metric(&first, "weir_cost_usd")["sum"]["dataPoints"][0]["asDouble"], 2.5);
    let difference = &metric(&first, "weir_accounting_difference")["gauge"]["dataPoints"][0];
    assert_eq!((&difference["asInt"], attribute(&difference["attributes"], "signal")), (&"1".into(), Some("traces")));
    assert!(metric(&first, "otelcol_process_uptime")["sum"]["dataPoints"][0]["asDouble"].is_number());

    taken.recv().await.unwrap();
    let next = metrics.restart(&settings, &host(&telemetry)).unwrap();
    metrics.stop().await;
    counters.succeed(3);
    next.stop().await;
    drop((metrics, next, settings));
    let mut last = None;
    while let Some(request) = taken.recv().await {
        last = Some(request);
    }
    let last = last.unwrap();
    assert_eq!(metric(&last, "otelcol_exporter_sent_spans")["sum"]["dataPoints"][0]["asInt"], "10");
    let resource = &last["resourceMetrics"][0]["resource"]["attributes"];
    assert_eq!(attribute(resource, "service.instance.id"), Some(&*instance), "the process is the same");
}

/// Of three requests it refuses one and takes one in part.
#[derive(Debug)]
struct Fickle {
    temporality: Temporality,
    taken: mpsc::UnboundedSender<Option<serde_json::Value>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Push for Fickle {
    async fn push(&self, request: Bytes) -> Result<(), PushError> {
        let batch = Batch::decode(Signal::Metrics, request).unwrap();
        let json = serde_json::from_slice(&to_json(message_of(Signal::Metrics), &batch.encode())).unwrap();
        let (json, result) = match self.asked.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => (None, Err(PushError::Refused("not now".to_owned()))),
            1 => (Some(json), Err(PushError::Partly("one was odd".to_owned()))),
            _ => (Some(json), Ok(())),
        };
        self.taken.send(json).unwrap();
        result
    }

    fn address(&self) -> String {
        "fickle:1".to_owned()
    }

    fn temporality(&self) -> Temporality {
        self.temporality
    }
}

#[tokio::test]
async fn delta_sums_add_up_whatever_is_refused_and_reloaded() {
    let telemetry = Telemetry::default();
    let host = host(&telemetry);
    let counters = ExporterCounters::new(&telemetry, "a", Signal::Traces);
    let mut settings =
        settings("{level: basic, readers: [{periodic: {interval: 1, exporter: {otlp: nowhere}}}]}").unwrap();
    let (sender, mut taken) = mpsc::unbounded_channel();
    let fickle = |temporality| Fickle { temporality, taken: sender.clone(), asked: AtomicUsize::new(0) };
    settings.periodic[0].push = Arc::new(fickle(Temporality::Delta));
    counters.take(5);
    counters.succeed(5);
    let mut metrics = Metrics::start(&settings, &host).unwrap();
    let (mut told, mut until) = (0, 0);
    let mut take = |request: Option<serde_json::Value>| {
        let Some(request) = request else { return told };
        let uptime = &metric(&request, "otelcol_process_uptime")["sum"];
        assert_eq!(uptime["aggregationTemporality"], 1);
        let nanos = |key: &str| uptime["dataPoints"][0][key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(until == 0 || nanos("startTimeUnixNano") == until, "they follow each other without a gap");
        until = nanos("timeUnixNano");
        let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        for sent in metrics.iter().filter(|metric| metric["name"] == "otelcol_exporter_sent_spans") {
            assert_eq!(sent["sum"]["aggregationTemporality"], 1);
            told += sent["sum"]["dataPoints"][0]["asInt"].as_str().unwrap().parse::<u64>().unwrap();
        }
        told
    };
    for n in 0..40 {
        counters.take(1);
        counters.succeed(1);
        take(taken.recv().await.unwrap());
        if n % 10 == 9 {
            let next = metrics.restart(&settings, &host).unwrap();
            metrics.stop().await;
            metrics = next;
        }
    }
    // Until the last numbers are taken.
    loop {
        metrics.stop().await;
        while let Ok(request) = taken.try_recv() {
            take(request);
        }
        let next = metrics.restart(&settings, &host).unwrap();
        metrics = next;
        if take(taken.recv().await.unwrap()) == 45 {
            break;
        }
    }
    metrics.stop().await;
}

#[test]
fn of_low_memory_nothing_is_remembered_that_is_read_when_it_is_sent() {
    let telemetry = Telemetry::default();
    let host = host(&telemetry);
    telemetry.counter("weir_a", &[("k", "v")]).add(3);
    telemetry.counter("weir_b", &[]).add(1);
    let mut since = Since::start(1);
    let mut request = |temporality| {
        let extract = otlp::Extract {
            level: Level::Detailed,
            started_unix_nanos: 1,
            now_unix_nanos: 9,
            temporality,
            since: &since,
        };
        let collected = Collected::now(&host, Level::Detailed);
        let request = otlp::request(&collected, &BTreeMap::new(), extract);
        collected.be_known_to(&mut since, 9);
        let json: serde_json::Value = serde_json::from_slice(&to_json(message_of(Signal::Metrics), &request)).unwrap();
        let metrics = json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap().clone();
        let sums = metrics.into_iter().filter(|metric| metric["sum"].is_object()).map(|metric| {
            let point = &metric["sum"]["dataPoints"][0];
            let value = point["asInt"].as_str().map(str::to_owned);
            (metric["name"].as_str().unwrap().to_owned(), metric["sum"]["aggregationTemporality"].as_u64(), value)
        });
        let process = |name: &str| name.starts_with("otelcol_process");
        sums.map(|(name, temporality, value)| (name.clone(), temporality, value.filter(|_| !process(&name)))).collect()
    };
    let sum =
        |name: &str, temporality, value: Option<&str>| (name.to_owned(), Some(temporality), value.map(str::to_owned));
    let process = [sum("otelcol_process_uptime", 2, None), sum("otelcol_process_cpu_seconds", 2, None)];
    let first: Vec<_> = request(Temporality::LowMemory);
    assert_eq!(first, [&[sum("weir_a", 1, Some("3")), sum("weir_b", 1, Some("1"))], &process[..]].concat());
    telemetry.counter("weir_a", &[("k", "v")]).add(2);
    let second = request(Temporality::LowMemory);
    assert_eq!(second, [&[sum("weir_a", 1, Some("2"))], &process[..]].concat(), "what did not change is not told");
    telemetry.forget("k", "v");
    assert_eq!(request(Temporality::LowMemory), process);
    telemetry.counter("weir_a", &[("k", "v")]).add(4);
    let again = request(Temporality::LowMemory);
    assert_eq!(again, [&[sum("weir_a", 1, Some("4"))], &process[..]].concat(), "it began again");
}

#[tokio::test]
async fn what_nobody_takes_holds_nothing_up() {
    let settings = settings("{readers: [{periodic: {interval: 1, exporter: {otlp: nowhere}}}]}").unwrap();
    let metrics = Metrics::start(&settings, &host(&Telemetry::default())).unwrap();
    metrics.stop().await;
    // At the level none, nothing is sent at all.
    let off = settings_of("{level: none, readers: [{periodic: {exporter: {otlp: nowhere}}}]}", &[]).unwrap();
    assert_eq!(Metrics::start(&off, &host(&Telemetry::default())).unwrap().destinations().count(), 0);
}

#[test]
fn readers_are_the_same_if_they_are_written_the_same() {
    let yaml = "{readers: [{periodic: {interval: 1000, exporter: {otlp: nowhere}}}]}";
    assert_eq!(settings(yaml), settings(yaml));
    assert_ne!(settings(yaml), settings(&yaml.replace("1000", "2000")));
    let own = [("service.instance.id", Some("a"))];
    let (made_up, own) = (settings_of(yaml, &[]).unwrap(), settings_of(yaml, &own).unwrap());
    assert!(made_up.has_instance_id && !own.has_instance_id);
    assert_eq!(own.resource["service.instance.id"], "a");
    assert!(!settings_of(yaml, &[("service.instance.id", None)]).unwrap().has_instance_id);
}
