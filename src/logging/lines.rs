//! Events as lines.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use anyhow::Context as _;
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::config::{Encoding, OutputPath, Settings};
use super::sampling::Sampler;

const CONSOLE_TIME: StaticFormatDescription = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
const JSON_TIME: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The fields in which Weir's components say who speaks.
const KINDS: [&str; 5] = ["receiver", "processor", "exporter", "connector", "extension"];

/// Writes events as lines. Clones share what they do.
#[derive(Clone)]
pub(super) struct Lines(Arc<RwLock<Setup>>);

/// What is written where.
pub(super) struct Setup {
    encoding: Encoding,
    sampler: Option<Sampler>,
    initial_fields: Vec<(String, String)>,
    outputs: Vec<Output>,
}

enum Output {
    Stderr { is_terminal: bool },
    Stdout { is_terminal: bool },
    File(Mutex<File>),
}

impl Lines {
    pub(super) fn new(setup: Setup) -> Self {
        Self(Arc::new(RwLock::new(setup)))
    }

    /// Changes what is written where.
    pub(super) fn adopt(&self, setup: Setup) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = setup;
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let setup = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut fields = Fields::default();
        event.record(&mut fields);
        setup.write(*event.metadata().level(), &fields, OffsetDateTime::now_utc());
    }
}

impl Setup {
    /// Opens the outputs.
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let open = |path: &OutputPath| {
            Ok(match path {
                OutputPath::Stderr => Output::Stderr { is_terminal: std::io::stderr().is_terminal() },
                OutputPath::Stdout => Output::Stdout { is_terminal: std::io::stdout().is_terminal() },
                OutputPath::File(path) => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    let named = || format!("service::telemetry::logs::output_paths: cannot open {}", path.display());
                    Output::File(Mutex::new(file.with_context(named)?))
                }
            })
        };
        Ok(Self {
            encoding: settings.encoding,
            sampler: settings.sampling.map(Sampler::new),
            initial_fields: settings.initial_fields.clone().into_iter().collect(),
            outputs: settings.outputs.iter().map(open).collect::<anyhow::Result<_>>()?,
        })
    }

    fn write(&self, level: Level, fields: &Fields, now: OffsetDateTime) {
        if self.sampler.as_ref().is_some_and(|sampler| !sampler.admits(level, &fields.message, Instant::now())) {
            return;
        }
        for output in &self.outputs {
            let line = match self.encoding {
                Encoding::Json => json(level, fields, &self.initial_fields, now),
                Encoding::Console => console(level, fields, &self.initial_fields, now, output.is_terminal()),
            };
            // Nothing can be done about an output that does not take it.
            let _ = match output {
                Output::Stderr { .. } => std::io::stderr().lock().write_all(line.as_bytes()),
                Output::Stdout { .. } => std::io::stdout().lock().write_all(line.as_bytes()),
                Output::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()),
            };
        }
    }
}

impl Output {
    fn is_terminal(&self) -> bool {
        match self {
            Self::Stderr { is_terminal } | Self::Stdout { is_terminal } => *is_terminal,
            Self::File(_) => false,
        }
    }
}

/// What an event says.
#[derive(Default)]
pub(crate) struct Fields {
    pub(super) message: String,
    pub(super) others: Vec<(&'static str, Value)>,
}

pub(super) enum Value {
    Text(String),
    /// A number or boolean, as JSON writes it.
    Plain(String),
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Plain(text) => text,
        }
    }
}

impl Fields {
    /// Adds the message and, behind these, the other fields to a line for a person.
    pub(crate) fn put(&self, line: &mut String, initial: &[(String, String)]) {
        one_line(line, &self.message);
        let initial = initial.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in initial.chain(self.others.iter().map(|(name, value)| (*name, value.text()))) {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}=");
            one_line(line, value);
        }
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.others.push((field.name(), Value::Plain(value.to_string())));
    }

    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            name => self.others.push((name, Value::Text(text))),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.plain(field, value) } else { self.text(field, value.to_string()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
}

/// A line of JSON.
pub(super) fn json(level: Level, fields: &Fields, initial: &[(String, String)], now: OffsetDateTime) -> String {
    let mut line = String::with_capacity(256);
    let mut entry = |name: &str, value: &Value| {
        line.push(if line.is_empty() { '{' } else { ',' });
        line.push_str(&quote(name));
        line.push(':');
        match value {
            Value::Plain(plain) => line.push_str(plain),
            Value::Text(text) => line.push_str(&quote(text)),
        }
    };
    entry("level", &Value::Text(level.as_str().to_ascii_lowercase()));
    entry("ts", &Value::Text(now.format(JSON_TIME).unwrap_or_default()));
    entry("msg", &Value::Text(fields.message.clone()));
    for (name, value) in initial {
        entry(name, &Value::Text(value.clone()));
    }
    for (name, value) in &fields.others {
        if KINDS.contains(name) {
            entry("otelcol.component.id", value);
            entry("otelcol.component.kind", &Value::Text((*name).to_owned()));
        } else {
            entry(name, value);
        }
    }
    line.push_str("}\n");
    line
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A line for a person.
pub(super) fn console(
    level: Level,
    fields: &Fields,
    initial: &[(String, String)],
    now: OffsetDateTime,
    in_color: bool,
) -> String {
    let color = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => "34",
    };
    let time = now.format(CONSOLE_TIME).unwrap_or_default();
    let mut line = if in_color {
        format!("\u{1b}[2m{time}\u{1b}[0m \u{1b}[{color}m{level:>5}\u{1b}[0m ")
    } else {
        format!("{time} {level:>5} ")
    };
    fields.put(&mut line, initial);
    line.push('\n');
    line
}

/// Adds a text without anything that could end the line or change the terminal.
fn one_line(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
}
