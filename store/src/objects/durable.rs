//! A directory whose files survive a power failure once they are written.
//!
//! `object_store` writes files and leaves it to the system when they reach the disk. But whoever waits for a commit is
//! told that it is there, and does not send it again: so each file is made durable before the call that wrote it returns,
//! and with it the directories that name it.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// Directories that are remembered.
const KNOWN: usize = 10_000;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Durable {
    files: Arc<LocalFileSystem>,
    /// Directories that are themselves durable.
    known: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Durable {
    /// All files of the machine.
    pub(super) fn new() -> Self {
        Self { files: Arc::new(LocalFileSystem::new()), known: Arc::default() }
    }

    /// Returns when a file that was written is on the disk.
    async fn persist(&self, location: &Path) -> Result<()> {
        let path = self.files.path_to_filesystem(location)?;
        let this = self.clone();
        let synced = tokio::task::spawn_blocking(move || this.sync(&path)).await;
        let failed = |error: io::Error| Error::Generic { store: "LocalFileSystem", source: Box::new(error) };
        synced.map_err(|error| failed(io::Error::other(error)))?.map_err(|error| {
            failed(io::Error::new(error.kind(), format!("{location} cannot be made durable: {error}")))
        })
    }

    fn sync(&self, path: &FilePath) -> io::Result<()> {
        match File::open(path) {
            Ok(file) => file.sync_all()?,
            // Somebody has cleaned up meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut is_own = true;
        for directory in path.ancestors().skip(1) {
            if !is_own && self.known().contains(directory) {
                break;
            }
            match sync_directory(directory) {
                // Those above the store may be anybody's, and were there before.
                Err(error) if is_own => return Err(error),
                _ => {}
            }
            let mut known = self.known();
            if known.len() >= KNOWN {
                known.clear();
            }
            let is_new = known.insert(directory.to_owned());
            // Whatever names a directory that is known was made durable with it.
            if !is_new {
                break;
            }
            is_own = false;
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
fn sync_directory(directory: &FilePath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Directories cannot be opened here, and the system looks after them itself.
#[cfg(not(unix))]
fn sync_directory(_: &FilePath) -> io::Result<()> {
    Ok(())
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.files.put_opts(location, payload, options).await?;
        self.persist(location).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, options).await?;
        Ok(Box::new(Upload { upload, location: location.clone(), store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.persist(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.persist(to).await
    }
}

/// A file that is written in parts.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    location: Path,
    store: Durable,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.upload.complete().await?;
        self.store.persist(&self.location).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, PutMode};

    use super::*;

    #[tokio::test]
    async fn files_and_what_names_them_are_made_durable() {
        let folder = tempfile::tempdir().unwrap();
        let store = Durable::new();
        let at = |name: &str| Path::from_absolute_path(folder.path().join(name)).unwrap();
        let one = at("a/b/one");
        store.put_opts(&one, PutPayload::from_static(b"1"), PutMode::Create.into()).await.unwrap();
        let exists = store.put_opts(&one, PutPayload::from_static(b"2"), PutMode::Create.into()).await;
        assert!(matches!(exists, Err(Error::AlreadyExists { .. })), "{exists:?}");
        let mut upload = store.put_multipart(&at("a/c/two")).await.unwrap();
        upload.put_part(PutPayload::from_static(b"two")).await.unwrap();
        upload.complete().await.unwrap();
        store.copy(&at("a/c/two"), &at("three")).await.unwrap();
        for (name, content) in [("a/b/one", "1"), ("a/c/two", "two"), ("three", "two")] {
            assert_eq!(store.get(&at(name)).await.unwrap().bytes().await.unwrap(), content);
        }
        let known = store.known().clone();
        for directory in ["", "a", "a/b", "a/c"] {
            // As a path without a last slash.
            let directory: PathBuf = folder.path().join(directory).components().collect();
            assert!(known.contains(&directory), "{directory:?} of {known:?}");
        }
    }
}
