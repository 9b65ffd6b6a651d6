//! `weir projects`, `envs`, `keys`, `retention` and `maintain`: looking after what is in a store.
//!
//! What was asked for goes to the standard output; what is said about it, and every question, to the standard error.

mod arguments;
pub(super) mod envs;
pub(super) mod keys;
pub(super) mod maintain;
pub(super) mod projects;
pub(super) mod retention;

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, bail};
use serde::Serialize;
use weir_pipeline::tenant::Slug;
use weir_store::maintain::{Removed, Stored};
use weir_store::registry::RegistryError;

use super::store::slug;

/// Says something to the person at the terminal.
fn say(text: &str) {
    // Nobody is left to tell if that fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// An answer as pretty JSON, in the words of the admin API.
///
/// # Errors
/// None that can happen: it has texts and numbers.
fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Rows below each other, in columns.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Tells of objects that cannot be read; what hangs on the others is answered.
fn complain(unreadable: &[RegistryError]) {
    unreadable.iter().for_each(|error| crate::logging::complain(&error.to_string()));
}

/// Tells what is about to go, and asks for the slug to be typed, unless that was said already.
fn confirm(what: &str, slug: &Slug, goes: &[String], yes: bool) -> anyhow::Result<()> {
    say(&format!("{what} will be deleted for good, with:"));
    goes.iter().for_each(|line| say(&format!("  {line}")));
    if yes {
        return Ok(());
    }
    let mut out = std::io::stderr().lock();
    write!(out, "Type {slug} to delete it: ").and_then(|()| out.flush()).context("cannot ask")?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    match line.trim() {
        typed if typed == slug.as_str() => Ok(()),
        _ if read == 0 => {
            say("");
            bail!("nothing was deleted: type {slug} when asked, or give --yes")
        }
        _ => bail!("nothing was deleted: that was not {slug}"),
    }
}

/// What is stored, a line for each environment.
fn lines(stored: &Stored) -> Vec<String> {
    stored.0.iter().map(|(environment, amount)| format!("{environment}: {amount}")).collect()
}

/// `1 key`, `3 keys`.
fn keys_line(keys: usize) -> String {
    format!("{keys} key{}", if keys == 1 { "" } else { "s" })
}

/// Tells what went.
fn removed_lines(removed: &Removed) -> Vec<String> {
    let mut lines = lines(&removed.environments);
    lines.push(format!("{} deleted from the store", removed.freed));
    lines
}
