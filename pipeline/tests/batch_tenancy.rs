//! Whose records are whose, however batches are joined, split, filtered and encoded (I4).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use weir_pipeline::batch::Batch;
use weir_pipeline::batch::view::{self, Value};
use weir_pipeline::receipt::{Outcome, Receipt};
use weir_pipeline::signal::Signal;
use weir_pipeline::tenant::Tenant;

mod support;

/// With more owners a request is dealt out in another way.
const FEW_OWNERS: usize = 8;

/// The projects that are dealt out, and whose resources are to be dropped.
const OWNERS: [&str; 4] = ["a", "b", "c", "nobody"];

fn tenant(project: &str) -> Arc<Tenant> {
    Arc::new(Tenant::new(project.parse().unwrap(), "dev".parse().unwrap()))
}

fn owner(project: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(project.to_owned())) });
    KeyValue { key: "owner".to_owned(), value, ..KeyValue::default() }
}

fn owned(resource: &mut Option<Resource>, project: &str) {
    resource.get_or_insert_default().attributes.push(owner(project));
}

fn owner_of(resource: view::Resource<'_>) -> Option<Arc<Tenant>> {
    match resource.attributes().get("owner") {
        Some(Value::Str(text)) if text.as_str() != "nobody" => Some(tenant(text.as_str())),
        _ => None,
    }
}

/// What is left of a request for one project.
fn of_project(resource: Option<&Resource>, project: &str) -> bool {
    resource.is_some_and(|resource| resource.attributes.last() == Some(&owner(project)))
}

/// One request of these spans: (project, name).
fn spans(of: &[(usize, String)]) -> Batch {
    let resource_spans = of.iter().map(|(project, name)| {
        let mut resource = None;
        owned(&mut resource, OWNERS[*project]);
        let span = Span { name: name.clone(), ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }
    });
    let request = ExportTraceServiceRequest { resource_spans: resource_spans.collect() };
    let mut batch = Batch::decode(Signal::Traces, request.encode_to_vec().into()).unwrap();
    batch.assign_tenants(owner_of);
    batch
}

fn names(batch: &Batch) -> Vec<String> {
    batch.spans().map(|span| span.name().to_string()).collect()
}

proptest! {
    #[test]
    fn a_traces_request_is_dealt_out_by_resource(
        mut request in support::arb_traces(),
        projects in vec(0..OWNERS.len(), 3),
    ) {
        for (spans, project) in request.resource_spans.iter_mut().zip(&projects) {
            owned(&mut spans.resource, OWNERS[*project]);
        }
        let mut batch = Batch::decode(Signal::Traces, request.encode_to_vec().into()).unwrap();
        let before = batch.len();
        let dropped = batch.assign_tenants(owner_of);
        prop_assert_eq!(batch.len() + dropped, before);
        let mut parts = BTreeMap::new();
        for part in batch.split_by_tenant() {
            if let Some(tenant) = part.tenant() {
                prop_assert!(part.spans().all(|span| span.tenant() == Some(&**tenant)));
                prop_assert!(parts.insert(tenant.project.to_string(), part).is_none(), "a tenant has one part");
            } else {
                prop_assert!(part.is_empty());
            }
        }
        for project in &OWNERS[..3] {
            let mut expected = request.clone();
            expected.resource_spans.retain(|r| {
                of_project(r.resource.as_ref(), project) && r.scope_spans.iter().any(|s| !s.spans.is_empty())
            });
            let encoded = parts.get(*project).map(Batch::encode).unwrap_or_default();
            let mut actual = ExportTraceServiceRequest::decode(encoded).unwrap();
            // Containers that came empty may stay or go.
            for r in expected.resource_spans.iter_mut().chain(&mut actual.resource_spans) {
                r.scope_spans.retain(|s| !s.spans.is_empty());
            }
            actual.resource_spans.retain(|r| !r.scope_spans.is_empty());
            prop_assert_eq!(actual.encode_to_vec(), expected.encode_to_vec());
        }
    }

    #[test]
    fn metrics_and_logs_requests_are_dealt_out_by_resource(
        mut metrics in support::arb_metrics(),
        mut logs in support::arb_logs(),
        projects in vec(0..OWNERS.len(), 3),
    ) {
        for (r, project) in metrics.resource_metrics.iter_mut().zip(&projects) {
            owned(&mut r.resource, OWNERS[*project]);
        }
        for (r, project) in logs.resource_logs.iter_mut().zip(&projects) {
            owned(&mut r.resource, OWNERS[*project]);
        }
        for (signal, bytes) in [(Signal::Metrics, metrics.encode_to_vec()), (Signal::Logs, logs.encode_to_vec())] {
            let mut batch = Batch::decode(signal, bytes.into()).unwrap();
            let before = batch.len();
            let dropped = batch.assign_tenants(owner_of);
            prop_assert_eq!(batch.len() + dropped, before);
            prop_assert_eq!(batch.shares().map(|(_, records)| records).sum::<usize>(), batch.len());
            for part in batch.split_by_tenant() {
                let Some(tenant) = part.tenant() else { continue };
                let of_tenant = |r: Option<&Resource>| of_project(r, tenant.project.as_str());
                match signal {
                    Signal::Metrics => {
                        let part = ExportMetricsServiceRequest::decode(part.encode()).unwrap();
                        let of: Vec<_> = metrics.resource_metrics.iter().filter(|r| of_tenant(r.resource.as_ref())).collect();
                        prop_assert_eq!(
                            part.resource_metrics.iter().map(|r| r.encode_to_vec()).collect::<Vec<_>>(),
                            of.iter().map(|r| r.encode_to_vec()).collect::<Vec<_>>()
                        );
                    }
                    _ => {
                        let part = ExportLogsServiceRequest::decode(part.encode()).unwrap();
                        let of: Vec<_> = logs.resource_logs.iter().filter(|r| of_tenant(r.resource.as_ref())).collect();
                        prop_assert_eq!(
                            part.resource_logs.iter().map(|r| r.encode_to_vec()).collect::<Vec<_>>(),
                            of.iter().map(|r| r.encode_to_vec()).collect::<Vec<_>>()
                        );
                    }
                }
            }
        }
    }

    /// Joins and splits as the batch processor does, drops as a filter does, and tells the parts apart at the end.
    #[test]
    fn nothing_that_happens_to_a_batch_moves_a_span_to_another_tenant(
        requests in vec(vec((0..3usize, "[a-z]{1,3}"), 1..6), 1..6),
        cut in 0..20usize,
        keep in any::<u32>(),
    ) {
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut joined = Batch::empty(Signal::Traces);
        for request in &requests {
            joined.append(spans(request));
        }
        let rest = joined.split_off(cut);
        let mut nth = 0;
        let mut outcomes = Vec::new();
        for mut half in [joined, rest] {
            let mut kept = |_: &mut weir_pipeline::batch::SpanMut<'_>| { nth += 1; keep >> (nth % 32) & 1 == 1 };
            half.retain_mut(&mut kept);
            for span in half.spans() {
                let project = match span.resource_attributes().get("owner") {
                    Some(Value::Str(text)) => text.as_str().to_owned(),
                    _ => String::new(),
                };
                prop_assert_eq!(span.tenant().map(|t| t.project.to_string()), Some(project.clone()));
                expected.entry(project).or_default().push(span.name().to_string());
            }
            let (receipt, waiter) = Receipt::pair();
            outcomes.push(waiter);
            for part in half.with_receipt(receipt).split_by_tenant() {
                if let Some(tenant) = part.tenant() {
                    let left = expected.get_mut(tenant.project.as_str()).unwrap();
                    let again = Batch::decode(Signal::Traces, part.encode()).unwrap();
                    for name in names(&again) {
                        let at = left.iter().position(|known| *known == name);
                        prop_assert!(at.is_some(), "{} is not {}'s", name, tenant);
                        left.remove(at.unwrap());
                    }
                }
                part.settle(&Outcome::Done);
            }
        }
        prop_assert!(expected.values().all(Vec::is_empty));
        for waiter in outcomes {
            prop_assert_eq!(settled(waiter), Some(Outcome::Done));
        }
    }
}

/// The outcome, if every branch has been settled.
fn settled(waiter: weir_pipeline::receipt::Waiter) -> Option<Outcome> {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    match pin!(waiter).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

#[test]
fn one_owner_costs_nothing_and_known_resources_are_shown_once() {
    let mut batch = spans(&[(0, "x".to_owned()), (0, "y".to_owned())]);
    assert_eq!(batch.tenant(), Some(&tenant("a")));
    let bytes = batch.encode();
    assert_eq!(batch.assign_tenants(|_| Some(tenant("b"))), 0);
    assert_eq!(batch.encode().as_ptr(), bytes.as_ptr(), "nothing was copied");
    let mut shown = 0;
    batch.for_each_resource(|_| shown += 1);
    assert_eq!((shown, batch.split_by_tenant().len()), (2, 1));
}

/// Whose a resource is among many: of each tenth nobody's.
fn one_of_many(n: usize, count: usize) -> String {
    if n.is_multiple_of(10) { "nobody".to_owned() } else { format!("p{}", n % count) }
}

#[test]
fn many_owners_have_what_is_theirs_and_nobody_waits_for_it() {
    // As many owners as an attacker likes; a pass over all resources for each would take minutes.
    const OWNERS: usize = 7_001;
    for resources in [30, 20_000] {
        let resource = |n: usize| {
            let mut resource = None;
            owned(&mut resource, &one_of_many(n, OWNERS));
            resource
        };
        let span = |n: usize| Span { name: n.to_string(), ..Span::default() };
        let resource_spans = (0..resources).map(|n| {
            let scope_spans = vec![ScopeSpans { spans: vec![span(n), span(n)], ..ScopeSpans::default() }];
            ResourceSpans { resource: resource(n), scope_spans, ..ResourceSpans::default() }
        });
        let request = ExportTraceServiceRequest { resource_spans: resource_spans.collect() };
        let mut batch = Batch::decode(Signal::Traces, request.encode_to_vec().into()).unwrap();
        assert_eq!(batch.assign_tenants(owner_of), 2 * resources.div_ceil(10));
        assert_eq!(batch.len(), 2 * (resources - resources.div_ceil(10)));
        let parts = batch.split_by_tenant();
        assert!(parts.len() > FEW_OWNERS, "{}", parts.len());
        for part in &parts {
            let project = part.tenant().unwrap().project.to_string();
            let numbers: Vec<usize> = names(part).iter().map(|name| name.parse().unwrap()).collect();
            assert!(numbers.iter().all(|n| one_of_many(*n, OWNERS) == project), "{project}: {numbers:?}");
            assert!(numbers.is_sorted() && part.spans().all(|span| span.tenant().unwrap().project.as_str() == project));
        }
        assert_eq!(parts.iter().map(Batch::len).sum::<usize>(), 2 * (resources - resources.div_ceil(10)));

        let resource_logs = (0..resources).map(|n| {
            let log_records = vec![LogRecord { severity_text: n.to_string(), ..LogRecord::default() }];
            let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
            ResourceLogs { resource: resource(n), scope_logs, ..ResourceLogs::default() }
        });
        let request = ExportLogsServiceRequest { resource_logs: resource_logs.collect() };
        let mut batch = Batch::decode(Signal::Logs, request.encode_to_vec().into()).unwrap();
        assert_eq!(batch.assign_tenants(owner_of), resources.div_ceil(10));
        for part in batch.split_by_tenant() {
            let project = part.tenant().unwrap().project.to_string();
            let decoded = ExportLogsServiceRequest::decode(part.encode()).unwrap();
            assert_eq!(decoded.resource_logs.len(), part.len());
            let is_theirs = |r: &ResourceLogs| {
                let n = r.scope_logs[0].log_records[0].severity_text.parse().unwrap();
                one_of_many(n, OWNERS) == project && of_project(r.resource.as_ref(), &project)
            };
            assert!(decoded.resource_logs.iter().all(is_theirs));
        }
    }
}
