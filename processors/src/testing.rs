//! What the processors' tests share: requests made by hand, and a processor run on them.

use std::sync::Arc;

use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::{FIXED64, put_bytes, put_tag, put_uint};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, ProcessorFactory};
use weir_pipeline::receipt::{Outcome, Receipt};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;

pub(crate) type Build = fn(&Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError>;

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum V {
    S(&'static str),
    I(i64),
    D(f64),
    B(bool),
    Y(Vec<u8>),
}

fn wrap(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, body);
    out
}

fn any(value: &V) -> Vec<u8> {
    let mut any = Vec::new();
    match value {
        V::S(text) => put_bytes(&mut any, 1, text.as_bytes()),
        V::B(value) => put_uint(&mut any, 2, u64::from(*value)),
        V::I(int) => put_uint(&mut any, 3, *int as u64),
        V::D(double) => {
            put_tag(&mut any, 4, FIXED64);
            any.extend_from_slice(&double.to_bits().to_le_bytes());
        }
        V::Y(bytes) => put_bytes(&mut any, 7, bytes),
    }
    any
}

/// Attributes as the field `number` of their message.
pub(crate) fn attributes(number: u32, attributes: &[(&str, V)]) -> Vec<u8> {
    let one = |(key, value): &(&str, V)| wrap(number, &[wrap(1, key.as_bytes()), wrap(2, &any(value))].concat());
    attributes.iter().flat_map(one).collect()
}

/// One span, log record or metric in a request of its own resource and scope.
fn contained(resource: &[(&str, V)], scope: (&str, &str), item: &[u8]) -> Vec<u8> {
    let scope = [wrap(1, scope.0.as_bytes()), wrap(2, scope.1.as_bytes())].concat();
    let resource = wrap(1, &attributes(1, resource));
    wrap(1, &[resource, wrap(2, &[wrap(1, &scope), wrap(2, item)].concat())].concat())
}

/// A span of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestSpan {
    pub(crate) name: &'static str,
    pub(crate) kind: u64,
    pub(crate) status: u64,
    pub(crate) trace_id: Vec<u8>,
    pub(crate) trace_state: String,
    pub(crate) attributes: Vec<(&'static str, V)>,
    pub(crate) events: Vec<(&'static str, Vec<(&'static str, V)>)>,
    pub(crate) resource: Vec<(&'static str, V)>,
    pub(crate) scope: (&'static str, &'static str),
}

impl TestSpan {
    pub(crate) fn named(name: &'static str, attributes: &[(&'static str, V)]) -> Self {
        Self { name, attributes: attributes.to_vec(), ..Self::default() }
    }

    pub(crate) fn of_service(mut self, service: &'static str) -> Self {
        self.resource.push(("service.name", V::S(service)));
        self
    }

    fn encode(&self) -> Vec<u8> {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &self.trace_id);
        if !self.trace_state.is_empty() {
            put_bytes(&mut span, 3, self.trace_state.as_bytes());
        }
        put_bytes(&mut span, 5, self.name.as_bytes());
        put_uint(&mut span, 6, self.kind);
        span.extend(attributes(9, &self.attributes));
        for (name, of_event) in &self.events {
            span.extend(wrap(11, &[wrap(2, name.as_bytes()), attributes(3, of_event)].concat()));
        }
        if self.status > 0 {
            let mut status = Vec::new();
            put_uint(&mut status, 3, self.status);
            put_bytes(&mut span, 15, &status);
        }
        contained(&self.resource, self.scope, &span)
    }
}

/// A request of these spans.
pub(crate) fn batch(spans: &[TestSpan]) -> Batch {
    let bytes: Vec<u8> = spans.iter().flat_map(TestSpan::encode).collect();
    Batch::decode(Signal::Traces, bytes.into()).unwrap()
}

/// A log record of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestRecord {
    pub(crate) severity: (u64, &'static str),
    pub(crate) body: Option<V>,
    pub(crate) trace_id: Vec<u8>,
    pub(crate) attributes: Vec<(&'static str, V)>,
    pub(crate) resource: Vec<(&'static str, V)>,
    pub(crate) scope: (&'static str, &'static str),
}

impl TestRecord {
    pub(crate) fn saying(body: &'static str, attributes: &[(&'static str, V)]) -> Self {
        Self { body: Some(V::S(body)), attributes: attributes.to_vec(), ..Self::default() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        put_uint(&mut record, 2, self.severity.0);
        put_bytes(&mut record, 3, self.severity.1.as_bytes());
        if let Some(body) = &self.body {
            put_bytes(&mut record, 5, &any(body));
        }
        record.extend(attributes(6, &self.attributes));
        put_bytes(&mut record, 9, &self.trace_id);
        contained(&self.resource, self.scope, &record)
    }
}

/// A request of these log records.
pub(crate) fn logs(records: &[TestRecord]) -> Batch {
    let bytes: Vec<u8> = records.iter().flat_map(TestRecord::encode).collect();
    Batch::decode(Signal::Logs, bytes.into()).unwrap()
}

/// The texts of the bodies, in order.
pub(crate) fn bodies(mut logs: Batch) -> Vec<String> {
    let mut bodies = Vec::new();
    logs.for_each_log_record_mut(|record| bodies.push(record.view().body().to_text().into_owned()));
    bodies
}

/// A metric of a request, with a data point for each list of attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestMetric {
    pub(crate) name: &'static str,
    /// The field number of its type: 5 gauge, 7 sum, 9 histogram, 10 exponential histogram, 11 summary.
    pub(crate) kind: u32,
    pub(crate) points: Vec<Vec<(&'static str, V)>>,
    pub(crate) resource: Vec<(&'static str, V)>,
}

impl TestMetric {
    fn encode(&self) -> Vec<u8> {
        let number = match self.kind {
            9 => 9,
            10 => 1,
            _ => 7,
        };
        let points: Vec<u8> = self.points.iter().flat_map(|point| wrap(1, &attributes(number, point))).collect();
        let metric = [wrap(1, self.name.as_bytes()), wrap(self.kind, &points)].concat();
        contained(&self.resource, ("", ""), &metric)
    }
}

/// A request of these metrics.
pub(crate) fn metrics(metrics: &[TestMetric]) -> Batch {
    let bytes: Vec<u8> = metrics.iter().flat_map(TestMetric::encode).collect();
    Batch::decode(Signal::Metrics, bytes.into()).unwrap()
}

/// The names of the metrics and the attributes of all their data points, in order.
pub(crate) fn points(mut metrics: Batch) -> Vec<(String, String)> {
    let mut points = Vec::new();
    metrics.for_each_metric_mut(|metric| {
        let name = metric.view().name().to_string();
        metric.for_each_data_point(|point| points.push((name.clone(), format!("{:?}", point.view()))));
    });
    points
}

/// A processor and what it counts.
pub(crate) struct Bench {
    pub(crate) telemetry: Telemetry,
    factory: Arc<dyn ProcessorFactory>,
}

impl Bench {
    /// A processor of a pipeline of traces.
    pub(crate) fn new(build: Build, yaml: &str) -> Self {
        Self::of(Signal::Traces, build, yaml)
    }

    /// A processor of a pipeline of this signal.
    pub(crate) fn of(signal: Signal, build: Build, yaml: &str) -> Self {
        let telemetry = Telemetry::default();
        let factory = built(build, yaml, &[signal], &telemetry).unwrap_or_else(|e| panic!("{e}"));
        Self { telemetry, factory }
    }

    pub(crate) fn factory(&self) -> &dyn ProcessorFactory {
        &*self.factory
    }

    /// Runs the processor on a batch and decodes again what it lets through. Checks that the counters add up and that
    /// the client hears that all is well.
    pub(crate) fn run(&self, batch: Batch) -> Batch {
        let (signal, before) =
            (batch.signal(), batch.len() as u64 + self.telemetry.sum("otelcol_processor_incoming_items"));
        let (receipt, waiter) = Receipt::pair();
        let batch = batch.with_receipt(receipt);
        let mut out = Vec::new();
        self.factory.create(0).process(batch, &mut |b| out.push(b));
        assert!(out.len() <= 1, "one batch becomes at most one");
        let result = out.first().map_or_else(
            || Batch::empty(signal),
            |b| Batch::decode(signal, b.encode()).expect("what comes out is valid"),
        );
        out.into_iter().for_each(|b| b.settle(&Outcome::Done));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(waiter), Outcome::Done);
        let sum = |name| self.telemetry.sum(name);
        assert_eq!(sum("otelcol_processor_incoming_items"), before);
        assert_eq!(
            sum("otelcol_processor_incoming_items"),
            sum("otelcol_processor_outgoing_items") + sum("weir_processor_dropped"),
            "every record ends in one counter"
        );
        result
    }

    /// The names of the spans that are let through.
    pub(crate) fn names(&self, spans: &[TestSpan]) -> Vec<String> {
        self.run(batch(spans)).spans().map(|s| s.name().to_string()).collect()
    }

    /// The count with these labels.
    pub(crate) fn count(&self, name: &str, label: &str) -> u64 {
        let found = self.telemetry.snapshot();
        found.iter().filter(|(k, _)| k.name == name && k.labels.iter().any(|(_, v)| v == label)).map(|(_, n)| n).sum()
    }
}

fn built(
    build: Build,
    yaml: &str,
    signals: &[Signal],
    telemetry: &Telemetry,
) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let node = Node::parse("weir.yaml", yaml)?;
    let context = Context::new("it", telemetry.clone(), Environment::with(|| 0, 1));
    build(&Section { node: &node, path: "processors::it", signals, context })
}

/// The error that a configuration is refused with, which no pipeline names.
pub(crate) fn refused(build: Build, yaml: &str) -> String {
    refused_by(&[], build, yaml)
}

/// The error that a configuration is refused with in pipelines of these signals.
pub(crate) fn refused_by(signals: &[Signal], build: Build, yaml: &str) -> String {
    built(build, yaml, signals, &Telemetry::default())
        .err()
        .map_or_else(|| panic!("accepted: {yaml}"), |e| e.to_string())
}
