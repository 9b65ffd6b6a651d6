//! `memory_limiter`: a bound on the bytes in flight (I7), as a processor of pipelines and as an extension.
//!
//! ```yaml
//! processors:
//!   memory_limiter:
//!     check_interval: 1s           # required by the Collector; here nothing is polled
//!     limit_mib: 1000              # or limit_percentage: 75, of the container's or the machine's memory
//!     spike_limit_mib: 200         # default: 20 % of the limit
//! ```
//!
//! As an extension with the same settings it is named in `middlewares` of receivers, which then take memory from it for
//! whatever pipeline the data is for.
//!
//! The Collector polls the heap and refuses after decoding. Weir counts bytes: a receiver takes the memory of a request
//! from the limiter *before* it reads or inflates the body, and gives it back when the last copy of the data is gone.
//! Where there is no room, the client is told to come again (HTTP 503 with `Retry-After`, gRPC `UNAVAILABLE` with
//! `RetryInfo`) and nothing is allocated.
//!
//! A request that is alone may take twice of what there is for all. One that takes more is refused for good (413,
//! `RESOURCE_EXHAUSTED`): its client would come again for ever.
//!
//! Decision: the bytes in flight may be half of the soft limit (limit less spike), because a request that a processor
//! changed exists twice while it is encoded again. Only a request that is alone and larger than that may exceed the soft
//! limit for that moment, by what it is larger.

mod config;

use std::sync::Arc;

use weir_pipeline::batch::Batch;
use weir_pipeline::budget::Budget;
use weir_pipeline::config::ConfigError;
use weir_pipeline::extension::Extension;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};

pub use self::config::{Settings, schema};

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    Ok(Arc::new(MemoryLimiter::parse(section)?))
}

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build_extension(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    Ok(Arc::new(MemoryLimiter::parse(section)?))
}

struct MemoryLimiter {
    budget: Arc<Budget>,
}

impl MemoryLimiter {
    fn parse(section: &Section<'_>) -> Result<Self, ConfigError> {
        let settings = Settings::parse(section.node, section.path, config::total_memory)?;
        Ok(Self { budget: Budget::new(settings.bytes_in_flight) })
    }
}

impl Extension for MemoryLimiter {
    fn budget(&self) -> Option<Arc<Budget>> {
        Some(Arc::clone(&self.budget))
    }
}

impl ProcessorFactory for MemoryLimiter {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(PassOn)
    }

    fn budget(&self) -> Option<Arc<Budget>> {
        Some(Arc::clone(&self.budget))
    }
}

/// The work is done at the receiver, through the budget.
struct PassOn;

impl Processor for PassOn {
    fn process(&mut self, batch: Batch, out: &mut dyn FnMut(Batch)) {
        out(batch);
    }
}
