//! Cutting a batch in two: between spans, log records or data points, wherever those are.
//!
//! Spans only change which of them are alive in each part. Metrics and logs have no index and are written anew, with the
//! messages around a cut, the resource, the scope and a metric's name and unit, in both parts.

use super::wire::{Fields, LEN, put_bytes};
use super::{Alive, Batch, Chunk};
use crate::signal::Signal;

/// Fields that lead from a request of logs to its records: resource, scope, record.
const LOG_PATH: &[&[u32]] = &[&[1], &[2], &[2]];

/// The same for metrics: resource, scope, metric, its data of whatever kind, data point.
const METRIC_PATH: &[&[u32]] = &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]];

/// How many times the bytes of a batch its parts may have in addition.
const MAX_GROWTH: usize = 8;

impl Batch {
    /// Splits off the records after the first `at` ones; both parts hold branches of the receipts and the leases.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut rest = self.fork();
        rest.chunks.clear();
        let mut left = at;
        let mut kept = 0;
        while let Some(chunk) = self.chunks.get_mut(kept)
            && left > 0
        {
            kept += 1;
            if chunk.records > left {
                rest.chunks.push(chunk.split_off(self.signal, left));
            }
            left = left.saturating_sub(chunk.records);
        }
        rest.chunks.extend(self.chunks.drain(kept..));
        rest
    }

    /// The batch in parts of at most `max` records each, in order; as it is if `max` is 0.
    ///
    /// What is around a cut is in both parts, and in metrics and logs it is copied. Where that is most of the data, the
    /// parts stay larger: all of them together have no more than [`MAX_GROWTH`] times the bytes.
    pub fn split_into(self, max: usize, out: &mut dyn FnMut(Self)) {
        let mut room = self.size_hint().saturating_mul(MAX_GROWTH);
        self.split_within(max, &mut room, out);
    }

    fn split_within(mut self, max: usize, room: &mut usize, out: &mut dyn FnMut(Self)) {
        let (len, bytes) = (self.len(), self.size_hint());
        let copies = self.signal() != Signal::Traces;
        if max == 0 || len <= max || copies && *room == 0 {
            return out(self);
        }
        // In the middle, so that nothing is written anew more often than the logarithm of the number of parts says.
        let rest = self.split_off(len.div_ceil(max) / 2 * max);
        if copies {
            *room = room.saturating_sub((self.size_hint() + rest.size_hint()).saturating_sub(bytes));
        }
        self.split_within(max, room, out);
        rest.split_within(max, room, out);
    }
}

impl Chunk {
    /// Splits off the records after the first `at` ones, of which there are more.
    fn split_off(&mut self, signal: Signal, at: usize) -> Self {
        let mut tail = self.clone();
        (self.records, tail.records) = (at, self.records - at);
        if self.index.is_some() {
            let alive: Vec<usize> = self.alive.ones().collect();
            let (first, second) = alive.split_at(at.min(alive.len()));
            first.iter().for_each(|id| tail.alive.clear(*id));
            second.iter().for_each(|id| self.alive.clear(*id));
            return tail;
        }
        let mut left = at;
        let (first, second) = split(&self.bytes, path(signal), &mut left);
        for (chunk, bytes) in [(self, first), (&mut tail, second)] {
            (chunk.bytes, chunk.alive) = (bytes.into(), Alive::all(chunk.records));
        }
        tail
    }
}

/// Data points or log records of a request.
pub(super) fn count_records(signal: Signal, request: &[u8]) -> usize {
    count(request, path(signal))
}

/// Fields that lead from a request to its records. Spans have an index and need none.
fn path(signal: Signal) -> &'static [&'static [u32]] {
    match signal {
        Signal::Metrics => METRIC_PATH,
        Signal::Traces | Signal::Logs => LOG_PATH,
    }
}

/// Cuts a message behind the `left`-th record that `path` leads to. Fields off the path, such as the resource, go to both
/// sides; a message without records, such as a metric without data, to the side that is reached.
fn split(message: &[u8], path: &[&[u32]], left: &mut usize) -> (Vec<u8>, Vec<u8>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let Some((numbers, below)) = path.split_first() else { return (first, second) };
    for field in Fields::new(message) {
        let raw = message.get(field.start..field.end).unwrap_or_default();
        if !numbers.contains(&field.number) || field.wire_type != LEN {
            first.extend_from_slice(raw);
            second.extend_from_slice(raw);
            continue;
        }
        if *left == 0 {
            second.extend_from_slice(raw);
            continue;
        }
        let records = count(field.bytes, below);
        if records > *left {
            let (a, b) = split(field.bytes, below, left);
            put_bytes(&mut first, field.number, &a);
            put_bytes(&mut second, field.number, &b);
        } else {
            first.extend_from_slice(raw);
            *left -= records;
        }
    }
    (first, second)
}

/// Records that `path` leads to.
fn count(message: &[u8], path: &[&[u32]]) -> usize {
    let Some((numbers, below)) = path.split_first() else { return 1 };
    let inner = Fields::new(message).filter(|field| numbers.contains(&field.number));
    inner.map(|field| count(field.bytes, below)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::metadata::Metadata;
    use crate::receipt::{Outcome, Receipt};

    fn resource() -> Option<Resource> {
        Some(Resource { dropped_attributes_count: 7, ..Resource::default() })
    }

    /// Log records numbered by their time, spread over resources and scopes as `shape` says.
    fn logs(shape: &[Vec<usize>]) -> ExportLogsServiceRequest {
        let mut next = 0;
        let mut scope = |records: &usize| {
            let log_records = (0..*records).map(|_| {
                next += 1;
                LogRecord { time_unix_nano: next, ..LogRecord::default() }
            });
            ScopeLogs { log_records: log_records.collect(), schema_url: "s".to_owned(), ..ScopeLogs::default() }
        };
        let resource_logs = shape.iter().map(|scopes| ResourceLogs {
            resource: resource(),
            scope_logs: scopes.iter().map(&mut scope).collect(),
            ..ResourceLogs::default()
        });
        ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
    }

    fn log_times(batch: &Batch) -> Vec<u64> {
        let request = ExportLogsServiceRequest::decode(batch.encode()).unwrap();
        let resources = request.resource_logs.iter().inspect(|r| assert_eq!(r.resource, resource()));
        let scopes = resources.flat_map(|r| &r.scope_logs).inspect(|s| assert_eq!(s.schema_url, "s"));
        scopes.flat_map(|s| &s.log_records).map(|r| r.time_unix_nano).collect()
    }

    /// Data points numbered by their time, of several kinds of metrics.
    fn metrics(shape: &[Vec<Vec<usize>>]) -> ExportMetricsServiceRequest {
        let mut next = 0;
        let mut metric = |points: &usize| {
            let mut times = (0..*points).map(|_| {
                next += 1;
                next
            });
            let number = |time_unix_nano| NumberDataPoint { time_unix_nano, ..NumberDataPoint::default() };
            let data = match points % 3 {
                0 => Data::Gauge(Gauge { data_points: times.by_ref().map(number).collect() }),
                1 => Data::Sum(Sum {
                    data_points: times.by_ref().map(number).collect(),
                    aggregation_temporality: 2,
                    is_monotonic: true,
                }),
                _ => Data::Histogram(Histogram {
                    data_points: times
                        .by_ref()
                        .map(|time_unix_nano| HistogramDataPoint { time_unix_nano, ..HistogramDataPoint::default() })
                        .collect(),
                    aggregation_temporality: 1,
                }),
            };
            Metric { name: format!("m{points}"), unit: "1".to_owned(), data: Some(data), ..Metric::default() }
        };
        let resource_metrics = shape.iter().map(|scopes| ResourceMetrics {
            resource: resource(),
            scope_metrics: scopes
                .iter()
                .map(|points| ScopeMetrics {
                    metrics: points.iter().map(&mut metric).collect(),
                    schema_url: "s".to_owned(),
                    ..ScopeMetrics::default()
                })
                .collect(),
            ..ResourceMetrics::default()
        });
        ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() }
    }

    fn point_times(batch: &Batch) -> Vec<u64> {
        let request = ExportMetricsServiceRequest::decode(batch.encode()).unwrap();
        let resources = request.resource_metrics.iter().inspect(|r| assert_eq!(r.resource, resource()));
        let scopes = resources.flat_map(|r| &r.scope_metrics).inspect(|s| assert_eq!(s.schema_url, "s"));
        let metrics = scopes.flat_map(|s| &s.metrics).inspect(|m| assert_eq!(m.unit, "1"));
        metrics
            .flat_map(|m| match m.data.as_ref().unwrap() {
                Data::Gauge(data) => data.data_points.iter().map(|p| p.time_unix_nano).collect::<Vec<_>>(),
                Data::Sum(data) => {
                    assert!(data.is_monotonic && data.aggregation_temporality == 2);
                    data.data_points.iter().map(|p| p.time_unix_nano).collect()
                }
                Data::Histogram(data) => {
                    assert_eq!(data.aggregation_temporality, 1);
                    data.data_points.iter().map(|p| p.time_unix_nano).collect()
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn decode(signal: Signal, message: &impl Message) -> Batch {
        Batch::decode(signal, message.encode_to_vec().into()).unwrap()
    }

    /// Cuts the batch and puts it together again, in two ways.
    fn check(signal: Signal, bytes: &[u8], at: usize, max: usize, times: fn(&Batch) -> Vec<u64>) {
        let whole = || {
            let mut whole = Batch::decode(signal, bytes.to_vec().into()).unwrap();
            // A second request, which must not be touched by a cut in the first one.
            whole.append(Batch::decode(signal, bytes.to_vec().into()).unwrap());
            whole
        };
        let all = times(&whole());
        let mut first = whole();
        let second = first.split_off(at);
        assert_eq!((first.len(), second.len()), (at.min(all.len()), all.len().saturating_sub(at)));
        assert_eq!([times(&first), times(&second)].concat(), all);
        for part in [&first, &second] {
            assert_eq!(Batch::decode(signal, part.encode()).unwrap().len(), part.len());
        }

        let mut parts = Vec::new();
        whole().split_into(max, &mut |part| parts.push(part));
        assert_eq!(parts.iter().flat_map(times).collect::<Vec<_>>(), all);
        if let Some((last, full)) = parts.split_last() {
            assert!(full.iter().all(|part| max > 0 && part.len() == max));
            assert!(max == 0 || last.len() <= max);
        }
    }

    proptest! {
        #[test]
        fn logs_are_cut_anywhere_and_none_is_lost(shape in vec(vec(0..5_usize, 0..4), 0..5), at in 0..60_usize, max in 0..9_usize) {
            check(Signal::Logs, &logs(&shape).encode_to_vec(), at, max, log_times);
        }

        #[test]
        fn metrics_are_cut_between_data_points(
            shape in vec(vec(vec(0..6_usize, 0..3), 0..3), 0..4), at in 0..60_usize, max in 0..9_usize,
        ) {
            check(Signal::Metrics, &metrics(&shape).encode_to_vec(), at, max, point_times);
        }
    }

    #[test]
    fn what_holds_no_records_is_kept_once() {
        let request = metrics(&[vec![vec![0, 3, 0], vec![]], vec![]]);
        for at in 0..3 {
            let mut first = decode(Signal::Metrics, &request);
            let rest = first.split_off(at);
            let read = |batch: &Batch| ExportMetricsServiceRequest::decode(batch.encode()).unwrap();
            let names = |batch: &Batch| {
                let resources = read(batch).resource_metrics.into_iter();
                let metrics = resources.flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics);
                metrics.map(|m| m.name).filter(|name| name == "m0").count()
            };
            assert_eq!(names(&first) + names(&rest), 2, "{at}");
            let resources = read(&first).resource_metrics.len() + read(&rest).resource_metrics.len();
            assert_eq!(resources, if at == 0 { 2 } else { 3 }, "{at}");
        }
    }

    #[test]
    fn what_is_around_the_records_is_not_copied_without_end() {
        let mut request = logs(&[vec![10_000]]);
        request.resource_logs[0].schema_url = "s".repeat(1 << 20);
        let whole = decode(Signal::Logs, &request);
        let bytes = whole.size_hint();
        let (mut parts, mut sum, mut records) = (0, 0, 0);
        whole.split_into(10, &mut |part| {
            (parts, sum, records) = (parts + 1, sum + part.size_hint(), records + part.len());
        });
        assert_eq!(records, 10_000);
        assert!(parts > 5 && sum <= (MAX_GROWTH + 2) * bytes, "{parts} {sum}");
    }

    #[tokio::test]
    async fn all_parts_have_the_receipts_and_the_metadata() {
        let (receipt, waiter) = Receipt::pair();
        let metadata = Arc::new(Metadata::new([("x-tenant", "acme")]));
        let whole = decode(Signal::Logs, &logs(&[vec![3]])).with_receipt(receipt).with_metadata(metadata);
        let mut parts = Vec::new();
        whole.split_into(1, &mut |part| parts.push(part));
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|b| b.metadata().unwrap().first("x-tenant") == Some("acme")));
        let last = parts.pop().unwrap();
        parts.into_iter().for_each(|part| part.settle(&Outcome::Done));
        last.settle(&Outcome::Rejected("no".into()));
        assert_eq!(waiter.await, Outcome::Rejected("no".into()));
    }
}
