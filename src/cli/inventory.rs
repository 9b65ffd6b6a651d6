//! `weir components`: what this build can do, as YAML in the form of the Collector's command of that name.

use std::process::ExitCode;

use weir_pipeline::config::{Source, Tree};
use weir_pipeline::graph::{Component, Components};
use weir_pipeline::signal::Signal;

use super::answer;
use crate::components;

pub(super) fn components() -> anyhow::Result<ExitCode> {
    let Components { receivers, processors, exporters, extensions, connectors, missing: _ } = components::all();
    let signal = |signal: &Signal| signal.to_string();
    let build = [
        ("command", env!("CARGO_PKG_NAME")),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    let providers = Source::SCHEMES.iter().map(|scheme| map(vec![("scheme", (*scheme).into())]));
    answer(
        &map(vec![
            ("buildinfo", map(build.map(|(key, value)| (key, value.into())).to_vec())),
            ("receivers", list(&receivers, signal)),
            ("processors", list(&processors, signal)),
            ("exporters", list(&exporters, signal)),
            ("connectors", list(&connectors, |signal| format!("{signal}-to-{signal}"))),
            ("extensions", Tree::List(extensions.iter().map(|e| described(e, vec!["extension".to_owned()])).collect())),
            ("providers", Tree::List(providers.collect())),
        ])
        .to_yaml(),
    )
}

fn list<T>(types: &[Component<T>], name: impl Fn(&Signal) -> String) -> Tree {
    Tree::List(
        types.iter().map(|component| described(component, component.signals.iter().map(&name).collect())).collect(),
    )
}

/// A component, and its stability in each of its uses.
fn described<T>(component: &Component<T>, uses: Vec<String>) -> Tree {
    let mut entries = vec![("name", component.name.into())];
    if !component.aliases.is_empty() {
        entries.push(("aliases", Tree::List(component.aliases.iter().map(|alias| (*alias).into()).collect())));
    }
    if !component.signals.is_empty() {
        let signals = component.signals.iter().map(|signal| signal.as_str().into());
        entries.push(("signals", Tree::List(signals.collect())));
    }
    let stability = uses.into_iter().map(|using| (using, component.stability.to_string().as_str().into()));
    entries.push(("stability", Tree::Map(stability.collect())));
    map(entries)
}

fn map(entries: Vec<(&str, Tree)>) -> Tree {
    Tree::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
