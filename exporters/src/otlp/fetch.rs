//! A GET with the client's own connections: for price lists and the like, not for telemetry.

use std::error::Error as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, ETAG, HOST, IF_NONE_MATCH, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use weir_pipeline::fetch::{Fetch, FetchError, FetchRequest, Fetched};

use super::body::Payload;
use super::client::{Protocol, Target, address};
use super::connect::open;
use super::dial::Names;
use super::endpoint::HttpEndpoint;
use super::pool::Sender;
use super::proxies::Proxies;
use super::route::location;
use super::tls::{Tls, TlsSettings};

/// How often a server may send us elsewhere.
const MAX_REDIRECTS: usize = 5;

/// Gets documents over HTTP/1.1, with TLS for `https`, and follows redirects, but never from `https` to `http`.
#[derive(Debug, Clone, Default)]
pub struct HttpFetch {
    tls: TlsSettings,
    proxies: Proxies,
}

impl HttpFetch {
    /// One that trusts what the system trusts.
    pub fn new() -> Self {
        Self { tls: TlsSettings::default(), proxies: Proxies::of_environment() }
    }

    /// One that trusts other roots, for tests.
    #[cfg(test)]
    pub(super) fn with_tls(tls: TlsSettings) -> Self {
        Self { tls, proxies: Proxies::None }
    }

    fn block_on(&self, request: &FetchRequest<'_>) -> Result<Fetched, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let got = runtime.block_on(async { tokio::time::timeout(request.timeout, self.get(request)).await });
        // A name that is still being looked up is not waited for.
        runtime.shutdown_timeout(Duration::ZERO);
        got.unwrap_or_else(|_| Err(format!("no answer within {:?}", request.timeout)))
    }

    async fn get(&self, request: &FetchRequest<'_>) -> Result<Fetched, String> {
        let mut endpoint = HttpEndpoint::parse(request.url).map_err(|e| format!("the URL {e}"))?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&endpoint, request.etag).await?;
            let status = response.status();
            match status {
                StatusCode::OK => return read(response, request.max_bytes).await,
                StatusCode::NOT_MODIFIED if request.etag.is_some() => return Ok(Fetched::Unchanged),
                _ if status.is_redirection() => endpoint = location(&endpoint, response.headers())?,
                _ => return Err(format!("HTTP status {status}")),
            }
        }
        Err(format!("it sent us elsewhere more than {MAX_REDIRECTS} times"))
    }

    async fn send(&self, endpoint: &HttpEndpoint, etag: Option<&str>) -> Result<Response<Incoming>, String> {
        let tls = match endpoint.is_https {
            false => None,
            true => {
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| e.to_string())?;
                let tls = Tls::new(self.tls.clone(), name, Protocol::Http1.alpn()).map_err(|e| e.to_string())?;
                Some(Arc::new(tls))
            }
        };
        let destination = Target {
            host: endpoint.host.clone(),
            port: endpoint.port,
            socket: None,
            tls,
            proxy: self
                .proxies
                .find(&endpoint.host, endpoint.port, endpoint.is_https)
                .map_err(|e| format!("the URL {e}"))?,
            names: Names::System,
            is_balanced: false,
            protocol: Protocol::Http1,
            keepalive: None,
            connect_timeout: None,
            idle_timeout: None,
            max_idle: None,
            is_kept_alive: false,
        };
        let mut request = Request::new(Payload::plain(Bytes::new().into()));
        *request.method_mut() = Method::GET;
        let path = endpoint.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = Uri::try_from(path).map_err(|e| e.to_string())?;
        // Such a proxy reads the request itself, and needs the whole URL.
        let reader = destination.proxy.as_ref().filter(|_| destination.tls.is_none());
        *request.uri_mut() = if reader.is_some() { endpoint.uri.clone() } else { path };
        if let Some(authorization) = reader.and_then(|proxy| proxy.authorization.clone()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let host = endpoint.uri.authority().map_or_else(String::new, ToString::to_string);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::try_from(host).map_err(|e| e.to_string())?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        // A tag that cannot be sent is as good as none.
        if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        let address = address(&endpoint.host, endpoint.port);
        match open(&destination).await.map_err(|e| e.to_string())? {
            Sender::Http1(mut sender) => {
                sender.ready().await.map_err(|e| broken(&address, &e))?;
                sender.send_request(request).await.map_err(|e| broken(&address, &e))
            }
            Sender::Http2(_) => Err(format!("{address} speaks HTTP/2 without having been asked to")),
        }
    }
}

impl Fetch for HttpFetch {
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<Fetched, FetchError> {
        // Told to the operator, who may have put a token into the query.
        let name = request.url.split(['?', '#']).next().unwrap_or_default();
        let failed = |why: String| FetchError(format!("cannot get {name}: {why}"));
        // A thread of its own, so that it does not matter whether the caller's has a runtime.
        let got = thread::scope(|scope| scope.spawn(|| self.block_on(request)).join());
        got.unwrap_or_else(|_| Err("the attempt panicked".to_owned())).map_err(failed)
    }
}

/// Reads a document.
async fn read(response: Response<Incoming>, max_bytes: usize) -> Result<Fetched, String> {
    let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let too_large = || format!("it is larger than {} MiB", max_bytes >> 20);
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large());
    }
    let etag = text(ETAG).map(str::to_owned);
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| broken("the server", &e))?;
        if let Some(data) = frame.data_ref() {
            if body.len() + data.len() > max_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(data);
        }
    }
    Ok(Fetched::New { body, etag })
}

fn broken(address: &str, error: &hyper::Error) -> String {
    let mut message = format!("connection to {address} broke off: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}
