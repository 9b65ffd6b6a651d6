//! Whose data a batch holds.
//!
//! A tenant belongs to a chunk, not to a batch: the batch processor joins requests of many clients, and what reads a
//! span, a condition or the store, must still tell them apart. Where the resources of one request belong to several
//! tenants, the request becomes a chunk for each; traces share its bytes and index and differ in what is alive. Where
//! they are many, which is up to a client, its bytes are dealt out instead, in one pass.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::view::Resource;
use super::wire::Fields;
use super::{Batch, Chunk, message_of, resource};
use crate::signal::Signal;
use crate::tenant::Tenant;

impl Batch {
    /// The same batch, all of it this tenant's.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &Arc<Tenant>) -> Self {
        for chunk in &mut self.chunks {
            chunk.tenant = Some(Arc::clone(tenant));
        }
        self
    }

    /// The tenant of the batch, if all of it is one's: see [`Self::split_by_tenant`].
    pub fn tenant(&self) -> Option<&Arc<Tenant>> {
        let (first, others) = self.chunks.split_first()?;
        others.iter().all(|chunk| chunk.tenant == first.tenant).then_some(first.tenant.as_ref()).flatten()
    }

    /// The batch as one for each tenant, in the order of their first records; all hold branches of the receipts and the
    /// leases.
    pub fn split_by_tenant(mut self) -> Vec<Self> {
        let is_one = self.chunks.windows(2).all(|pair| pair[0].tenant == pair[1].tenant);
        if is_one {
            return vec![self];
        }
        let mut parts: Vec<Vec<Chunk>> = Vec::new();
        let mut places = HashMap::new();
        for chunk in std::mem::take(&mut self.chunks) {
            let place = *places.entry(chunk.tenant.clone()).or_insert(parts.len());
            match parts.get_mut(place) {
                Some(part) => part.push(chunk),
                None => parts.push(vec![chunk]),
            }
        }
        let last = parts.pop();
        let mut batches: Vec<Self> = parts.into_iter().map(|chunks| Self { chunks, ..self.fork() }).collect();
        // The last one takes the receipts themselves.
        batches.extend(last.map(|chunks| Self { chunks, ..self }));
        batches
    }

    /// Whose the records are and how many, part for part; nothing for those of nobody known.
    pub fn shares(&self) -> impl Iterator<Item = (Arc<Tenant>, usize)> {
        self.chunks.iter().filter_map(|chunk| Some((Arc::clone(chunk.tenant.as_ref()?), chunk.records)))
    }

    /// Shows every resource that has a record, in order; one may be shown more than once.
    pub fn for_each_resource(&self, mut visit: impl FnMut(Resource<'_>)) {
        for chunk in &self.chunks {
            match &chunk.index {
                None => chunk.containers().for_each(|(resource, _)| visit(resource)),
                Some(index) => {
                    let has_spans = |id: &usize| !index.spans_of(*id).is_empty();
                    (0..index.resources.len()).filter(has_spans).for_each(|id| visit(chunk.resource(index, id)));
                }
            }
        }
    }

    /// Gives every resource with its records to the tenant that `tenant_of` names; records of resources that it names
    /// none for are dropped. Returns how many that were; the caller counts them (I2).
    pub fn assign_tenants(&mut self, mut tenant_of: impl FnMut(Resource<'_>) -> Option<Arc<Tenant>>) -> usize {
        let before = self.len();
        for chunk in std::mem::take(&mut self.chunks) {
            let owners: Vec<Option<Arc<Tenant>>> = match &chunk.index {
                None => chunk.containers().map(|(resource, _)| tenant_of(resource)).collect(),
                Some(index) => {
                    let owner = |id| match index.spans_of(id).is_empty() {
                        true => None,
                        false => tenant_of(chunk.resource(index, id)),
                    };
                    (0..index.resources.len()).map(owner).collect()
                }
            };
            let parts = match tenants(&owners) {
                // What was changed already may have lost resources.
                tenants if tenants.len() <= FEW || !chunk.is_untouched() => {
                    tenants.iter().map(|tenant| chunk.of_owner(self.signal, &owners, tenant)).collect()
                }
                tenants => chunk.dealt_out(self.signal, &owners, &tenants),
            };
            self.chunks.extend(parts.into_iter().filter(|part| part.records > 0));
        }
        before - self.len()
    }
}

/// As many tenants of one request may each go through all of it.
const FEW: usize = 8;

/// The owners there are, in the order in which they come.
fn tenants(owners: &[Option<Arc<Tenant>>]) -> Vec<Arc<Tenant>> {
    let mut seen = HashMap::new();
    let is_new = |owner: &&Arc<Tenant>| seen.insert(Arc::clone(owner), ()).is_none();
    owners.iter().flatten().filter(is_new).cloned().collect()
}

impl Chunk {
    /// A resource as it will be encoded.
    fn resource<'c>(&'c self, index: &'c super::Index, id: usize) -> Resource<'c> {
        let changed = self.overlay.as_ref().and_then(|overlay| overlay.resource(id));
        Resource(changed.unwrap_or_else(|| index.resource_message(id, &self.bytes)))
    }

    /// The top-level containers of a request that is not indexed, and their resources.
    fn containers(&self) -> impl Iterator<Item = (Resource<'_>, &[u8])> {
        Fields::new(&self.bytes)
            .filter(|field| field.number == 1)
            .map(|container| (resource::resource_of(container.bytes), container.bytes))
    }

    /// What of the chunk, in which nothing was changed, is each tenant's, as a request of its own: the containers that hold its resources, in one pass.
    /// What else there is on the top level goes with the first.
    fn dealt_out(&self, signal: Signal, owners: &[Option<Arc<Tenant>>], tenants: &[Arc<Tenant>]) -> Vec<Self> {
        let places: HashMap<&Arc<Tenant>, usize> = tenants.iter().zip(0..).collect();
        let mut parts: Vec<Vec<u8>> = vec![Vec::new(); tenants.len()];
        let mut owners = owners.iter();
        for field in Fields::new(&self.bytes) {
            let place = match field.number {
                1 => owners.next().and_then(Option::as_ref).and_then(|owner| places.get(owner)).copied(),
                _ => Some(0),
            };
            if let (Some(part), Some(field)) =
                (place.and_then(|place| parts.get_mut(place)), self.bytes.get(field.start..field.end))
            {
                part.extend_from_slice(field);
            }
        }
        let parts = parts.into_iter().zip(tenants);
        // What was valid in one request is so in several.
        let decoded = parts.filter_map(|(mut bytes, tenant)| {
            bytes.shrink_to_fit();
            let mut batch = Batch::decode(signal, bytes.into()).ok()?;
            let chunk = batch.chunks.pop()?;
            Some(Self { tenant: Some(Arc::clone(tenant)), ..chunk })
        });
        decoded.collect()
    }

    /// What of the chunk is this tenant's; `owners` are those of the resources.
    fn of_owner(&self, signal: Signal, owners: &[Option<Arc<Tenant>>], tenant: &Arc<Tenant>) -> Self {
        let mut part = Self { tenant: Some(Arc::clone(tenant)), ..self.clone() };
        if owners.iter().all(|owner| owner.as_ref() == Some(tenant)) {
            return part;
        }
        match &self.index {
            Some(index) => {
                for (id, _) in owners.iter().enumerate().filter(|(_, owner)| owner.as_ref() != Some(tenant)) {
                    for span in index.spans_of(id).filter(|span| self.alive.contains(*span)) {
                        part.alive.clear(span);
                        part.records -= 1;
                    }
                }
            }
            None => {
                let mut owners = owners.iter();
                let mut is_theirs = |_: Resource<'_>| owners.next().is_some_and(|owner| owner.as_ref() == Some(tenant));
                let rewritten = resource::retain_resources(message_of(signal), &self.bytes, &mut is_theirs);
                part.become_rewritten(signal, rewritten);
            }
        }
        part
    }
}
