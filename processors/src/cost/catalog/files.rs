//! Reading the files that a catalog is made of.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use weir_pipeline::config::Node;
use weir_pipeline::fetch::Fetch;

use super::settings::{CatalogSettings, OverlaySource, Place};
use super::sources::Sources;
use super::{Catalog, CatalogBuilder, EMBEDDED, Litellm, Overlay};

/// Larger files are no price lists: LiteLLM's has 2 MB.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// The texts of the files, as far as there are any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    catalog: Option<String>,
    litellm: Option<String>,
    overlay: Option<String>,
    history: Option<String>,
}

/// A catalog and what came with it.
#[derive(Debug)]
pub struct Loaded {
    /// The catalog.
    pub catalog: Catalog,
    /// What became of the LiteLLM file; empty if there is none.
    pub litellm: Litellm,
    /// The catalog as a file, without the user's overlay: the history of the next.
    pub(super) history: String,
}

impl Files {
    /// Reads what the settings name; of what is at a URL, the copy.
    ///
    /// # Errors
    /// A file that cannot be read, with its name. A history that does not exist yet is none.
    pub(super) fn read(settings: &CatalogSettings, sources: &Sources) -> Result<Self, String> {
        let text = |file: Option<&Path>| file.map(read).transpose();
        let list = |place: &Option<Place>, copy: Option<&str>| match place {
            Some(Place::File(file)) => read(file).map(Some),
            Some(Place::Url(_)) | None => Ok(copy.map(str::to_owned)),
        };
        let overlay = match &settings.overlay {
            Some(OverlaySource::File(file)) => Some(file.as_path()),
            _ => None,
        };
        let history = match settings.history.as_deref() {
            Some(file) if file.exists() => Some(read(file)?),
            _ => None,
        };
        Ok(Self {
            catalog: list(&settings.path, sources.catalog())?,
            litellm: list(&settings.litellm, sources.litellm())?,
            overlay: text(overlay)?,
            history,
        })
    }

    /// The history that was kept.
    pub(super) fn history(&self) -> Option<&str> {
        self.history.as_deref()
    }

    /// Whether the prices in them are the same; the history is written by Weir itself.
    pub(super) fn has_same_prices(&self, other: &Self) -> bool {
        (&self.catalog, &self.litellm, &self.overlay) == (&other.catalog, &other.litellm, &other.overlay)
    }

    /// Makes the catalog, with the history of an older one.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn load(
        &self,
        settings: &CatalogSettings,
        older: Option<&str>,
        now_unix_seconds: i64,
    ) -> Result<Loaded, String> {
        let name = |place: &Option<Place>| place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let in_catalog = |e: super::CatalogError| format!("{}{e}", name(&settings.path));
        let text = self.catalog.as_deref().unwrap_or(EMBEDDED);
        let mut builder = CatalogBuilder::parse(text).map_err(in_catalog)?;
        // Before anything else, so that its errors are about this file.
        if self.catalog.is_some() {
            builder.build().map_err(in_catalog)?;
        }
        let mut litellm = Litellm::default();
        if let Some(text) = &self.litellm {
            litellm = builder.litellm(text).map_err(|e| format!("{}{e}", name(&settings.litellm)))?;
        }
        if let Some(older) = older {
            let name = name(&settings.history.clone().map(Place::File));
            builder.with_history(older, now_unix_seconds).map_err(|e| format!("{name}{e}"))?;
        }
        let history = builder.to_json().map_err(in_catalog)?;
        match (&settings.overlay, &self.overlay) {
            (Some(OverlaySource::Inline(overlay)), _) => builder.overlay(overlay).map_err(|e| e.to_string())?,
            (Some(OverlaySource::File(file)), Some(text)) => {
                let node = Node::parse(&file.display().to_string(), text).map_err(|e| e.to_string())?;
                let overlay = Overlay::from_node(&node, "").map_err(|e| e.to_string())?;
                builder.overlay(&overlay).map_err(|e| e.to_string())?;
            }
            _ => {}
        }
        let catalog = builder.build().map_err(in_catalog)?;
        Ok(Loaded { catalog, litellm, history })
    }
}

impl CatalogSettings {
    /// Makes the catalog that the settings describe, once. Lists at URLs are fetched with `fetcher`; one that cannot be
    /// had is replaced by its copy on disk.
    ///
    /// # Errors
    /// What is wrong with which file or URL, for the person who wrote it.
    pub fn load(&self, now_unix_seconds: i64, fetcher: Option<&dyn Fetch>) -> Result<Loaded, String> {
        let mut sources = Sources::open(self);
        if !sources.is_empty() {
            let fetcher = fetcher.ok_or(NO_FETCHER)?;
            let (fetched, problems) = sources.fetch(fetcher, now_unix_seconds);
            if let (Some(problem), false) = (problems.first(), fetched.is_complete()) {
                return Err(problem.clone());
            }
            sources = fetched;
        }
        let files = Files::read(self, &sources)?;
        files.load(self, files.history(), now_unix_seconds)
    }
}

/// Why a URL is refused where nobody can fetch it.
pub(super) const NO_FETCHER: &str = "price lists cannot be fetched here: name a file instead of a URL";

pub(super) fn read(file: &Path) -> Result<String, String> {
    let error = |e: io::Error| format!("cannot read {}: {e}", file.display());
    let mut text = String::new();
    let read = File::open(file).map_err(error)?.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(error)?;
    if read as u64 > MAX_BYTES {
        return Err(format!("{} is larger than {} MiB: it is no price list", file.display(), MAX_BYTES >> 20));
    }
    Ok(text)
}

/// Writes a file so that a crash leaves the old one or the new one.
pub(super) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let mut out = File::create(new)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(new, file)
}
