//! The OTLP receiver: traces, metrics and logs over gRPC and HTTP.
//!
//! ```yaml
//! receivers:
//!   otlp:
//!     protocols:
//!       grpc:
//!         endpoint: localhost:4317
//!       http:
//!         endpoint: localhost:4318
//! ```
//!
//! ```text
//!            ┌──────────────────── one lane ────────────────────┐
//!  socket ──▶│ serve: connections ─▶ grpc │ http (cors)         │
//!            │                          ▼                       │
//!            │     access: is the client let in? metadata       │
//!            │                          ▼                       │
//!            │      body: read, bounded, paid for               │
//!            │                          ▼                       │
//!            │ entry: decompress ─▶ validate ─▶ send            │──▶ pipelines
//!            │                          ▲                       │        │
//!            │        answer ◀──── wait for the receipt ◀───────│────────┘
//!            └──────────────────────────────────────────────────┘
//! ```
//!
//! What it promises:
//!
//! * A success is answered when every pipeline has settled its receipt, and only then.
//! * Memory for a request is taken from the memory limiters before it is read and before it is decompressed; sizes are
//!   limited before and after decompression ([I7]).
//! * Every refusal is answered in the client's own encoding with what is wrong and whether to come again (`refusal`).
//! * A client is let in or refused by the head of its request, before a byte of the body is read.
//! * No client, however slow or hostile, holds a request's memory longer than [`Timeouts`] allows.
//! * At shutdown requests under way are finished, idle connections are told to go.
//!
//! Uncompressed bodies that arrive in one piece go down the pipeline as the bytes that arrived. What is not configured
//! costs nothing: without `auth` and `include_metadata` no header is copied.
//!
//! # Both ports
//!
//! ```yaml
//! grpc:
//!   endpoint: /run/weir/otlp.sock   # host:port, or the path of a socket
//!   transport: unix                 # default tcp
//!   auth:
//!     authenticator: bearertokenauth/teams
//!   include_metadata: true          # headers go with the data: for routing, batching by them, sending them on
//!   middlewares:
//!     - id: memory_limiter          # an extension that limits memory, beside the limiters of the pipelines
//!   tls:
//!     cert_file: server.pem         # or cert_pem, the text itself
//!     key_file: server.key          # or key_pem
//!     reload_interval: 1h           # look whether they are new ones; default: never
//!     client_ca_file: clients.pem   # clients need a certificate from one of these authorities
//!     client_ca_file_reload: true   # follow that file, too: every reload_interval, else every 10 s
//!     min_version: "1.2"            # 1.2 or 1.3
//!     max_version: "1.3"
//!     cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
//!     curve_preferences: [X25519MLKEM768, X25519, P256, P384]
//! ```
//!
//! * Who is not let in gets UNAUTHENTICATED or 401, with the authenticator's reason. The sender's identity goes with
//!   the data, whether or not the headers do.
//! * Metadata are the request's headers by their lower-case names, and `host`; values that are no UTF-8 are left out.
//!   Their memory is taken from the limiters like that of the data.
//! * A socket's file is removed at the end. One that nobody listens on any more is replaced at the start; one that others
//!   have removed is made anew when the configuration is loaded anew.
//! * Files that cannot be reloaded are warned of; the former certificates stay in use.
//!
//! # gRPC
//!
//! ```yaml
//! max_recv_msg_size_mib: 64         # 64 is the default, where the Collector has 4
//! max_concurrent_streams: 1024      # the default
//! keepalive:
//!   server_parameters:
//!     max_connection_idle: 10m      # default: no limit, as for the next two
//!     max_connection_age: 1h        # give or take a tenth; lets a load balancer spread clients again
//!     max_connection_age_grace: 1m  # then what is still under way is cut off
//!     time: 2m                      # ping after so much silence; default 2m, where gRPC has 2h
//!     timeout: 20s                  # for the answer; the default
//! ```
//!
//! `read_buffer_size` and `write_buffer_size` are accepted with a warning and change nothing: they size copies that the
//! Collector makes. So is `keepalive::enforcement_policy`: clients may send pings as often as they like, of which the
//! HTTP/2 implementation tells nobody. Messages may be compressed with gzip, zstd, snappy or deflate.
//!
//! # HTTP
//!
//! ```yaml
//! traces_url_path: /v1/traces       # likewise metrics_url_path, logs_url_path
//! max_request_body_size: 67108864   # the default, where the Collector has 20 MiB
//! compression_algorithms: ["", gzip, zstd, zlib, snappy, deflate]  # the default; lz4 and x-snappy-framed are known, too
//! response_headers: {x-served-by: weir}
//! auth:
//!   authenticator: bearertokenauth
//!   request_params: [token]         # seen by the authenticator as headers of that name, which they win over
//! cors:
//!   allowed_origins: [https://*.example.com]  # one `*` in each; `*` alone is any
//!   allowed_headers: [authorization]          # beside those always allowed; `*` is any
//!   exposed_headers: [retry-after]
//!   max_age: 7200                             # seconds
//! read_timeout: 1m                  # for a request, from its first byte to its last
//! read_header_timeout: 10s          # for its head; default read_timeout
//! write_timeout: 30s                # for the answer; and then for the client to read it
//! keepalive:
//!   enabled: true                   # false: one request a connection; formerly keep_alives_enabled
//!   idle_timeout: 90s               # between requests; default read_timeout, else 2m (HTTP/2: no limit); formerly outside
//! ```
//!
//! What the Traceloop SDKs ask for beside, when they start, is answered so that they start (`traceloop`).
//!
//! Preflights are answered without authentication. Decision: where `write_timeout` passes before the pipelines have
//! answered, the client is told to come again (503), where the Collector cuts the connection. Over HTTP/2
//! `read_timeout` counts from the end of a request's head, and `read_header_timeout` is for the connection's first bytes.
//!
//! [I7]: weir_pipeline::budget

mod access;
mod ahead;
mod answer;
mod body;
mod calls;
pub mod config;
mod connection;
mod cors;
mod crowd;
mod encoding;
mod entry;
mod grpc;
mod http;
mod journal;
mod listen;
mod ownership;
mod pace;
mod refusal;
mod serve;
mod socket;
mod tls;
mod traceloop;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::task::JoinSet;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::node::{Context, Outlets, Receiver, Shutdown, StartError};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ReceiverCounters;

pub use self::access::Access;
pub use self::config::{
    Address, Endpoint, GrpcSettings, HttpSettings, HttpTimeouts, Lifetime, OtlpSettings, Paths, PortSettings, Timeouts,
};
pub use self::cors::Cors;
pub use self::encoding::Encodings;
use self::entry::{Books, Entries};
use self::grpc::Grpc;
use self::http::{Http, HttpRules};
use self::journal::Journal;
use self::listen::{Files, ListenError, Listener};
use self::ownership::Ledger;
use self::serve::{Acceptor, Manners, Port, Service};
use self::tls::Tls;
pub use self::tls::TlsSettings;

const GRPC: &str = "grpc";
const HTTP: &str = "http";

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    config::schema(generator)
}

/// The OTLP receiver. See the [module](self).
#[derive(Debug)]
pub struct OtlpReceiver {
    settings: OtlpSettings,
    context: Context,
    journal: Arc<Journal>,
    bound: Mutex<Bound>,
}

/// What [`Receiver::bind`] has opened.
#[derive(Debug, Default)]
struct Bound {
    addresses: Vec<(&'static str, SocketAddr)>,
    files: Files,
    sockets: Vec<BoundSocket>,
    tls: Vec<Arc<Tls>>,
}

#[derive(Debug)]
struct BoundSocket {
    lane: usize,
    protocol: &'static str,
    listener: Listener,
    tls: Option<Arc<Tls>>,
}

impl OtlpReceiver {
    /// The receiver that is configured at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: Context) -> Result<Self, ConfigError> {
        Ok(Self::new(OtlpSettings::parse(node, path, &context.extensions)?, context))
    }

    /// A receiver that listens nowhere yet.
    pub fn new(settings: OtlpSettings, context: Context) -> Self {
        let journal = Arc::new(Journal::new(&context.id, context.environment.clone()));
        Self { settings, context, journal, bound: Mutex::default() }
    }

    fn open(
        &self,
        bound: &mut Bound,
        protocol: &'static str,
        port: &PortSettings,
        lanes: usize,
    ) -> Result<(), StartError> {
        let component = &self.context.id;
        let path = format!("receivers::{component}::protocols::{protocol}");
        let failed = |message: String| StartError { component: component.clone(), message };
        let tls = match &port.tls {
            None => None,
            Some(settings) => {
                let loaded = Tls::load(settings.clone());
                Some(Arc::new(loaded.map_err(|error| failed(format!("{error} ({path}::tls::{})", error.key)))?))
            }
        };
        let sockets = listen::listen(&port.address, lanes, &self.context.sockets).map_err(|error| match error {
            ListenError::InUse(_) => failed(format!("{error} change {path}::endpoint")),
            _ => failed(format!("{error} ({path}::endpoint)")),
        })?;
        for by_lane in sockets {
            for (lane, listener) in by_lane.into_iter().enumerate() {
                if lane == 0 {
                    bound.files.note(&listener);
                    match listener.local_addr() {
                        Ok(Some(address)) => bound.addresses.push((protocol, address)),
                        Ok(None) => tracing::info!(receiver = component, "{protocol} listens on {listener}"),
                        Err(error) => return Err(failed(format!("{error} ({path}::endpoint)"))),
                    }
                }
                bound.sockets.push(BoundSocket { lane, protocol, listener, tls: tls.clone() });
            }
        }
        bound.tls.extend(tls);
        Ok(())
    }

    fn service(&self, protocol: &'static str, outlets: &Outlets) -> Option<(Service, Manners)> {
        let OtlpSettings { grpc, http, timeouts } = &self.settings;
        let Context { id, telemetry, .. } = &self.context;
        let entries = |port: &PortSettings, timeouts: Timeouts| {
            let books = |signal: Signal| Books {
                counters: ReceiverCounters::new(telemetry, id, signal, protocol),
                ledger: Arc::new(Ledger::new(telemetry, id, signal, protocol)),
            };
            let outlets = outlets.with_budgets(&port.budgets);
            Entries::new(protocol, &outlets, port.max_bytes, timeouts, Arc::clone(&self.journal), books)
        };
        if protocol == GRPC {
            let GrpcSettings { port, max_concurrent_streams, lifetime } = grpc.as_ref()?;
            let grpc = Grpc::new(port.access.clone(), entries(port, *timeouts));
            let service = Service::Grpc(Arc::new(grpc), *max_concurrent_streams);
            let (timeouts, lifetime) = (*timeouts, *lifetime);
            let manners = Manners { timeouts, http: HttpTimeouts::default(), lifetime, keep_alives: true };
            Some((service, manners))
        } else {
            let http = http.as_ref()?;
            let timeouts = http.timeouts.applied_to(*timeouts);
            let rules = HttpRules {
                paths: http.paths.clone(),
                access: http.port.access.clone(),
                accepted: http.accepted,
                cors: http.cors.clone(),
                response_headers: http.response_headers.clone(),
            };
            let service = Service::Http(Arc::new(Http::new(rules, entries(&http.port, timeouts))));
            let (lifetime, keep_alives) = (Lifetime::default(), http.keep_alives_enabled);
            Some((service, Manners { timeouts, http: http.timeouts, lifetime, keep_alives }))
        }
    }

    fn take_sockets(&self, lane: usize) -> Vec<BoundSocket> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.sockets.extract_if(.., |socket| socket.lane == lane).collect()
    }

    /// The certificates to follow, which one lane does for all.
    fn take_tls(&self, lane: usize) -> Vec<Arc<Tls>> {
        if lane > 0 {
            return Vec::new();
        }
        std::mem::take(&mut self.bound.lock().unwrap_or_else(PoisonError::into_inner).tls)
    }
}

#[async_trait]
impl Receiver for OtlpReceiver {
    fn keeps_metadata(&self) -> bool {
        let OtlpSettings { grpc, http, .. } = &self.settings;
        let ports = grpc.iter().map(|grpc| &grpc.port).chain(http.iter().map(|http| &http.port));
        // An authenticator tells who it is, of which components may know more than of headers.
        ports.map(|port| &port.access).any(|access| access.include_metadata || access.authenticator.is_some())
    }

    fn bind(&self, lanes: usize) -> Result<(), StartError> {
        let mut bound = Bound::default();
        if let Some(grpc) = &self.settings.grpc {
            self.open(&mut bound, GRPC, &grpc.port, lanes)?;
        }
        if let Some(http) = &self.settings.http {
            self.open(&mut bound, HTTP, &http.port, lanes)?;
        }
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
        Ok(())
    }

    fn is_reachable(&self) -> bool {
        !self.bound.lock().unwrap_or_else(PoisonError::into_inner).files.are_gone()
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).addresses.clone()
    }

    async fn run(self: Arc<Self>, lane: usize, outlets: Outlets, shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        let services = [GRPC, HTTP].map(|protocol| (protocol, self.service(protocol, &outlets)));
        for BoundSocket { protocol, listener, tls, .. } in self.take_sockets(lane) {
            let service = services.iter().find(|(p, _)| *p == protocol).and_then(|(_, service)| service.clone());
            let Some((service, manners)) = service else { continue };
            // It can only fail outside a runtime with I/O, or when the system has no descriptors for the poller.
            let listener = match Acceptor::new(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(receiver = self.context.id, lane, "cannot serve {protocol} in this lane: {error}");
                    continue;
                }
            };
            let environment = self.context.environment.clone();
            tasks.spawn(Port { listener, service, tls, manners, environment }.serve(shutdown.clone()));
        }
        for tls in self.take_tls(lane) {
            tasks.spawn(tls.follow(shutdown.clone()));
        }
        let (sockets, mut stopping) = (self.context.sockets.clone(), shutdown);
        tasks.spawn(async move {
            stopping.requested().await;
            // Whoever comes after this receiver has its own copies by now.
            sockets.release();
        });
        while tasks.join_next().await.is_some() {}
    }
}
