//! A file whose content is read again when it changes.
//!
//! Kubernetes changes mounted secrets by swapping a symbolic link above the file, so the file that the path leads to is
//! compared by device, inode, size and time of change, not the path itself.
//!
//! A file that has become a pipe is not read: whoever asks would wait for it.

use std::fs::Metadata;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use weir_pipeline::file::{self, Reading};

/// How often the file is looked at, at most.
const EVERY: Duration = Duration::from_secs(1);

/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// The content of a file, as `parse` understands it.
pub(crate) struct Watched<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    every: Duration,
    state: Mutex<Option<State<T>>>,
}

struct State<T> {
    looked: Instant,
    stamp: Stamp,
    content: Arc<T>,
    /// What was wrong with the newest content, while the one before is still in use.
    complaint: Option<String>,
}

/// What tells a file from another, or from itself after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    identity: (u64, u64),
    size: u64,
    changed: Option<SystemTime>,
}

impl<T> Watched<T> {
    /// A file that is not read yet.
    pub(crate) fn new(path: impl Into<PathBuf>, parse: fn(&str) -> Result<T, String>) -> Self {
        Self { path: path.into(), parse, every: EVERY, state: Mutex::new(None) }
    }

    /// Looks at the file each time it is asked.
    #[cfg(test)]
    pub(crate) fn always_looking(self) -> Self {
        Self { every: Duration::ZERO, ..self }
    }

    /// The content. When the file has become unreadable or wrong, that is logged once and the content before is kept.
    ///
    /// # Errors
    /// If it could not be read yet.
    pub(crate) fn current(&self) -> Result<Arc<T>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(known) = state.as_mut() else {
            let (content, stamp) = self.read(Reading::First)?;
            *state = Some(State { looked: now, stamp, content: Arc::clone(&content), complaint: None });
            return Ok(content);
        };
        if now.duration_since(known.looked) < self.every {
            return Ok(Arc::clone(&known.content));
        }
        known.looked = now;
        let unchanged = std::fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == known.stamp);
        if !unchanged {
            match self.read(Reading::Again) {
                Ok((content, stamp)) => {
                    (known.content, known.stamp, known.complaint) = (content, stamp, None);
                    tracing::info!("{} has changed and was read again", self.path.display());
                }
                Err(error) if known.complaint.as_ref() == Some(&error) => {}
                Err(error) => {
                    tracing::warn!("{error}; what was read before stays in use");
                    known.complaint = Some(error);
                }
            }
        }
        Ok(Arc::clone(&known.content))
    }

    fn read(&self, reading: Reading) -> Result<(Arc<T>, Stamp), String> {
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", self.path.display());
        let file = file::open(&self.path, reading).map_err(failed)?;
        // Of the opened file: what it says belongs to what is read.
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        let mut text = String::new();
        file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(format!("{} is larger than {} MiB", self.path.display(), MAX_SIZE >> 20));
        }
        let content = (self.parse)(&text).map_err(|error| format!("{}:{error}", self.path.display()))?;
        Ok((Arc::new(content), stamp))
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let identity = (0, 0);
        Self { identity, size: metadata.len(), changed: metadata.modified().ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.trim().parse().map_err(|e| format!("1: {e}"))
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_kept_when_it_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let watched = Watched::new(&path, number).always_looking();
        assert!(watched.current().unwrap_err().starts_with("cannot read "));
        std::fs::write(&path, "1").unwrap();
        assert_eq!(*watched.current().unwrap(), 1);
        std::fs::write(&path, "22").unwrap();
        assert_eq!(*watched.current().unwrap(), 22);
        for broken in [Some("twenty"), None] {
            match broken {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_eq!(*watched.current().unwrap(), 22);
        }
        std::fs::write(&path, "3").unwrap();
        assert_eq!(*watched.current().unwrap(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn what_has_become_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::new(&path, number).always_looking();
        assert_eq!(*watched.current().unwrap(), 1);
        let (reader, _writer) = std::io::pipe().unwrap();
        std::fs::remove_file(&path).unwrap();
        let pipe = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        std::os::unix::fs::symlink(pipe, &path).unwrap();
        assert_eq!(*watched.current().unwrap(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn swapped_links_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "1"), ("v2", "2")] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("number"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/number", path("number")).unwrap();
        let watched = Watched::new(path("number"), number).always_looking();
        assert_eq!(*watched.current().unwrap(), 1);
        std::os::unix::fs::symlink("v2", path("new")).unwrap();
        std::fs::rename(path("new"), path("..data")).unwrap();
        assert_eq!(*watched.current().unwrap(), 2);
    }
}
