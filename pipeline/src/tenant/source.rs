//! Tenants by the attributes of resources, where a trusted edge vouches for them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Slug, Tenant};
use crate::batch::view::Resource;
use crate::node::Refused;

/// Whose a resource is, by its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This tenant's.
    Tenant(Arc<Tenant>),
    /// A project's or environment's that is not there yet and may be made.
    New {
        /// The project.
        project: Slug,
        /// The environment within it.
        environment: Slug,
    },
    /// A project's or environment's on its way out: its data are not taken.
    Closed,
}

/// Tells whose data a resource's attributes claim to be.
#[async_trait]
pub trait TenantSource: Send + Sync + 'static {
    /// Whose the resource is, as far as is known now.
    fn claim(&self, resource: Resource<'_>) -> Claim;

    /// Makes the projects and environments that were claimed and are not there, as far as that is allowed. What could
    /// not be made belongs to the default tenant from then on.
    ///
    /// # Errors
    /// If whoever knows about projects cannot be asked now, or does not know whether one of them is there.
    async fn create(&self, missing: Vec<(Slug, Slug)>) -> Result<(), Refused>;

    /// Whose data are that nobody else can have; `None` if that project is on its way out, or gone.
    fn default_tenant(&self) -> Option<Arc<Tenant>>;
}
