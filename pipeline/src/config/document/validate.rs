//! The rules between components, with the Collector's messages: users search for them.
//!
//! Which signals a connector joins is known to its component only. Here a connector joins the pipelines of one signal
//! where it can, and of different signals otherwise; the graph, which asks the component, has the last word.

use super::super::error::Location;
use super::super::id::ComponentId;
use super::super::node::Node;
use super::super::suggest;
use super::{Document, Pipeline, Reader, Reference};

pub(super) fn validate(reader: &mut Reader, root: &Node, document: &Document) {
    let at = |section: &str| root.get(section).map_or_else(|| root.location(), Node::location).clone();
    if document.receivers.is_empty() && reader.is_clean("receivers") {
        reader.error(&at("receivers"), "", "no receiver configuration specified in config");
    }
    if document.exporters.is_empty() && reader.is_clean("exporters") {
        reader.error(&at("exporters"), "", "no exporter configuration specified in config");
    }
    connector_ids(reader, root, document);
    if document.service.pipelines.is_empty() && reader.is_clean("service") {
        let location = root.get("service").and_then(|service| service.get("pipelines")).map(Node::location).cloned();
        let location = location.unwrap_or_else(|| at("service"));
        reader.error(&location, "service::pipelines", "service must have at least one pipeline");
    }
    let extensions = ids(&document.extensions);
    for reference in &document.service.extensions {
        check(reader, "service::extensions", "extension", reference, &extensions);
    }
    for pipeline in &document.service.pipelines {
        pipeline_references(reader, document, pipeline);
    }
    connector_sides(reader, document);
    cycles(reader, document);
}

impl Reader {
    /// Whether a section is empty by itself, and not because what is in it was wrong.
    fn is_clean(&self, section: &str) -> bool {
        !self.errors.iter().any(|error| error.path.starts_with(section))
    }
}

fn ids(section: &[(ComponentId, Node)]) -> Vec<&ComponentId> {
    section.iter().map(|(id, _)| id).collect()
}

fn connector_ids(reader: &mut Reader, root: &Node, document: &Document) {
    for (id, _) in &document.connectors {
        let text = id.to_string();
        let at = root.get("connectors").and_then(|section| section.entries().iter().find(|(key, _)| key.text == text));
        let location = at.map_or_else(|| root.location(), |(key, _)| &key.location);
        for (kind, section) in [("exporter", &document.exporters), ("receiver", &document.receivers)] {
            if section.iter().any(|(other, _)| other == id) {
                let message = format!(
                    "ambiguous ID: Found both \"{id}\" {kind} and \"{id}\" connector. Change one of the components' \
                     IDs to eliminate ambiguity (e.g. rename \"{id}\" connector to \"{id}/connector\")"
                );
                reader.error(location, &format!("connectors::{id}"), message);
            }
        }
    }
}

fn pipeline_references(reader: &mut Reader, document: &Document, pipeline: &Pipeline) {
    let path = format!("service::pipelines::{}", pipeline.id);
    let connectors = ids(&document.connectors);
    let with_connectors = |section| [ids(section), connectors.clone()].concat();
    let ends = [
        ("receiver", &pipeline.receivers, with_connectors(&document.receivers)),
        ("exporter", &pipeline.exporters, with_connectors(&document.exporters)),
    ];
    for (kind, references, configured) in &ends {
        if references.is_empty() && reader.is_clean(&format!("{path}::{kind}s")) {
            reader.error(&pipeline.location, &path, format!("must have at least one {kind}"));
        }
        for reference in *references {
            check(reader, &path, kind, reference, configured);
        }
    }
    let processors = ids(&document.processors);
    for (i, (id, location)) in pipeline.processors.iter().enumerate() {
        if pipeline.processors.iter().take(i).any(|(earlier, _)| earlier == id) {
            reader.error(location, &path, format!("references processor \"{id}\" multiple times"));
        } else {
            check(reader, &path, "processor", &(id.clone(), location.clone()), &processors);
        }
    }
}

fn check(reader: &mut Reader, path: &str, kind: &str, (id, location): &Reference, configured: &[&ComponentId]) {
    // Of a section that could not be read, nothing is known.
    if configured.contains(&id) || configured.is_empty() && !reader.is_clean(&format!("{kind}s")) {
        return;
    }
    let names: Vec<String> = configured.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = suggest::hint(&id.to_string(), "configured", &names)
        .unwrap_or_else(|| format!("there is nothing in the `{kind}s` section"));
    reader.error(location, path, format!("references {kind} \"{id}\" which is not configured")).hint = Some(hint);
}

fn connector_sides(reader: &mut Reader, document: &Document) {
    for (id, _) in &document.connectors {
        let users = |side: fn(&Pipeline) -> &[Reference]| -> Vec<(&Pipeline, &Location)> {
            let place = |pipeline| side(pipeline).iter().find(|(other, _)| other == id).map(|(_, at)| (pipeline, at));
            document.service.pipelines.iter().filter_map(place).collect()
        };
        let as_exporter = users(|pipeline| &pipeline.exporters);
        let as_receiver = users(|pipeline| &pipeline.receivers);
        let (side, other, users) = match (as_exporter.as_slice(), as_receiver.as_slice()) {
            ([], []) => continue,
            (users, []) => ("exporter", "receiver", users),
            ([], users) => ("receiver", "exporter", users),
            _ => continue,
        };
        let Some((_, location)) = users.first() else { continue };
        let names: Vec<String> = users.iter().map(|(pipeline, _)| pipeline.id.to_string()).collect();
        let message = format!(
            "connector \"{id}\" used as {side} in [{}] pipeline but not used in any supported {other} pipeline",
            names.join(" ")
        );
        reader.error(location, &format!("connectors::{id}"), message);
    }
}

/// A way from one pipeline to the next, through a connector.
struct Edge<'d> {
    connector: &'d Reference,
    to: usize,
}

fn cycles(reader: &mut Reader, document: &Document) {
    let pipelines = &document.service.pipelines;
    let edges: Vec<Vec<Edge<'_>>> = pipelines.iter().map(|from| edges_of(document, from)).collect();
    // Depth first, without recursion: there may be as many pipelines in a row as someone cares to write.
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; pipelines.len()];
    for start in 0..pipelines.len() {
        // The pipelines on the way, each with the edge that is followed next.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((at, next)) = way.last_mut() {
            let at = *at;
            match (states.get(at), edges.get(at).and_then(|edges| edges.get(*next))) {
                (None | Some(State::Done), _) | (_, None) => {
                    if let Some(state) = states.get_mut(at) {
                        *state = State::Done;
                    }
                    way.pop();
                }
                (Some(_), Some(edge)) => {
                    *next += 1;
                    if let Some(state) = states.get_mut(at) {
                        *state = State::Open;
                    }
                    match states.get(edge.to) {
                        Some(State::New) => way.push((edge.to, 0)),
                        Some(State::Open) => {
                            report_cycle(reader, pipelines, &edges, &way, edge.to);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn edges_of<'d>(document: &'d Document, from: &'d Pipeline) -> Vec<Edge<'d>> {
    let mut edges = Vec::new();
    for connector in &from.exporters {
        if !document.connectors.iter().any(|(id, _)| *id == connector.0) {
            continue;
        }
        let receives = |pipeline: &Pipeline| pipeline.receivers.iter().any(|(id, _)| *id == connector.0);
        let pipelines = || document.service.pipelines.iter().enumerate().filter(|(_, pipeline)| receives(pipeline));
        let same_signal = pipelines().any(|(_, to)| to.id.signal == from.id.signal);
        edges.extend(
            pipelines()
                .filter(|(_, to)| !same_signal || to.id.signal == from.id.signal)
                .map(|(to, _)| Edge { connector, to }),
        );
    }
    edges
}

/// Describes the end of the way that leads back to `first`, from connector to connector.
fn report_cycle(
    reader: &mut Reader,
    pipelines: &[Pipeline],
    edges: &[Vec<Edge<'_>>],
    way: &[(usize, usize)],
    first: usize,
) {
    let begin = way.iter().position(|(at, _)| *at == first).unwrap_or(0);
    let mut steps = Vec::new();
    let mut location = None;
    for &(at, next) in way.iter().skip(begin) {
        let edge = edges.get(at).and_then(|edges| edges.get(next.saturating_sub(1)));
        let (Some(from), Some(edge)) = (pipelines.get(at), edge) else { return };
        let Some(to) = pipelines.get(edge.to) else { return };
        for (processor, _) in &from.processors {
            steps.push(format!("processor \"{processor}\" in pipeline \"{}\"", from.id));
        }
        let (id, at) = edge.connector;
        steps.push(format!("connector \"{id}\" ({} to {})", from.id.signal, to.id.signal));
        location.get_or_insert(at);
    }
    // The connector that closes the cycle also opens it, as in the Collector.
    if let (Some(last), Some(location)) = (steps.last().cloned(), location) {
        reader.error(location, "", format!("cycle detected: {last} -> {}", steps.join(" -> ")));
    }
}
