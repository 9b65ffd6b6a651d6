//! Price lists at URLs: the last good copy of each, in memory and, if wanted, on disk.
//!
//! A copy is replaced only by one from which a catalog could be made. Until the first one comes, after a start without a
//! copy on disk, the prices are those in the binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_pipeline::fetch::{Fetch, FetchRequest, Fetched};
use weir_pipeline::hex::Hex;

use super::files::{self, MAX_BYTES};
use super::settings::{CatalogSettings, Place};

/// For one list, connecting included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The lists that are fetched.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    catalog: Option<Source>,
    litellm: Option<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    url: String,
    /// Where its copy is kept.
    cache: Option<PathBuf>,
    copy: Option<Copy>,
}

/// A document as it was fetched.
#[derive(Debug, Clone)]
struct Copy {
    etag: Option<String>,
    body: Arc<str>,
    /// When the server last said that this is it, in seconds since the epoch.
    confirmed: i64,
}

/// The first line of a copy on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// SHA-256 of the URL, which may hold a token.
    source: String,
    etag: Option<String>,
    confirmed: i64,
}

impl Sources {
    /// The URLs of the settings, with what is kept of them on disk.
    pub(super) fn open(settings: &CatalogSettings) -> Self {
        let source = |place: &Option<Place>, name: &str| match place {
            Some(Place::Url(url)) => {
                let cache = settings.cache_dir.as_ref().map(|folder| folder.join(name));
                let copy = cache.as_deref().and_then(|file| Copy::read(file, url));
                Some(Source { url: url.clone(), cache, copy })
            }
            _ => None,
        };
        Self {
            catalog: source(&settings.path, "weir-catalog.copy"),
            litellm: source(&settings.litellm, "weir-litellm.copy"),
        }
    }

    /// Whether nothing is fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Whether there is a copy of each.
    pub(super) fn is_complete(&self) -> bool {
        self.all().all(|source| source.copy.is_some())
    }

    /// The text of the catalog, if it is fetched and there is a copy.
    pub(super) fn catalog(&self) -> Option<&str> {
        Some(&self.catalog.as_ref()?.copy.as_ref()?.body)
    }

    /// The text of the LiteLLM file, if it is fetched and there is a copy.
    pub(super) fn litellm(&self) -> Option<&str> {
        Some(&self.litellm.as_ref()?.copy.as_ref()?.body)
    }

    /// Forgets all copies: nothing could be made of them.
    pub(super) fn forget(&mut self) {
        for source in [&mut self.catalog, &mut self.litellm].into_iter().flatten() {
            source.copy = None;
        }
    }

    /// What the servers say now, and what went wrong; of a server that says nothing the old copy stays.
    pub(super) fn fetch(&self, fetcher: &dyn Fetch, now: i64) -> (Self, Vec<String>) {
        let (mut next, mut problems) = (self.clone(), Vec::new());
        for source in [&mut next.catalog, &mut next.litellm].into_iter().flatten() {
            problems.extend(source.fetch(fetcher, now).err());
        }
        (next, problems)
    }

    /// Keeps the copies on disk that are not those of `older`.
    pub(super) fn keep(&self, older: &Self) -> Result<(), String> {
        let pairs = [(&self.catalog, &older.catalog), (&self.litellm, &older.litellm)];
        for (source, older) in pairs.into_iter().filter_map(|(source, older)| Some((source.as_ref()?, older))) {
            let (Some(file), Some(copy)) = (&source.cache, &source.copy) else { continue };
            let known = older.as_ref().and_then(|older| older.copy.as_ref());
            if known.is_none_or(|known| !Arc::ptr_eq(&known.body, &copy.body)) {
                copy.write(file, &source.url).map_err(|e| format!("{}: {e}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Seconds since the server that has been silent for the longest last told its latest version; `None` if one has
    /// never done so.
    pub(super) fn silence(&self, now: i64) -> Option<u64> {
        let confirmed = self.all().map(|source| source.copy.as_ref().map(|copy| copy.confirmed));
        let oldest = confirmed.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        u64::try_from(now - oldest).ok()
    }

    fn all(&self) -> impl Iterator<Item = &Source> {
        [&self.catalog, &self.litellm].into_iter().flatten()
    }
}

impl Source {
    fn fetch(&mut self, fetcher: &dyn Fetch, now: i64) -> Result<(), String> {
        let etag = self.copy.as_ref().and_then(|copy| copy.etag.as_deref());
        let request = FetchRequest { url: &self.url, etag, max_bytes: MAX_BYTES as usize, timeout: TIMEOUT };
        match (fetcher.fetch(&request).map_err(|e| e.to_string())?, &mut self.copy) {
            (Fetched::Unchanged, Some(copy)) => copy.confirmed = now,
            (Fetched::Unchanged, None) => {}
            (Fetched::New { body, etag }, copy) => {
                let name = self.url.split(['?', '#']).next().unwrap_or_default();
                let body = String::from_utf8(body).map_err(|_| format!("{name} is not a text"))?;
                // The same text stays the same, whether or not the server has tags.
                let known = copy.as_ref().filter(|known| *known.body == *body).map(|known| Arc::clone(&known.body));
                *copy = Some(Copy { etag, body: known.unwrap_or_else(|| body.into()), confirmed: now });
            }
        }
        Ok(())
    }
}

impl Copy {
    /// Reads a copy, unless it is of another URL.
    fn read(file: &Path, url: &str) -> Option<Self> {
        if !file.exists() {
            return None;
        }
        let parse = || {
            let text = files::read(file)?;
            let (head, body) = text.split_once('\n').ok_or("it has no head")?;
            let head: Head = serde_json::from_str(head).map_err(|e| e.to_string())?;
            Ok::<_, String>((head, body.into()))
        };
        match parse() {
            Ok((head, body)) if head.source == digest(url) => {
                Some(Self { etag: head.etag, body, confirmed: head.confirmed })
            }
            Ok(_) => None,
            Err(problem) => {
                tracing::warn!(file = %file.display(), problem, "the kept copy of a price list is not used");
                None
            }
        }
    }

    fn write(&self, file: &Path, url: &str) -> std::io::Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let head = Head { source: digest(url), etag: self.etag.clone(), confirmed: self.confirmed };
        let head = serde_json::to_string(&head)?;
        files::replace(file, &format!("{head}\n{}", self.body))
    }
}

fn digest(url: &str) -> String {
    Hex(&Sha256::digest(url.as_bytes())).to_string()
}
