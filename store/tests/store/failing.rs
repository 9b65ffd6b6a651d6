//! A store that breaks after so many operations, as if the process had died there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

#[derive(Debug)]
pub(crate) struct Failing {
    store: InMemory,
    left: Arc<AtomicUsize>,
}

impl Failing {
    /// A store with the objects of this one, which breaks after so many operations.
    pub(crate) fn after(operations: usize, store: InMemory) -> Arc<Self> {
        Arc::new(Self { store, left: Arc::new(AtomicUsize::new(operations)) })
    }

    /// From now on it works.
    pub(crate) fn heal(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
    }

    /// Whether it has broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

/// One operation less is left.
fn step(left: &AtomicUsize) -> Result<()> {
    let spent = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    let broken = |_| Error::Generic { store: "Failing", source: "broken for the test".into() };
    spent.map(drop).map_err(broken)
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        step(&self.left)?;
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        step(&self.left)?;
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        step(&self.left)?;
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // Each object is an operation of its own: it may break in the middle.
        let left = Arc::clone(&self.left);
        let locations = locations.map(move |location| location.and_then(|location| step(&left).map(|()| location)));
        self.store.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match step(&self.left) {
            Ok(()) => self.store.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        step(&self.left)?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        step(&self.left)?;
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}
