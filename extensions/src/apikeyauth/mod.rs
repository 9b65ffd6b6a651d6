//! `apikeyauth`: API keys that say whose data a client sends, and the projects and environments behind them.
//!
//! ```yaml
//! extensions:
//!   apikeyauth:
//!     mode: required              # required, optional or trusted_attributes
//!     header: Authorization       # or any other, such as x-api-key
//!     scheme: Bearer              # default for Authorization; "" for a header that holds the key alone
//!     registry:                   # the keys of `weir keys create`
//!       url: s3://bucket/weir
//!       storage: {region: eu-central-1}
//!       poll_interval: 1s         # how soon a revoked key stops
//!     keys:                       # beside those, or without a registry
//!       - {key: "${env:WEB_APP_KEY}", project: web-app, environment: prd}
//!     default: {project: default, environment: dev}   # for who shows no key, or whose attributes name nobody
//!     trusted_attributes:         # for that mode: the first attribute that a resource has counts
//!       project: [weir.project, service.namespace]
//!       environment: [weir.environment, deployment.environment.name, deployment.environment]
//!       create: true              # projects and environments that nobody has made are made
//!       max_projects: 1000        # no more than so many; those beyond belong to the default
//!       max_environments: 50      # of a project
//! ```
//!
//! | mode | a client without a key | a key that is unknown, revoked or expired |
//! |---|---|---|
//! | `required` | 401 / UNAUTHENTICATED | 401 / UNAUTHENTICATED |
//! | `optional` | belongs to the default | 401 / UNAUTHENTICATED |
//! | `trusted_attributes` | its resources' attributes decide | is not looked at |
//!
//! * The key alone decides. No attribute or header moves data elsewhere, and `weir.project` and `weir.environment` are
//!   taken off what a client with a key sends, lest somebody further on believe them.
//! * What is deleted is closed for all: for `keys` and the `default` of the configuration too, where there is a `registry`.
//!   It knows the environments of its projects, so a key for another one opens nothing.
//! * Refusals name neither keys nor projects. Keys are compared as hashes, in constant time.
//! * A revoked key stops in every process within `poll_interval` and the time that the store takes to list some objects.
//! * As long as the registry was not read, or a project's object in it is unreadable, a key that is not known might be
//!   one of those in it: its client is told to come again (503 / UNAVAILABLE), and loses nothing. A registry that was
//!   read once and cannot be reached now leaves everything as it was.
//! * When keys were last used is written to the registry every minute.
//!
//! `trusted_attributes` is for a gateway that only a trusted edge can reach: whoever reaches it can write to any project.

mod config;
mod source;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::ConfigError;
use weir_pipeline::extension::{Authenticator, Decision, Denied, Extension};
use weir_pipeline::graph::Section;
use weir_pipeline::metadata::Identity;
use weir_pipeline::node::StartError;
use weir_pipeline::telemetry::Telemetry;
use weir_pipeline::tenant::{Registry, StaticKey, TenantSource};

pub use self::config::{Mode, Settings, schema};
use self::source::Attributes;
use self::state::{Known, State};
use crate::scheme::after_scheme;

/// How long starting waits for the first look at the registry, before it goes on without.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How often the last uses of keys are written down.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Opens the registry of a store: its URL, options of the store, the clock, and keys that are none of the registry's.
pub type OpenRegistry =
    fn(&str, &BTreeMap<String, String>, &Environment, Vec<StaticKey>) -> Result<Arc<dyn Registry>, String>;

/// Builds the extension from its configuration. `open` is `None` in a build without the store.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>, open: Option<OpenRegistry>) -> Result<Arc<dyn Extension>, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    let context = &section.context;
    let registry = settings.registry(section.node, section.path, open, &context.environment)?;
    Ok(Arc::new(ApiKeyAuth::new(settings, registry, &context.id, &context.telemetry, &context.environment)))
}

/// The extension.
pub struct ApiKeyAuth {
    id: String,
    settings: Settings,
    environment: Environment,
    state: Arc<State>,
    source: Option<Arc<Attributes>>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl ApiKeyAuth {
    /// An extension that follows nothing yet.
    pub fn new(
        settings: Settings,
        registry: Option<Arc<dyn Registry>>,
        id: &str,
        telemetry: &Telemetry,
        environment: &Environment,
    ) -> Self {
        let state = Arc::new(State::new(id, registry, &settings.keys, &settings.default, telemetry));
        let source = match settings.mode {
            Mode::TrustedAttributes => {
                Some(Arc::new(Attributes::new(settings.clone(), Arc::clone(&state), id, telemetry)))
            }
            Mode::Required | Mode::Optional => None,
        };
        let (id, environment, follower) = (id.to_owned(), environment.clone(), Mutex::new(None));
        Self { id, settings, environment, state, source, follower }
    }

    fn find(&self, key: &str) -> Result<Arc<Identity>, Denied> {
        let Known { directory, is_complete, .. } = &*self.state.known();
        match directory.find(key, self.environment.now_unix_nanos()) {
            Some(found) => Ok(Arc::clone(found.identity)),
            None if *is_complete => Err(Denied::Unknown("the API key is not known")),
            None => Err(Denied::Undecided("the API keys cannot be read now")),
        }
    }
}

#[async_trait]
impl Extension for ApiKeyAuth {
    async fn start(&self) -> Result<(), StartError> {
        if !self.state.has_registry() {
            return Ok(());
        }
        if tokio::time::timeout(FIRST_LOOK, self.state.look()).await.is_err() {
            tracing::warn!(extension = self.id, "the registry of API keys does not answer; going on without for now");
        }
        let (state, every) = (Arc::clone(&self.state), self.settings.poll_interval);
        let follower = tokio::spawn(async move { state.follow(every, NOTE_EVERY).await });
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
        Ok(())
    }

    async fn stop(&self) {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            follower.abort();
            self.state.note_uses().await;
        }
    }

    fn authenticator(self: Arc<Self>) -> Option<Arc<dyn Authenticator>> {
        Some(self)
    }
}

impl Authenticator for ApiKeyAuth {
    fn authenticate<'h>(&self, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied> {
        let identity = match (self.settings.mode, header(&self.settings.header)) {
            (Mode::TrustedAttributes, _) => Arc::default(),
            (Mode::Optional, None) => {
                let default = self.state.known().default.clone();
                default.ok_or(Denied::Unknown("nothing is taken without an API key now"))?
            }
            (Mode::Required, None) => return Err(Denied::Unknown("the header with the API key is missing")),
            (Mode::Required | Mode::Optional, Some(value)) => {
                let key = after_scheme(&self.settings.scheme, value);
                self.find(key.ok_or(Denied::Unknown("the API key is not of the expected scheme"))?)?
            }
        };
        Ok(Decision::Made(identity))
    }

    fn tenants(&self) -> Option<Arc<dyn TenantSource>> {
        self.source.clone().map(|source| source as Arc<dyn TenantSource>)
    }
}
