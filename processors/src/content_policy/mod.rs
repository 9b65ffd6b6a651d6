//! The `content_policy` processor: keeps, drops or hashes prompts and completions, by project and environment.
//!
//! ```yaml
//! processors:
//!   content_policy:
//!     content: keep                # keep, drop or hash: for what is not named below
//!     tenants:                     # the first that fits wins; without environment: all of the project
//!       - {project: web-app, environment: prd, content: hash}
//!       - {project: search, content: drop}
//!     attributes: [my.prompt.*]    # further keys, exact or with a trailing *, beside the known ones
//!     hash_key: ${env:HASH_KEY}    # hash with HMAC-SHA-256 and this secret, of at least 16 bytes
//! ```
//!
//! A rule needs a project or an environment; one of an environment alone is for that of every project. Spans of which
//! nobody knows the tenant fit no rule: `content` is for them.
//!
//! # What is content
//!
//! The texts of prompts, messages and answers, instructions, tool definitions, arguments and results, documents that were
//! looked up, and embeddings, under the keys of OpenLLMetry, OpenTelemetry, OpenInference, logfire, pydantic-ai, the
//! Vercel AI SDK and others (module `keys`), of spans and of their events. Where a key lies in a family of content and
//! is not known, it is content. Roles, models, finish reasons, names and ids of tools, and token counts are none.
//!
//! Some places stay as they are, and applications can put content there: names and status messages of spans, what their
//! `exception` events say, attributes of links, resources and scopes, and keys of an application's own that `attributes`
//! does not name. Logs are another signal.
//!
//! # Hashes
//!
//! `hash` puts `sha256:` and 64 hexadecimal digits in the place of the value: equal contents stay recognisable as such,
//! whoever sent them. **Whoever can guess a text can check the guess**: "yes", a name, or a prompt that is known but for
//! one word is as good as readable. With `hash_key` that takes the key as well; the text is then `hmac-sha256:…`, and only
//! hashes made with the same key can be compared. What is no text is hashed as its JSON.
//!
//! # Where it belongs
//!
//! After `cost`: its estimates read the content, and some emitters hide their usage in it. A policy is one destination's
//! where it stands in the pipeline of that destination alone; the connectors `forward` and `routing` lead there:
//!
//! ```yaml
//! connectors: {forward: }
//! service:
//!   pipelines:
//!     traces/in: {receivers: [otlp], processors: [cost], exporters: [forward]}
//!     traces/store: {receivers: [forward], exporters: [parquet]}
//!     traces/backend: {receivers: [forward], processors: [content_policy], exporters: [otlp_http]}
//! ```
//!
//! # What it counts
//!
//! `weir_content_policy_spans` by `action`: `keep` where the policy is to keep, `drop` and `hash` where content was found
//! and dropped or hashed, `none` where the policy is to do so and the span has none. Each span is in one of them. A span
//! without content keeps its very bytes.

mod config;
mod hash;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::{AttributeEdit, Batch, KeyReader, Span, SpanMut};
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, Processor, ProcessorFactory};
use weir_pipeline::telemetry::Counter;

use self::config::{Action, Settings};
use crate::flow::Flow;

pub use self::config::schema;

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let shared = Shared {
        settings: Settings::parse(section.node, section.path)?,
        flow: Flow::new(&section.context),
        counters: Outcome::ALL.map(|outcome| outcome.counter(&section.context)),
    };
    Ok(Arc::new(ContentPolicyFactory(Arc::new(shared))))
}

/// What was done with a span.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Keep,
    Drop,
    Hash,
    /// There was no content.
    None,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Keep, Self::Drop, Self::Hash, Self::None];

    fn counter(self, context: &Context) -> Counter {
        let action = match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Hash => "hash",
            Self::None => "none",
        };
        let labels = [("processor", context.id.as_str()), ("action", action)];
        context.telemetry.counter("weir_content_policy_spans", &labels)
    }
}

struct Shared {
    settings: Settings,
    flow: Flow,
    /// In the order of [`Outcome::ALL`].
    counters: [Counter; Outcome::ALL.len()],
}

struct ContentPolicyFactory(Arc<Shared>);

impl ProcessorFactory for ContentPolicyFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(ContentPolicy { shared: Arc::clone(&self.0), known: KeyReader::new(keys::content) })
    }
}

struct ContentPolicy {
    shared: Arc<Shared>,
    /// Which keys of a request are content.
    known: KeyReader<()>,
}

impl Processor for ContentPolicy {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let Self { shared, known } = self;
        let Shared { settings, flow, counters } = &**shared;
        flow.enter(&batch);
        let mut tally = [0; Outcome::ALL.len()];
        batch.for_each_mut(|span| {
            let outcome = match settings.action_for(span.view().tenant()) {
                Action::Keep => Outcome::Keep,
                action if !settings.apply(action, span, known) => Outcome::None,
                Action::Drop => Outcome::Drop,
                Action::Hash => Outcome::Hash,
            };
            tally[outcome as usize] += 1;
        });
        counters.iter().zip(tally).filter(|(_, n)| *n > 0).for_each(|(counter, n)| counter.add(n));
        flow.leave(batch, out);
    }
}

impl Settings {
    /// Drops or hashes the content of a span and says whether there was any.
    fn apply(&self, action: Action, span: &mut SpanMut<'_>, known: &mut KeyReader<()>) -> bool {
        let edit = |value: Value<'_>| match action {
            Action::Keep => AttributeEdit::Keep,
            Action::Drop => AttributeEdit::Remove,
            Action::Hash => AttributeEdit::Text(self.hasher.hash(value)),
        };
        let mut has_content = self.has_content(span.view(), known);
        if has_content {
            span.edit_attributes(|kv| match self.is_content(kv.key.as_bytes()) {
                true => edit(kv.value()),
                false => AttributeEdit::Keep,
            });
        }
        span.edit_events(|event, attributes| {
            let is_content_event = keys::is_content_event(event.name().as_bytes());
            attributes.edit_each(|kv| {
                let key = kv.key.as_bytes();
                if self.is_content(key) || is_content_event && keys::content_in_event(key) {
                    has_content = true;
                    return edit(kv.value());
                }
                AttributeEdit::Keep
            });
        });
        has_content
    }

    /// Whether any of the span's own attributes is content.
    fn has_content(&self, span: Span<'_>, known: &mut KeyReader<()>) -> bool {
        let mut found = false;
        span.read(known, |(), _| found = true);
        found || self.has_patterns() && span.raw_attributes().any(|kv| self.is_named(kv.key.as_bytes()))
    }

    fn is_content(&self, key: &[u8]) -> bool {
        keys::content(key).is_some() || self.is_named(key)
    }
}
