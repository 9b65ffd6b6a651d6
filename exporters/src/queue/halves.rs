//! Cutting a batch in two.

use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::{Fields, LEN, put_bytes};
use weir_pipeline::signal::Signal;

/// Where the records of every request are: resources in the request, scopes in those, records (or metrics) in these.
const PATH: [u32; 3] = [1, 2, 2];

/// Two batches with about as many records each, or the batch itself if it cannot be cut: a metric is not, however many
/// data points it has. Both share receipts and leases.
pub(super) fn halves(batch: Batch) -> Result<(Batch, Batch), Batch> {
    let at = batch.len() / 2;
    cut(batch, at)
}

/// The first `at` records, and the others; for metrics about as many, since a metric is not cut.
pub(super) fn cut(mut batch: Batch, at: usize) -> Result<(Batch, Batch), Batch> {
    if at == 0 || at >= batch.len() {
        return Err(batch);
    }
    let signal = batch.signal();
    if signal == Signal::Traces {
        let rest = batch.split_off(at);
        return Ok((batch, rest));
    }
    let mut left = at;
    let (first, second) = split(&batch.encode(), 0, signal, &mut left);
    if first.records == 0 || second.records == 0 {
        return Err(batch);
    }
    let decoded = (Batch::decode(signal, first.bytes.into()), Batch::decode(signal, second.bytes.into()));
    let (Ok(first), Ok(second)) = decoded else { return Err(batch) };
    let metadata = batch.metadata().cloned();
    let receipts = batch.take_receipts();
    // Nothing but the leases and the metadata of the batch.
    let mut halves = [batch.split_off(usize::MAX), batch.split_off(usize::MAX)];
    for (half, data) in halves.iter_mut().zip([first, second]) {
        half.append(data);
        let mut whole = std::mem::replace(half, Batch::empty(signal));
        for receipt in &receipts {
            whole = whole.with_receipt(receipt.branch());
        }
        *half = match &metadata {
            Some(metadata) => whole.with_metadata(metadata.clone()),
            None => whole,
        };
    }
    // The branches of the halves take their place.
    for receipt in receipts {
        receipt.settle(weir_pipeline::receipt::Outcome::Done);
    }
    let [first, second] = halves;
    Ok((first, second))
}

/// One side of a cut message.
#[derive(Default)]
struct Side {
    bytes: Vec<u8>,
    records: usize,
}

/// Cuts a message `depth` containers down. Fields that are no containers, such as the resource, go to both sides.
fn split(message: &[u8], depth: usize, signal: Signal, left: &mut usize) -> (Side, Side) {
    let (mut first, mut second) = (Side::default(), Side::default());
    let number = PATH.get(depth).copied().unwrap_or_default();
    for field in Fields::new(message) {
        let raw = message.get(field.start..field.end).unwrap_or_default();
        if field.number != number || field.wire_type != LEN {
            first.bytes.extend_from_slice(raw);
            second.bytes.extend_from_slice(raw);
        } else if depth + 1 == PATH.len() {
            let records = match signal {
                Signal::Metrics => data_points(field.bytes),
                Signal::Traces | Signal::Logs => 1,
            };
            let side = if *left > 0 { &mut first } else { &mut second };
            side.bytes.extend_from_slice(raw);
            side.records += records;
            *left = left.saturating_sub(records);
        } else {
            let (a, b) = split(field.bytes, depth + 1, signal, left);
            for (side, part) in [(&mut first, a), (&mut second, b)] {
                if part.records > 0 {
                    put_bytes(&mut side.bytes, number, &part.bytes);
                    side.records += part.records;
                }
            }
        }
    }
    (first, second)
}

/// The data points of a metric: whatever its kind, they are field 1 of it.
fn data_points(metric: &[u8]) -> usize {
    let kinds = Fields::new(metric).filter(|f| matches!(f.number, 5 | 7 | 9 | 10 | 11));
    kinds.map(|kind| Fields::new(kind.bytes).filter(|f| f.number == 1).count()).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message as _;
    use weir_pipeline::metadata::Metadata;
    use weir_pipeline::receipt::{Outcome, Receipt};

    use super::*;

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
        let resource = |scopes: &Vec<usize>| ResourceLogs {
            resource: Some(Resource { dropped_attributes_count: 7, ..Resource::default() }),
            scope_logs: scopes.iter().map(&mut scope).collect(),
            ..ResourceLogs::default()
        };
        ExportLogsServiceRequest { resource_logs: shape.iter().map(resource).collect() }
    }

    fn times(batch: &Batch) -> Vec<u64> {
        let request = ExportLogsServiceRequest::decode(batch.encode()).unwrap();
        let resources = request.resource_logs.iter();
        resources
            .inspect(|r| assert_eq!(r.resource.as_ref().unwrap().dropped_attributes_count, 7))
            .flat_map(|r| &r.scope_logs)
            .inspect(|s| assert!(s.schema_url == "s" && !s.log_records.is_empty()))
            .flat_map(|s| &s.log_records)
            .map(|r| r.time_unix_nano)
            .collect()
    }

    fn decode(signal: Signal, message: &impl prost::Message) -> Batch {
        Batch::decode(signal, message.encode_to_vec().into()).unwrap()
    }

    proptest! {
        #[test]
        fn logs_are_cut_anywhere_and_none_is_lost(
            shape in proptest::collection::vec(proptest::collection::vec(0..5usize, 0..4), 0..5),
            at in 0..30usize,
        ) {
            let whole = decode(Signal::Logs, &logs(&shape));
            let records = whole.len();
            match cut(whole, at) {
                Ok((first, second)) => {
                    prop_assert_eq!((first.len(), second.len()), (at, records - at));
                    let all: Vec<u64> = times(&first).into_iter().chain(times(&second)).collect();
                    prop_assert_eq!(all, (1..=records as u64).collect::<Vec<_>>());
                }
                Err(whole) => prop_assert!(whole.len() == records && (at == 0 || at >= records)),
            }
        }
    }

    #[test]
    fn metrics_are_cut_between_metrics() {
        let metric = |points| {
            let gauge = Gauge { data_points: vec![NumberDataPoint::default(); points] };
            Metric { data: Some(metric::Data::Gauge(gauge)), ..Metric::default() }
        };
        let request = |metrics| ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
                ..ResourceMetrics::default()
            }],
        };
        let whole = decode(Signal::Metrics, &request(vec![metric(1), metric(6), metric(3)]));
        let (first, second) = halves(whole).unwrap();
        assert_eq!((first.len(), second.len()), (7, 3));
        let single = decode(Signal::Metrics, &request(vec![metric(9)]));
        assert_eq!(halves(single).unwrap_err().len(), 9);
    }

    #[tokio::test]
    async fn both_halves_have_the_receipts_and_the_metadata() {
        let (receipt, waiter) = Receipt::pair();
        let metadata = Arc::new(Metadata::new([("x-tenant", "acme")]));
        let whole = decode(Signal::Logs, &logs(&[vec![2]])).with_receipt(receipt).with_metadata(metadata);
        let (first, second) = halves(whole).unwrap();
        assert!([&first, &second].iter().all(|b| b.metadata().unwrap().first("x-tenant") == Some("acme")));
        first.settle(&Outcome::Done);
        second.settle(&Outcome::Rejected("no".into()));
        assert_eq!(waiter.await, Outcome::Rejected("no".into()));
    }
}
