//! The configuration as a whole: components by section, and the pipelines that connect them.
//!
//! What the bodies of components mean is not known here; see [`Node::parse_as`].

mod validate;

#[cfg(test)]
mod tests;

use super::error::{ConfigError, ConfigErrors, Location, Warning};
use super::id::{ComponentId, InvalidId, PipelineId};
use super::node::{Key, Node, Value};
use super::provider::Source;
use super::{expand, merge, suggest};
use crate::file::Reading;

/// A configuration whose ids and references are right.
#[derive(Debug, Clone)]
pub struct Document {
    /// The `receivers` section, in the order of the text; so are all the others.
    pub receivers: Vec<(ComponentId, Node)>,
    /// The `processors` section.
    pub processors: Vec<(ComponentId, Node)>,
    /// The `exporters` section.
    pub exporters: Vec<(ComponentId, Node)>,
    /// The `connectors` section.
    pub connectors: Vec<(ComponentId, Node)>,
    /// The `extensions` section.
    pub extensions: Vec<(ComponentId, Node)>,
    /// The `service` section.
    pub service: Service,
    /// All of it as one tree, for printing.
    pub root: Node,
    /// What the user should know all the same: unset variables, for one.
    pub warnings: Vec<Warning>,
}

/// A configuration that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDocument {
    /// What is wrong.
    pub errors: ConfigErrors,
    /// What may have led to it: a variable that is not set, a section that a later source removed.
    pub warnings: Vec<Warning>,
}

/// The `service` section: what is started, and how it is connected.
#[derive(Debug, Clone)]
pub struct Service {
    /// The pipelines.
    pub pipelines: Vec<Pipeline>,
    /// The extensions to start, in this order.
    pub extensions: Vec<Reference>,
    /// The `telemetry` section; null if there is none.
    pub telemetry: Node,
}

/// One pipeline: receivers, then processors in order, then exporters.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name, which tells its signal.
    pub id: PipelineId,
    /// What feeds it: receivers, and connectors that another pipeline exports to. Each once.
    pub receivers: Vec<Reference>,
    /// What its telemetry passes through, in this order.
    pub processors: Vec<Reference>,
    /// What it feeds: exporters, and connectors that another pipeline receives from. Each once.
    pub exporters: Vec<Reference>,
    /// Where its key is.
    pub location: Location,
}

/// A component named in a pipeline or list, and where.
pub type Reference = (ComponentId, Location);

/// The keys at the top.
const SECTIONS: [&str; 6] = ["receivers", "processors", "exporters", "connectors", "extensions", "service"];

impl Document {
    /// [Reads](Self::read) texts, each under a name for error messages.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn parse<N: AsRef<str>, T: AsRef<str>>(
        sources: impl IntoIterator<Item = (N, T)>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let sources = sources.into_iter().map(|(name, text)| Source::text(name.as_ref(), text.as_ref()));
        Self::read(sources, env, Reading::First).map_err(|refused| refused.errors)
    }

    /// Reads configuration sources, the later laid over the earlier: mappings merge, lists and other values replace, and
    /// so does a key without a value. Then `${…}` references are expanded, `env` being how a variable is looked up, and
    /// `reading` whether the files that they name may be pipes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, not only the first thing; of a text that is not YAML, that alone.
    pub fn read(
        sources: impl IntoIterator<Item = Source>,
        env: &dyn Fn(&str) -> Option<String>,
        reading: Reading,
    ) -> Result<Self, RefusedDocument> {
        let mut reader = Reader::default();
        let mut root: Option<Node> = None;
        for source in sources {
            match source.parse() {
                Ok(node) if !matches!(node.value(), Value::Map(_) | Value::Null) => {
                    reader.error(node.location(), "", format!("expected a mapping, found {}", node.describe())).hint =
                        Some(format!("known keys: {}", SECTIONS.join(", ")));
                }
                Ok(node) => match &mut root {
                    None => root = Some(node),
                    Some(root) => merge::merge(root, node, &mut reader.warnings),
                },
                Err(error) => reader.errors.push(error),
            }
        }
        if !reader.errors.is_empty() {
            return Err(reader.refuse());
        }
        let mut root = root.unwrap_or_else(|| Node::null("configuration"));
        let (warnings, errors) = expand::expand(&mut root, env, reading);
        reader.warnings.extend(warnings);
        reader.errors = errors;

        let document = reader.document(&root);
        if reader.errors.is_empty() {
            return Ok(Self { root, warnings: reader.warnings, ..document });
        }
        // In the order of the text; errors without a place come first.
        reader.errors.sort_by(|a, b| a.location.cmp(&b.location));
        Err(reader.refuse())
    }
}

/// Collects what is right and what is wrong.
#[derive(Default)]
struct Reader {
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

impl Reader {
    fn refuse(self) -> RefusedDocument {
        RefusedDocument { errors: ConfigErrors(self.errors), warnings: self.warnings }
    }

    fn document(&mut self, root: &Node) -> Document {
        let section = |name: &str| root.get(name);
        let mut components = |name: &str| self.components(name, section(name));
        let document = Document {
            receivers: components("receivers"),
            processors: components("processors"),
            exporters: components("exporters"),
            connectors: components("connectors"),
            extensions: components("extensions"),
            service: self.service(section("service"), root.location()),
            root: Node::null("configuration"),
            warnings: Vec::new(),
        };
        // As in the Collector, a file without a component is empty, whatever `service` says.
        let is_empty = |name: &str| match root.get(name).map(Node::value) {
            None | Some(Value::Null) => true,
            Some(Value::Map(entries)) => entries.is_empty(),
            Some(_) => false,
        };
        if root.entries().iter().all(|(key, _)| SECTIONS.contains(&key.text.as_str()))
            && SECTIONS.iter().take(SECTIONS.len() - 1).all(|name| is_empty(name))
        {
            self.errors.clear();
            self.error(root.location(), "", "empty configuration file").hint =
                Some("it needs at least `receivers`, `exporters` and `service::pipelines`".to_owned());
            return document;
        }
        self.check_keys(root, "", &SECTIONS);
        validate::validate(self, root, &document);
        document
    }

    fn components(&mut self, section: &str, node: Option<&Node>) -> Vec<(ComponentId, Node)> {
        let mut components = Vec::new();
        for (key, body) in self.entries(node, section) {
            if let Some(id) = self.id::<ComponentId>(&key.text, &key.location, section) {
                components.push((id, body.clone()));
            }
        }
        components
    }

    fn service(&mut self, node: Option<&Node>, start: &Location) -> Service {
        self.entries(node, "service");
        let mut service = Service {
            pipelines: Vec::new(),
            extensions: Vec::new(),
            telemetry: Node::new(Value::Null, node.map_or(start, Node::location).clone()),
        };
        let Some(node) = node else { return service };
        self.check_keys(node, "service", &["extensions", "pipelines", "telemetry"]);
        service.extensions = self.references(node.get("extensions"), "service::extensions", "extensions");
        if let Some(telemetry) = node.get("telemetry") {
            service.telemetry = telemetry.clone();
        }
        for (key, body) in self.entries(node.get("pipelines"), "service::pipelines") {
            service.pipelines.extend(self.pipeline(key, body));
        }
        service
    }

    fn pipeline(&mut self, key: &Key, body: &Node) -> Option<Pipeline> {
        let path = format!("service::pipelines::{}", key.text);
        self.entries(Some(body), &path);
        self.check_keys(body, &path, &["receivers", "processors", "exporters"]);
        let mut list = |name: &str| self.references(body.get(name), &format!("{path}::{name}"), name);
        let (receivers, processors, exporters) = (list("receivers"), list("processors"), list("exporters"));
        let id = self.id::<PipelineId>(&key.text, &key.location, "service::pipelines")?;
        Some(Pipeline { id, receivers, processors, exporters, location: key.location.clone() })
    }

    /// A list of component ids. Processors may not be repeated, which is checked later; the others count once.
    fn references(&mut self, node: Option<&Node>, path: &str, kind: &str) -> Vec<Reference> {
        let Some(node) = node else { return Vec::new() };
        if !matches!(node.value(), Value::List(_) | Value::Null) {
            self.error(node.location(), path, format!("expected a list, found {}", node.describe())).hint =
                Some("a list of one is written `[item]`".to_owned());
            return Vec::new();
        }
        let mut references: Vec<Reference> = Vec::new();
        for (i, item) in node.items().iter().enumerate() {
            let path = format!("{path}[{i}]");
            let Some(text) = item.text() else {
                let message = format!("expected the id of a component, found {}", item.describe());
                self.error(item.location(), &path, message);
                continue;
            };
            if let Some(expansion) = item.expansion()
                && text.parse::<ComponentId>().is_err()
                && !text.contains("${")
            {
                // What is no id may be anything, a secret for one.
                let message = format!("expected the id of a component, found the value of `{}`", expansion.written);
                self.error(item.location(), &path, message);
                continue;
            }
            let Some(id) = self.id::<ComponentId>(text, item.location(), &path) else { continue };
            if kind != "processors" && references.iter().any(|(known, _)| *known == id) {
                self.warnings.push(Warning {
                    location: item.location().clone(),
                    path,
                    message: format!("`{id}` is listed twice and counts once"),
                });
            } else {
                references.push((id, item.location().clone()));
            }
        }
        references
    }

    fn id<I: std::str::FromStr<Err = InvalidId>>(&mut self, text: &str, at: &Location, path: &str) -> Option<I> {
        match text.parse() {
            Ok(id) => Some(id),
            // A reference that could not be expanded, and was reported.
            Err(_) if text.contains("${") && self.errors.iter().any(|error| error.location.as_ref() == Some(at)) => {
                None
            }
            Err(InvalidId { message, hint }) => {
                self.error(at, path, message).hint = hint;
                None
            }
        }
    }

    /// The entries of a mapping, or of nothing; anything else is an error.
    fn entries<'n>(&mut self, node: Option<&'n Node>, path: &str) -> &'n [(Key, Node)] {
        let Some(node) = node else { return &[] };
        if !matches!(node.value(), Value::Map(_) | Value::Null) {
            self.error(node.location(), path, format!("expected a mapping, found {}", node.describe()));
        }
        node.entries()
    }

    fn check_keys(&mut self, node: &Node, path: &str, known: &[&str]) {
        for (key, _) in node.entries().iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            self.error(&key.location, path, format!("unknown key `{}`", key.text)).hint =
                suggest::hint(&key.text, "known keys", known);
        }
    }

    fn error(&mut self, at: &Location, path: &str, message: impl Into<String>) -> &mut ConfigError {
        let last = self.errors.len();
        self.errors.push(ConfigError::new(at, path, message));
        // One was just pushed.
        &mut self.errors[last]
    }
}
