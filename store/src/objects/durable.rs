//! A directory whose files survive a power failure once they are written.
//!
//! `object_store` writes files and leaves it to the system when they reach the disk. But whoever waits for a commit is
//! told that it is there, and does not send it again: so each file is made durable before the call that wrote it returns,
//! and with it the directories that name it.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// Directories that are remembered.
const KNOWN: usize = 10_000;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Durable {
    files: Arc<LocalFileSystem>,
    /// Directories that are themselves durable. One that is made again is another.
    known: Arc<Mutex<HashMap<PathBuf, Identity>>>,
}

/// What tells a directory from another one of the same name.
type Identity = Option<(u64, u64)>;

impl Durable {
    /// All files of the machine.
    pub(super) fn new() -> Self {
        Self { files: Arc::new(LocalFileSystem::new()), known: Arc::default() }
    }

    /// Returns when a file that was written is on the disk.
    async fn persist(&self, location: &Path) -> Result<()> {
        let path = self.files.path_to_filesystem(location)?;
        let this = self.clone();
        blocking(move || {
            match File::options().read(true).write(cfg!(windows)).open(&path) {
                Ok(file) => file.sync_all()?,
                // Somebody has cleaned up meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
            this.sync_directories(&path)
        })
        .await
        .map_err(|error| failed(&error, location))
    }

    /// Creates a file that is not there yet, which nobody sees before it is durable: a log entry that is there counts,
    /// whatever its writer was told.
    async fn create(&self, location: &Path, payload: PutPayload) -> Result<PutResult> {
        let path = self.files.path_to_filesystem(location)?;
        let this = self.clone();
        let created = blocking(move || {
            let Some(directory) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
            std::fs::create_dir_all(directory)?;
            // Such names are nobody's object: see `LocalFileSystem`.
            let mut staged = path.clone().into_os_string();
            staged.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
            let written = (|| {
                let mut file = File::options().write(true).create_new(true).open(&staged)?;
                payload.iter().try_for_each(|part| file.write_all(part))?;
                file.sync_all()?;
                std::fs::hard_link(&staged, &path)
            })();
            let removed = std::fs::remove_file(&staged);
            written?;
            removed?;
            this.sync_directories(&path)
        });
        match created.await {
            Ok(()) => {
                let ObjectMeta { e_tag, version, .. } = self.files.head(location).await?;
                Ok(PutResult { e_tag, version })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: Box::new(error) })
            }
            Err(error) => Err(failed(&error, location)),
        }
    }

    /// Makes durable that a file has its name, and that each directory above it that is not known yet has its own.
    fn sync_directories(&self, path: &FilePath) -> io::Result<()> {
        let mut fresh = Vec::new();
        for directory in path.ancestors().skip(1) {
            let identity = identity(directory);
            let is_known = self.known().get(directory) == Some(&identity);
            if is_known && !fresh.is_empty() {
                break;
            }
            match sync_directory(directory) {
                Ok(()) => {}
                // Those above the store may be anybody's, and were there before.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !fresh.is_empty() => break,
                Err(error) => return Err(error),
            }
            if is_known {
                break;
            }
            fresh.push((directory.to_owned(), identity));
        }
        let mut known = self.known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.extend(fresh);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, Identity>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn failed(error: &io::Error, location: &Path) -> Error {
    let source = io::Error::new(error.kind(), format!("{location} cannot be written durably: {error}"));
    Error::Generic { store: "LocalFileSystem", source: Box::new(source) }
}

#[cfg(unix)]
fn identity(directory: &FilePath) -> Identity {
    use std::os::unix::fs::MetadataExt;
    directory.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &FilePath) -> Identity {
    None
}

#[cfg(unix)]
fn sync_directory(directory: &FilePath) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot, and need not.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
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
        if options.mode == PutMode::Create {
            return self.create(location, payload).await;
        }
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
            assert!(known.contains_key(&directory), "{directory:?} of {known:?}");
        }
        // Nothing is left beside them, and a directory that is made again is not taken for known.
        let names = |name: &str| std::fs::read_dir(folder.path().join(name)).unwrap().count();
        assert_eq!((names("a/b"), names("a/c"), names("")), (1, 1, 2));
        std::fs::remove_dir_all(folder.path().join("a/b")).unwrap();
        store.put_opts(&one, PutPayload::from_static(b"3"), PutMode::Create.into()).await.unwrap();
        assert_eq!(store.get(&one).await.unwrap().bytes().await.unwrap(), "3");
    }
}
