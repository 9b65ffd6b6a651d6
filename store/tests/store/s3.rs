//! The store on a server that speaks S3's protocol: signatures, XML, conditional and multipart uploads, ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use tokio::net::TcpListener;
use weir_pipeline::receipt::Outcome;
use weir_store::StoreError;
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::{Engine, Format, write};

use crate::support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_write_one_table_on_s3() {
    let server = Server::start(true).await;
    let root = server.root("s3://lake/some/where");
    root.check_conditional_put().await.unwrap();
    assert_eq!(server.keys(), Vec::<String>::new(), "the test of the store leaves nothing behind");

    let writers = [support::writer(&root), support::writer(&root)];
    let mut waiters = Vec::new();
    for n in 0..12u64 {
        let spans = (0..5).map(|m| support::span(n * 5 + m, vec![])).collect();
        let (batch, waiter) = support::awaited(support::request(vec![], spans));
        writers[n as usize % 2].0.write(batch).await;
        waiters.push(waiter);
        if n % 3 == 2 {
            // Both at once, so that they race for the next version.
            tokio::join!(writers[0].0.drain(), writers[1].0.drain());
        }
    }
    for (writer, _) in &writers {
        writer.close().await;
    }
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    let engine = Engine::open("s3://lake/some/where", &server.options(), DEFAULT_PROJECT).await.unwrap();
    let answer = engine
        .collect("select count(*) as n, count(distinct span_id) as ids, count(distinct source) as writers from spans")
        .await
        .unwrap();
    let mut csv = Vec::new();
    write(&answer, Format::Csv, &mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), "n,ids,writers\n60,60,2\n");
    let prefix = "some/where/projects/default/spans/";
    assert!(server.keys().iter().all(|key| key.starts_with(prefix)), "{:?}", server.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_uploaded_in_parts() {
    let server = Server::start(true).await;
    let root = server.root("s3://lake");
    let (writer, _) = support::writer(&root);
    // Texts that do not compress: a xorshift generator in hexadecimal.
    let mut state = 88_172_645_463_325_252u64;
    let mut noise = |words: usize| {
        let next = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        });
        next.take(words).collect::<String>()
    };
    let spans = (0..30).map(|n| support::span(n, vec![support::string("gen_ai.input.messages", &noise(40_000))]));
    let (batch, waiter) = support::awaited(support::request(vec![], spans.collect()));
    writer.write(batch).await;
    writer.close().await;
    assert_eq!(waiter.await, Outcome::Done);
    assert!(server.0.lock().unwrap().parts_seen > 1, "the file was expected to need several parts");
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    let answer = engine.collect("select sum(length(input)) as n from spans").await.unwrap();
    let mut csv = Vec::new();
    write(&answer, Format::Csv, &mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), format!("n\n{}\n", 30 * 40_000 * 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_overwrites_is_refused() {
    let server = Server::start(false).await;
    let error = server.root("s3://lake/x").check_conditional_put().await.unwrap_err();
    assert!(matches!(error, StoreError::NoConditionalPut { .. }), "{error}");
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_one_clear_line() {
    let server = Server::start(true).await;
    let mut options = server.options();
    options.insert("secret_access_key".to_owned(), "wrong".to_owned());
    let error = Engine::open("s3://lake/x", &options, DEFAULT_PROJECT).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("SignatureDoesNotMatch") || text.contains("403"), "{text}");
    assert!(!text.contains("wrong"), "the secret must not be told: {text}");
}

// === The server ===

#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<i32, Bytes>>,
    uploads_begun: usize,
    parts_seen: usize,
    conditional: bool,
    address: String,
}

#[derive(Clone)]
struct Server(Arc<Mutex<Objects>>);

impl Server {
    /// A server for this test on a free port; it ends with the test's runtime.
    async fn start(conditional: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self(Arc::new(Mutex::new(Objects { conditional, address, ..Objects::default() })));
        let mut builder = S3ServiceBuilder::new(server.clone());
        builder.set_auth(SimpleAuth::from_single("weir", "secret"));
        let service = builder.build();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away ends its connection with an error.
                    let http = auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        server
    }

    fn options(&self) -> BTreeMap<String, String> {
        let endpoint = self.0.lock().unwrap().address.clone();
        [
            ("endpoint", endpoint.as_str()),
            ("allow_http", "true"),
            ("region", "eu-central-1"),
            ("access_key_id", "weir"),
            ("secret_access_key", "secret"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    fn root(&self, url: &str) -> Root {
        Root::open(url, &self.options()).unwrap()
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }
}

async fn read(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let collected: BytesMut = body.try_collect().await.map_err(|_| s3_error!(IncompleteBody))?;
    Ok(collected.freeze())
}

fn etag(bytes: &Bytes) -> ETag {
    ETag::Strong(format!(
        "{}-{}",
        bytes.len(),
        bytes.iter().fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(*b)))
    ))
}

#[async_trait::async_trait]
impl S3 for Server {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let body = read(input.body).await?;
        let mut state = self.0.lock().unwrap();
        if state.conditional && input.if_none_match.is_some() && state.objects.contains_key(&input.key) {
            return Err(s3_error!(PreconditionFailed));
        }
        let output = PutObjectOutput { e_tag: Some(etag(&body)), ..PutObjectOutput::default() };
        state.objects.insert(input.key, body);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.0.lock().unwrap().objects.get(&input.key).cloned().ok_or_else(|| s3_error!(NoSuchKey))?;
        let length = object.len() as u64;
        let range = input.range.map(|range| range.check(length)).transpose().map_err(|_| s3_error!(InvalidRange))?;
        let part = range.clone().map_or(object.clone(), |r| object.slice(r.start as usize..r.end as usize));
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(part.len() as i64),
            content_range: range.map(|r| format!("bytes {}-{}/{length}", r.start, r.end - 1)),
            e_tag: Some(etag(&object)),
            last_modified: Some(SystemTime::UNIX_EPOCH.into()),
            body: Some(Body::from(part).into()),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let state = self.0.lock().unwrap();
        let object = state.objects.get(&request.input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.len() as i64),
            e_tag: Some(etag(object)),
            last_modified: Some(SystemTime::UNIX_EPOCH.into()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.start_after.unwrap_or_default();
        let state = self.0.lock().unwrap();
        let mut contents = Vec::new();
        let mut common = BTreeSet::new();
        for (key, object) in state.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after) {
            let rest = &key[prefix.len()..];
            match input.delimiter.as_deref().and_then(|delimiter| rest.split_once(delimiter)) {
                Some((directory, _)) => {
                    common.insert(format!("{prefix}{directory}/"));
                }
                None => contents.push(Object {
                    key: Some(key.clone()),
                    size: Some(object.len() as i64),
                    e_tag: Some(etag(object)),
                    last_modified: Some(SystemTime::UNIX_EPOCH.into()),
                    ..Object::default()
                }),
            }
        }
        let common = common.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: Some(contents.len() as i32),
            contents: Some(contents),
            common_prefixes: Some(common),
            is_truncated: Some(false),
            name: Some(input.bucket),
            prefix: input.prefix,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.lock().unwrap().objects.remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut state = self.0.lock().unwrap();
        let mut deleted = Vec::new();
        for object in request.input.delete.objects {
            state.objects.remove(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut state = self.0.lock().unwrap();
        state.uploads_begun += 1;
        let upload_id = format!("upload-{}", state.uploads_begun);
        state.uploads.insert(upload_id.clone(), BTreeMap::new());
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(request.input.bucket),
            key: Some(request.input.key),
            upload_id: Some(upload_id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let body = read(input.body).await?;
        let mut state = self.0.lock().unwrap();
        state.parts_seen += 1;
        let output = UploadPartOutput { e_tag: Some(etag(&body)), ..UploadPartOutput::default() };
        let upload = state.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.insert(input.part_number, body);
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let mut state = self.0.lock().unwrap();
        let upload = state.uploads.remove(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let object = Bytes::from(upload.into_values().collect::<Vec<_>>().concat());
        let output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key.clone()),
            e_tag: Some(etag(&object)),
            ..CompleteMultipartUploadOutput::default()
        };
        state.objects.insert(input.key, object);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.lock().unwrap().uploads.remove(&request.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
