//! From a catalog file and what is laid over it to a loaded catalog.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use weir_pipeline::hex::Hex;

use super::format::{FORMAT, File};
use super::{Catalog, CatalogError, EMBEDDED, load};

/// A catalog in the making: a file, then overlays, then [`build`](Self::build).
#[derive(Debug, Clone)]
pub struct CatalogBuilder<'a> {
    pub(super) file: File<'a>,
    /// The text of the file, as long as nothing was laid over it.
    unchanged: Option<&'a str>,
}

impl CatalogBuilder<'static> {
    /// The catalog in the binary.
    pub fn embedded() -> Result<Self, CatalogError> {
        Self::parse(EMBEDDED)
    }
}

impl<'a> CatalogBuilder<'a> {
    /// Reads a catalog file; it is checked when it is built.
    pub fn parse(json: &'a str) -> Result<Self, CatalogError> {
        let mut file: File<'_> = serde_json::from_str(json)?;
        if !(1..=FORMAT).contains(&file.format) {
            return Err(CatalogError::Format(file.format));
        }
        file.format = FORMAT;
        Ok(Self { file, unchanged: Some(json) })
    }

    /// Loads the catalog and checks it completely.
    pub fn build(&self) -> Result<Catalog, CatalogError> {
        let catalog = self.load()?;
        catalog.check()?;
        Ok(catalog)
    }

    /// Loads it without trying its patterns.
    pub(super) fn load(&self) -> Result<Catalog, CatalogError> {
        let version = match self.unchanged {
            Some(text) => version(&self.file.source.date, text),
            None => version(&self.file.source.date, &self.to_json()?),
        };
        load::load(&self.file, version)
    }

    /// The file as it is to be changed.
    pub(super) fn change(&mut self) -> &mut File<'a> {
        self.unchanged = None;
        &mut self.file
    }

    /// The whole of it as a catalog file, a model a line.
    pub fn to_json(&self) -> Result<String, CatalogError> {
        let File { format, source, providers } = &self.file;
        let mut out =
            format!("{{\"format\":{format},\n\"source\":{},\n\"providers\":[\n", serde_json::to_string(source)?);
        for (at, provider) in providers.iter().enumerate() {
            let mut head = provider.clone();
            let models = std::mem::take(&mut head.models);
            let head = serde_json::to_string(&head)?;
            let comma = |at: usize, len: usize| if at + 1 < len { "," } else { "" };
            // `models` is the last field, and empty here.
            out.push_str(head.strip_suffix("]}").unwrap_or(&head));
            out.push('\n');
            for (at, model) in models.iter().enumerate() {
                out.push_str(&serde_json::to_string(model)?);
                // Writing to a string cannot fail.
                let _ = writeln!(out, "{}", comma(at, models.len()));
            }
            let _ = writeln!(out, "]}}{}", comma(at, providers.len()));
        }
        out.push_str("]}\n");
        Ok(out)
    }
}

fn version(date: &str, text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex = Hex(digest.get(..6).unwrap_or_default());
    format!("{date}-{hex}")
}
