//! Whose data a request holds, and how much each tenant sent.

use std::sync::{Arc, Mutex, PoisonError};

use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Counter, Telemetry};
use weir_pipeline::tenant::{Claim, ENVIRONMENT_ATTRIBUTE, PROJECT_ATTRIBUTE, Slug, Tenant, TenantMeter, TenantSource};

use super::access::Owner;
use super::refusal::Refusal;

/// What a receiver counts by tenant, for one signal, transport and lane.
#[derive(Debug)]
pub(super) struct Ledger {
    accepted: Mutex<TenantMeter>,
    refused: Mutex<TenantMeter>,
    closed: Counter,
}

impl Ledger {
    pub(super) fn new(telemetry: &Telemetry, receiver: &str, signal: Signal, transport: &'static str) -> Self {
        let labels = [("receiver", receiver), ("transport", transport), ("otel_signal", signal.as_str())];
        let meter = |name| Mutex::new(TenantMeter::new(telemetry, name, &labels));
        let dropped = [&labels[..], &[("reason", "project_deleted")]].concat();
        Self {
            accepted: meter("weir_tenant_accepted_records"),
            refused: meter("weir_tenant_refused_records"),
            closed: telemetry.counter("weir_receiver_dropped", &dropped),
        }
    }

    /// Gives the batch to whoever it belongs to.
    pub(super) async fn assign(&self, mut batch: Batch, owner: Owner) -> Result<Batch, Refusal> {
        match owner {
            Owner::Unknown => Ok(batch),
            Owner::Tenant(tenant) => {
                // Or the next hop, which may trust these, would be told something else.
                batch.for_each_resource_mut(|resource| {
                    resource.remove(PROJECT_ATTRIBUTE);
                    resource.remove(ENVIRONMENT_ATTRIBUTE);
                });
                Ok(batch.with_tenant(&tenant))
            }
            Owner::Attributes(source) => {
                let mut claims = claims(&batch, &*source);
                let missing = missing(&claims);
                if !missing.is_empty() {
                    source.create(missing).await?;
                    claims = self::claims(&batch, &*source);
                }
                // Resources are assigned in the order in which they were asked about.
                let mut claims = claims.into_iter();
                let dropped = batch.assign_tenants(|_| match claims.next()? {
                    Claim::Tenant(tenant) => Some(tenant),
                    Claim::New { .. } => source.default_tenant(),
                    Claim::Closed => None,
                });
                self.closed.add(dropped);
                Ok(batch)
            }
        }
    }

    /// Counts what became of a tenant's records.
    pub(super) fn count(&self, shares: &Shares, accepted: bool) {
        if shares.0.is_empty() {
            return;
        }
        let meter = if accepted { &self.accepted } else { &self.refused };
        let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
        shares.0.iter().for_each(|(tenant, records)| meter.add(tenant, *records));
    }
}

/// Whose the resources of a batch claim to be, in their order.
fn claims(batch: &Batch, source: &dyn TenantSource) -> Vec<Claim> {
    let mut claims = Vec::new();
    batch.for_each_resource(|resource| claims.push(source.claim(resource)));
    claims
}

/// The projects and environments that are claimed and not there. Each once.
fn missing(claims: &[Claim]) -> Vec<(Slug, Slug)> {
    let new = |claim: &Claim| match claim {
        Claim::New { project, environment } => Some((project.clone(), environment.clone())),
        Claim::Tenant(_) | Claim::Closed => None,
    };
    let mut missing: Vec<_> = claims.iter().filter_map(new).collect();
    missing.sort();
    missing.dedup();
    missing
}

/// How many records of a batch are whose. Empty where nobody asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Vec<(Arc<Tenant>, usize)>);

impl Shares {
    pub(super) fn of(batch: &Batch) -> Self {
        Self(batch.shares().collect())
    }
}
