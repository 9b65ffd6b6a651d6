//! A server that speaks S3's protocol, in memory.

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
use weir_store::objects::Root;

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
pub(crate) struct Server(Arc<Mutex<Objects>>);

impl Server {
    /// A server for this test on a free port; it ends with the test's runtime.
    pub(crate) async fn start(conditional: bool) -> Self {
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

    pub(crate) fn options(&self) -> BTreeMap<String, String> {
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

    pub(crate) fn root(&self, url: &str) -> Root {
        Root::open(url, &self.options()).unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(crate) fn parts_seen(&self) -> usize {
        self.0.lock().unwrap().parts_seen
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
            last_modified: Some(SystemTime::now().into()),
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
            last_modified: Some(SystemTime::now().into()),
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
                    last_modified: Some(SystemTime::now().into()),
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
