//! The `span` processor: makes a span's name of attributes, attributes of its name, and sets its status.
//!
//! ```yaml
//! processors:
//!   span:
//!     include: {match_type: regexp, services: [banks]}     # which spans, if not all
//!     name:
//!       from_attributes: [db.svc, operation, id]           # all must be there, else the name stays
//!       separator: "::"
//!       to_attributes:
//!         rules: ['^/api/v1/document/(?P<documentId>.*)/update$']
//!         break_after_match: false                         # true: no further rule once one has matched
//!         keep_original_name: false                        # true: the name stays as it is
//!     status: {code: Error, description: not good}         # Unset, Ok or Error; a description for Error only
//! ```
//!
//! As in the Collector: first the name is made of attributes, then the rules are applied to it, each to the name that
//! the one before has left, then the status is set. A rule that matches sets one attribute for each of its groups and
//! puts the group's name in braces in its place: `/api/v1/document/{documentId}/update`. One without groups changes
//! nothing; with `break_after_match` it keeps the rules behind it from what it matches.
//!
//! Decision: the Collector makes an attribute with an empty key of a group without a name. Here such a group is an error.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use regex::Regex;
use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::{Batch, NewValue, Span, SpanMut};
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};

use self::config::Settings;
use crate::flow::Flow;

pub use self::config::schema;

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    Ok(Arc::new(SpanFactory(Arc::new((settings, Flow::new(&section.context))))))
}

struct SpanFactory(Arc<(Settings, Flow)>);

impl ProcessorFactory for SpanFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(SpanProcessor(Arc::clone(&self.0)))
    }
}

/// A pattern and the attributes that its groups become.
struct Rule {
    pattern: Regex,
    names: Vec<String>,
}

struct SpanProcessor(Arc<(Settings, Flow)>);

impl Processor for SpanProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let (settings, flow) = &*self.0;
        flow.enter(&batch);
        batch.for_each_mut(|span| {
            if settings.selection.selects(span.view()) {
                settings.apply(span);
            }
        });
        flow.leave(batch, out);
    }
}

impl Settings {
    fn apply(&self, span: &mut SpanMut<'_>) {
        if let Some(name) = self.name_of(span.view()) {
            span.set_name(&name);
        }
        if !self.rules.is_empty() {
            self.split_name(span);
        }
        if let Some((code, description)) = &self.status {
            span.set_status(*code, description);
        }
    }

    /// The name that the attributes make, if all of them are there.
    fn name_of(&self, span: Span<'_>) -> Option<String> {
        if self.from_attributes.is_empty() {
            return None;
        }
        let mut name = String::new();
        for (n, key) in self.from_attributes.iter().enumerate() {
            let value = span.attr(key)?;
            if n > 0 {
                name.push_str(&self.separator);
            }
            match value {
                Value::Str(_) | Value::Bool(_) | Value::Int(_) | Value::Double(_) => {
                    name.push_str(&value.to_plain_text());
                }
                // The Collector's own words.
                _ => name.push_str("<unknown-attribute-type>"),
            }
        }
        Some(name)
    }

    fn split_name(&self, span: &mut SpanMut<'_>) {
        let mut name = span.view().name().to_string();
        if name.is_empty() {
            return;
        }
        let mut changed = false;
        for rule in &self.rules {
            let Some(captures) = rule.pattern.captures(&name) else { continue };
            let mut renamed = String::with_capacity(name.len());
            let mut done = 0;
            for (n, key) in rule.names.iter().enumerate() {
                let Some(group) = captures.get(n + 1) else { continue };
                span.set(key, NewValue::Str(group.as_str()));
                // A group within another one has been replaced with it.
                if let Some(between) = name.get(done..group.start()) {
                    renamed.push_str(between);
                    renamed.push('{');
                    renamed.push_str(key);
                    renamed.push('}');
                    done = group.end();
                }
            }
            if !self.keep_original_name && !rule.names.is_empty() {
                renamed.push_str(&name[done..]);
                name = renamed;
                changed = true;
            }
            if self.break_after_match {
                break;
            }
        }
        if changed {
            span.set_name(&name);
        }
    }
}
