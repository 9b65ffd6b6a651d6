//! `admin_api`: projects, environments, keys and retention over HTTP.
//!
//! ```yaml
//! extensions:
//!   admin_api:
//!     endpoint: 127.0.0.1:8889
//!     admin_key: ${env:WEIR_ADMIN_KEY}    # whoever has it can do everything; at least 16 characters
//!     store:
//!       url: ./weir-data                  # as of the `parquet` exporter
//!       storage: {region: eu-central-1}
//! ```
//!
//! Every request needs `Authorization: Bearer <admin_key>` but the one for the description of it all at `/openapi.json`,
//! which is made from this code. Errors are `application/problem+json` (RFC 9457) and say what to do.
//!
//! * Changes go to the registry in the store, where every collector of the same store sees them within seconds.
//! * What is deleted is deleted for good, so a deletion has to name what it is about once more: `?confirm=<slug>`. It is
//!   answered when everything is gone, with what that was; should the client or the process not wait for that, another
//!   collector of the store finishes it.
//! * A key is in the answer to its creation and nowhere else.
//!
//! It speaks no TLS: keep it to the machine, or put a proxy in front.

mod config;
mod describe;
mod problem;
mod routes;
mod service;
pub mod view;

use std::sync::Arc;

use weir_extensions::http::PageExtension;
use weir_pipeline::config::ConfigError;
use weir_pipeline::extension::Extension;
use weir_pipeline::graph::Section;
use weir_store::maintain::{Maintenance, Settings as Patience};

pub use self::config::{Settings, schema};
pub use self::problem::Problem;
pub use self::service::Service;

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    let environment = section.context.environment.clone();
    let maintenance = Maintenance::new(&settings.root, environment, Patience::default());
    let service = Arc::new(Service::new(maintenance, settings.admin_key));
    Ok(Arc::new(PageExtension::new(&section.context, settings.endpoint, service)))
}

/// The description of the API, as it is served at `/openapi.json`.
pub fn openapi() -> serde_json::Value {
    routes::router().1
}
