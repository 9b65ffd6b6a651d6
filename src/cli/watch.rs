//! Tells when configuration files change.
//!
//! Files are looked at rather than watched: that also sees what Kubernetes does to a mounted ConfigMap (a symbolic link
//! above the file is swapped), network file systems, and a file that is replaced by another. A file system may hang, so
//! they are looked at on another thread. A pipe is not looked at: it cannot be read again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Some files, and how they were when they were last reported.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    reported: Vec<Option<Stamp>>,
    last: Vec<Option<Stamp>>,
}

/// What tells a file from another, or from itself after a change. `None` stands for a file that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    identity: (u64, u64),
    size: u64,
    changed: Option<SystemTime>,
}

impl Watch {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let is_other = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file());
        let files: Vec<_> = files.into_iter().filter(|file| !is_other(file)).collect();
        let now = stamps(&files);
        Self { files, reported: now.clone(), last: now }
    }

    /// Resolves when a file has changed and no longer does: an editor may take several steps to write one.
    pub(super) async fn changed(&mut self) {
        if self.files.is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(EVERY).await;
            let files = self.files.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || stamps(&files)).await else { continue };
            if self.compare(now) {
                return;
            }
        }
    }

    /// Whether there is a change to report, now that the files look like this.
    fn compare(&mut self, now: Vec<Option<Stamp>>) -> bool {
        let is_still = now == self.last;
        self.last = now;
        // A file that is gone is about to come back, or there is nothing to load.
        let is_new = is_still && self.last != self.reported && self.last.iter().all(Option::is_some);
        if is_new {
            self.reported = self.last.clone();
        }
        is_new
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| Stamp::of(file)).collect()
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let identity = (0, 0);
        Some(Self { identity, size: metadata.len(), changed: metadata.modified().ok() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    impl Watch {
        fn look(&mut self) -> bool {
            self.compare(stamps(&self.files))
        }
    }

    #[test]
    fn a_change_is_reported_once_and_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("v1")).unwrap();
        std::fs::write(path("v1").join("weir.yaml"), "one").unwrap();
        std::fs::create_dir(path("v2")).unwrap();
        std::fs::write(path("v2").join("weir.yaml"), "two").unwrap();
        std::os::unix::fs::symlink("v1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/weir.yaml", path("weir.yaml")).unwrap();
        let mut watch = Watch::new(vec![path("weir.yaml"), "/dev/null".into()]);
        assert_eq!(watch.files, [path("weir.yaml")]);
        assert!(!watch.look());
        // As Kubernetes does it.
        std::os::unix::fs::symlink("v2", path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        assert_eq!([watch.look(), watch.look(), watch.look()], [false, true, false]);
        // As an editor does it, while somebody looks.
        std::fs::write(path("v2").join("weir.yaml"), "").unwrap();
        assert!(!watch.look());
        std::fs::write(path("v2").join("weir.yaml"), "three, and longer").unwrap();
        assert_eq!([watch.look(), watch.look(), watch.look()], [false, true, false]);
        // Gone, and back as it was.
        std::fs::rename(path("v2").join("weir.yaml"), path("aside")).unwrap();
        assert_eq!([watch.look(), watch.look()], [false, false]);
        std::fs::rename(path("aside"), path("v2").join("weir.yaml")).unwrap();
        assert_eq!([watch.look(), watch.look()], [false, false]);
    }
}
