//! What components warn of while a configuration is only looked at, when there is no log.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::logging::Fields;

/// Warnings in the order they came.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

/// Runs something and returns what it warned of as well.
pub(super) fn collecting<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    let warnings = Warnings::default();
    let done = tracing::subscriber::with_default(tracing_subscriber::registry().with(warnings.clone()), run);
    let collected = std::mem::take(&mut *warnings.0.lock().unwrap_or_else(PoisonError::into_inner));
    (done, collected)
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let (mut fields, mut line) = (Fields::default(), String::new());
            event.record(&mut fields);
            fields.put(&mut line, &[]);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }
}
