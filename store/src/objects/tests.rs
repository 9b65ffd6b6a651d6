use super::*;

fn message(url: &str, options: &[(&str, &str)]) -> String {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Root::open(url, &options).unwrap_err().to_string()
}

#[test]
fn urls_name_stores() {
    let options = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let none = BTreeMap::new();
    for (url, options, root) in [
        ("/data/weir", none.clone(), "file:///data/weir/"),
        ("file:///data/weir/", none.clone(), "file:///data/weir/"),
        ("/data/two words", none.clone(), "file:///data/two%20words/"),
        ("memory:///", none, "memory:///"),
        ("s3://bucket/a/b", options(&[("region", "eu-central-1"), ("ENDPOINT", "http://h:1")]), "s3://bucket/a/b/"),
        (
            "abfs://box@account.dfs.core.windows.net/a",
            options(&[("account_key", "c2VjcmV0")]),
            "abfs://box@account.dfs.core.windows.net/a/",
        ),
        ("az://box/a", options(&[("account_name", "me"), ("account_key", "c2VjcmV0")]), "az://box/a/"),
    ] {
        assert_eq!(Root::open(url, &options).unwrap().url().as_str(), root, "{url}");
    }
    let here = Root::open("./weir-data", &BTreeMap::new()).unwrap();
    assert!(here.url().as_str().starts_with("file:///") && here.url().path().ends_with("/weir-data/"));
}

#[test]
fn what_is_no_store_is_explained() {
    for (url, options, hint) in [
        ("", &[][..], "not a store"),
        ("ftp://host/x", &[], "not a store"),
        ("https://host/x", &[], "not a store"),
        ("s3:///x", &[], "no bucket"),
        ("s3://key:secret@bucket/x", &[], "do not belong in the URL"),
        ("s3://bucket/x?endpoint=y", &[], "do not belong in the URL"),
        ("s3://bucket/x", &[("regoin", "eu")], "unknown storage option regoin"),
        ("/data", &[("region", "eu")], "storage option region has no meaning"),
    ] {
        let message = message(url, options);
        assert!(message.contains(hint), "{url}: {message}");
    }
}

#[test]
fn spans_of_a_project_have_their_own_place() {
    let root = Root::open("memory:///lake", &BTreeMap::new()).unwrap();
    assert_eq!(root.spans("a b").root_url().as_str(), "memory:///lake/projects/a%20b/spans/");
}

/// Answers conditional writes as Azure does.
#[derive(Debug)]
struct Azure(InMemory);

#[async_trait]
impl ObjectStore for Azure {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await.map_err(|error| match error {
            Error::AlreadyExists { path, source } => Error::Precondition { path, source },
            other => other,
        })
    }
    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Azure")
    }
}

#[tokio::test]
async fn a_refused_creation_is_one_on_azure_too() {
    let store = ConditionalPut(Arc::new(Azure(InMemory::new())));
    let path = Path::from("a");
    let put = |mode: PutMode| store.put_opts(&path, PutPayload::from_static(b"x"), mode.into());
    put(PutMode::Create).await.unwrap();
    assert!(matches!(put(PutMode::Create).await, Err(Error::AlreadyExists { .. })));
    put(PutMode::Overwrite).await.unwrap();
    let stale = object_store::UpdateVersion { e_tag: Some("none".to_owned()), version: None };
    assert!(matches!(put(PutMode::Update(stale)).await, Err(Error::Precondition { .. })));
}

#[tokio::test]
async fn the_check_of_a_store_that_is_fine_leaves_nothing() {
    use futures::StreamExt;
    let store = Arc::new(InMemory::new());
    let root = Root { remote: true, ..Root::with_store(store.clone(), Url::parse("memory:///lake/").unwrap()) };
    root.check_conditional_put().await.unwrap();
    assert_eq!(store.list(None).count().await, 0);
}

#[test]
fn an_error_has_no_backtrace() {
    let told = "Kernel error: Json error: Truncated record
   0: buoyant_kernel::error::Error::with_backtrace
   1: <F as core::future::Future>::poll
             at /rustc/library/alloc/src/boxed.rs:2240:9
  21: clone3
             at ./misc/../sysdeps/x86_64/clone3.S:81:0
: line 3: column 1";
    let error = std::io::Error::other(told);
    assert_eq!(one_line(&error), "Kernel error: Json error: Truncated record : line 3: column 1");
    assert_eq!(one_line(&std::io::Error::other("a\n  b: 3\n4: c")), "a b: 3 4: c");
}
