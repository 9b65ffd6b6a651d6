//! Counting by tenant.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::Tenant;
use crate::telemetry::{Counter, Labels, MAX_SERIES, Telemetry};

/// One metric by `project` and `environment`, for one lane. Tenants beyond [`MAX_SERIES`] are counted together, under
/// [`OVERFLOW`](crate::telemetry::OVERFLOW).
#[derive(Debug)]
pub struct TenantMeter {
    telemetry: Telemetry,
    name: &'static str,
    /// What is the same for all tenants.
    labels: Labels,
    counters: HashMap<Arc<Tenant>, Counter>,
}

impl TenantMeter {
    /// A metric of this name; `labels` come before those of the tenant.
    pub fn new(telemetry: &Telemetry, name: &'static str, labels: &[(&'static str, &str)]) -> Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { telemetry: telemetry.clone(), name, labels, counters: HashMap::new() }
    }

    /// Counts `n` for a tenant.
    pub fn add(&mut self, tenant: &Arc<Tenant>, n: usize) {
        if let Some(counter) = self.counters.get(tenant) {
            return counter.add(n);
        }
        let mut labels: Vec<(&'static str, &str)> = self.labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
        labels.extend([("project", tenant.project.as_str()), ("environment", tenant.environment.as_str())]);
        let counter = self.telemetry.counter(self.name, &labels);
        counter.add(n);
        if self.counters.len() < MAX_SERIES {
            self.counters.insert(Arc::clone(tenant), counter);
        }
    }
}
