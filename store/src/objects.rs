//! From a URL to an object store.
//!
//! | URL | store |
//! |---|---|
//! | `./weir-data`, `/data`, `file:///data` | local directory; what is written is durable when it is written |
//! | `s3://bucket/prefix` | Amazon S3 and what speaks its protocol (MinIO, R2, Ceph: `endpoint`) |
//! | `gs://bucket/prefix` | Google Cloud Storage |
//! | `az://container/prefix`, `abfs[s]://container@account.dfs.core.windows.net/prefix` | Azure Blob Storage |
//! | `memory:///` | the process's memory, for tests |
//!
//! Credentials come from the environment as the clouds' own tools read them; options of the configuration go first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    ObjectStoreScheme, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, RetryConfig,
};
use url::Url;

use self::durable::Durable;
use crate::StoreError;

mod durable;

/// The project spans belong to while there is only one.
pub const DEFAULT_PROJECT: &str = "default";

/// The root of a store: everything Weir keeps lies below it.
#[derive(Debug, Clone)]
pub struct Root {
    /// The whole bucket or file system.
    store: Arc<dyn ObjectStore>,
    /// Ends in a slash.
    url: Url,
    /// The URL's path within `store`.
    path: Path,
    remote: bool,
}

impl Root {
    /// The store a URL names. Nothing is read or written yet.
    ///
    /// # Errors
    /// If the URL's scheme or an option is unknown, or the store's own builder refuses them.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> std::result::Result<Self, StoreError> {
        let wrong = |message: String| StoreError::Config { url: url.to_owned(), message };
        let parsed = location(url).map_err(&wrong)?;
        let (scheme, path) = ObjectStoreScheme::parse(&parsed).map_err(|error| wrong(error.to_string()))?;
        let refused = |error: Error| wrong(one_line(&error));
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                no_options(options).map_err(&wrong)?;
                Arc::new(Durable::new())
            }
            ObjectStoreScheme::Memory => {
                no_options(options).map_err(&wrong)?;
                Arc::new(InMemory::new())
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(parsed.as_str()).with_retry(retry());
                let builder = configure(builder, options, |b, key, value| b.with_config(key, value)).map_err(&wrong)?;
                Arc::new(builder.build().map_err(refused)?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(parsed.as_str()).with_retry(retry());
                let builder = configure(builder, options, |b, key, value| b.with_config(key, value)).map_err(&wrong)?;
                Arc::new(builder.build().map_err(refused)?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(parsed.as_str()).with_retry(retry());
                let builder = configure(builder, options, |b, key, value| b.with_config(key, value)).map_err(&wrong)?;
                Arc::new(builder.build().map_err(refused)?)
            }
            _ => return Err(wrong(SCHEMES.to_owned())),
        };
        let remote = !matches!(parsed.scheme(), "file" | "memory");
        Ok(Self { store: Arc::new(ConditionalPut(store)), url: parsed, path, remote })
    }

    /// A root within a store of the caller's, for tests that inject faults. `url` tells stores apart.
    pub fn with_store(store: Arc<dyn ObjectStore>, url: Url) -> Self {
        let path = Path::from_url_path(url.path()).unwrap_or_default();
        Self { store: Arc::new(ConditionalPut(store)), url: with_slash(url), path, remote: false }
    }

    /// The root's URL; credentials are never part of it.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where things of this name are: the whole store, and the path within it.
    pub(crate) fn place(&self, name: &str) -> (Arc<dyn ObjectStore>, Path) {
        (Arc::clone(&self.store), self.path.clone().join(name))
    }

    /// The directory on this machine that a path within [`place`](Self::place)'s store is, if it is one.
    pub(crate) fn local_folder(&self, path: &Path) -> Option<PathBuf> {
        let mut url = self.url.clone();
        if url.scheme() != "file" {
            return None;
        }
        let parts: Vec<String> = path.parts().map(|part| part.as_ref().to_owned()).collect();
        url.path_segments_mut().ok()?.clear().extend(parts);
        url.to_file_path().ok()
    }

    /// Where the spans of a project are, as a Delta log store.
    pub(crate) fn spans(&self, project: &str) -> LogStoreRef {
        let path = self.path.clone().join("projects").join(project).join("spans");
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["projects", project, "spans", ""]);
        }
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&self.store), path));
        default_logstore(prefixed, Arc::clone(&self.store), &url, &StorageConfig::default())
    }

    /// Makes sure that a remote store refuses to create an object that exists: without that two collectors could
    /// overwrite each other's commits. S3-compatible stores differ here. Leaves nothing behind.
    ///
    /// # Errors
    /// If the store accepts the second write, or cannot be written at all.
    pub async fn check_conditional_put(&self) -> std::result::Result<(), StoreError> {
        if !self.remote {
            return Ok(());
        }
        let path = self.path.clone().join("_weir").join(format!("conditional-put-{}", uuid::Uuid::new_v4().simple()));
        let put = || self.store.put_opts(&path, PutPayload::from_static(b"weir"), PutMode::Create.into());
        put().await?;
        let second = put().await;
        let cleaned = self.store.delete(&path).await;
        match second {
            Err(Error::AlreadyExists { .. }) => Ok(cleaned?),
            Ok(_) => Err(StoreError::NoConditionalPut { url: self.url.to_string() }),
            Err(error) => Err(error.into()),
        }
    }
}

const SCHEMES: &str = "not a store: give a directory, or a URL with file, s3, gs, az or abfs";

/// A failing store is asked again by the layers above, so the client gives up earlier than its default of 3 minutes.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() }
}

/// The URL of a store, ending in a slash. What has no scheme is a path, relative to the working directory.
fn location(url: &str) -> std::result::Result<Url, String> {
    if url.trim().is_empty() {
        return Err(SCHEMES.to_owned());
    }
    if let Some((scheme, _)) = url.split_once("://") {
        let parsed = Url::parse(url).map_err(|error| error.to_string())?;
        let known = ["file", "memory", "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];
        if !known.contains(&scheme) {
            return Err(SCHEMES.to_owned());
        }
        if !matches!(scheme, "file" | "memory") && parsed.host_str().is_none_or(str::is_empty) {
            return Err("no bucket given".to_owned());
        }
        if parsed.password().is_some() || parsed.query().is_some() {
            return Err("credentials and options do not belong in the URL".to_owned());
        }
        return Ok(with_slash(parsed));
    }
    let path = std::path::absolute(PathBuf::from(url)).map_err(|error| error.to_string())?;
    let parsed = Url::from_directory_path(&path).map_err(|()| format!("{} is no usable path", path.display()))?;
    Ok(with_slash(parsed))
}

fn with_slash(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
}

fn no_options(options: &BTreeMap<String, String>) -> std::result::Result<(), String> {
    match options.keys().next() {
        Some(key) => Err(format!("storage option {key} has no meaning for this store")),
        None => Ok(()),
    }
}

fn configure<B, K: FromStr>(
    builder: B,
    options: &BTreeMap<String, String>,
    set: impl Fn(B, K, String) -> B,
) -> std::result::Result<B, String> {
    options.iter().try_fold(builder, |builder, (key, value)| {
        let known = K::from_str(&key.to_ascii_lowercase()).map_err(|_| format!("unknown storage option {key}"))?;
        Ok(set(builder, known, value.clone()))
    })
}

/// An error and its causes on one line. Some of Delta's errors bring a backtrace along if the environment asks for one.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = without_backtrace(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = without_backtrace(&cause.to_string());
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text without the lines that are frames of a backtrace, as the standard library writes them.
fn without_backtrace(text: &str) -> String {
    let is_frame = |line: &&str| {
        let frame = line.trim_start();
        let is_numbered = frame.split_once(": ").is_some_and(|(number, _)| number.parse::<u16>().is_ok());
        line.starts_with("  ") && (is_numbered || frame.starts_with("at "))
    };
    text.lines().filter(|line| !is_frame(line)).collect::<Vec<_>>().join("\n")
}

/// Answers a refused creation with [`Error::AlreadyExists`] on every store.
///
/// Azure says "precondition failed" and object_store 0.13 passes that on, so that the loser of a race would see a hard
/// error instead of trying the next version.
#[derive(Debug)]
struct ConditionalPut(Arc<dyn ObjectStore>);

#[async_trait]
impl ObjectStore for ConditionalPut {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let creates = options.mode == PutMode::Create;
        self.0.put_opts(location, payload, options).await.map_err(|error| match error {
            Error::Precondition { path, source } if creates => Error::AlreadyExists { path, source },
            other => other,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

impl fmt::Display for ConditionalPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
