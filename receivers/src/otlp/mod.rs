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
//!            ┌────────────── one lane ──────────────┐
//!  socket ──▶│ serve: connections ─▶ grpc │ http     │
//!            │                          ▼           │
//!            │      body: read, bounded, paid for   │
//!            │                          ▼           │
//!            │ entry: decompress ─▶ validate ─▶ send │──▶ pipelines
//!            │                          ▲           │        │
//!            │        answer ◀──── wait for the receipt ◀────┘
//!            └──────────────────────────────────────┘
//! ```
//!
//! What it promises:
//!
//! * A success is answered when every pipeline has settled its receipt, and only then.
//! * Memory for a request is taken from the memory limiters before it is read and before it is decompressed; sizes are
//!   limited before and after decompression ([I7]).
//! * Every refusal is answered in the client's own encoding with what is wrong and whether to come again (`refusal`).
//! * No client, however slow or hostile, holds a request's memory longer than [`Timeouts`] allows.
//! * At shutdown requests under way are finished, idle connections are told to go.
//!
//! Uncompressed bodies that arrive in one piece go down the pipeline as the bytes that arrived.
//!
//! [I7]: weir_pipeline::budget

mod answer;
mod body;
pub mod config;
mod encoding;
mod entry;
mod grpc;
mod http;
mod journal;
mod listen;
mod refusal;
mod serve;
mod socket;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::node::{Context, Outlets, Receiver, Shutdown, StartError};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ReceiverCounters;

pub use self::config::{Endpoint, GrpcSettings, HttpSettings, OtlpConfig, OtlpSettings, Paths, Timeouts, TlsConfig};
use self::entry::Entries;
use self::grpc::Grpc;
use self::http::Http;
use self::journal::Journal;
use self::serve::{Port, Service};

const GRPC: &str = "grpc";
const HTTP: &str = "http";

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
    sockets: Vec<BoundSocket>,
}

#[derive(Debug)]
struct BoundSocket {
    lane: usize,
    protocol: &'static str,
    listener: TcpListener,
    tls: Option<TlsHandle>,
}

#[derive(Clone)]
struct TlsHandle(TlsAcceptor);

impl std::fmt::Debug for TlsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

impl OtlpReceiver {
    /// The receiver that is configured at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: Context) -> Result<Self, ConfigError> {
        let config: OtlpConfig = node.parse_as(path)?;
        let settings = OtlpSettings::try_from(config).map_err(|invalid| {
            // The deepest key on the way to the wrong one that is written.
            let mut at = node;
            for key in invalid.path.split("::") {
                at = at.get(key).unwrap_or(at);
            }
            at.error(&format!("{path}::{}", invalid.path), invalid.message)
        })?;
        Ok(Self::new(settings, context))
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
        endpoint: &Endpoint,
        tls: Option<&TlsConfig>,
        lanes: usize,
    ) -> Result<(), StartError> {
        let failed = |key: &str, message: String| StartError {
            component: self.context.id.clone(),
            message: format!("{message} (receivers::{}::protocols::{protocol}::{key})", self.context.id),
        };
        let tls = tls.map(tls::acceptor).transpose().map_err(|e| failed("tls", e.to_string()))?.map(TlsHandle);
        let sockets = listen::listen(endpoint, lanes, &self.context.sockets).map_err(|error| match error {
            listen::ListenError::InUse(_) => StartError {
                component: self.context.id.clone(),
                message: format!("{error} change receivers::{}::protocols::{protocol}::endpoint", self.context.id),
            },
            _ => failed("endpoint", error.to_string()),
        })?;
        for by_lane in sockets {
            for (lane, listener) in by_lane.into_iter().enumerate() {
                if lane == 0 {
                    let address = listener.local_addr().map_err(|error| failed("endpoint", error.to_string()))?;
                    bound.addresses.push((protocol, address));
                }
                bound.sockets.push(BoundSocket { lane, protocol, listener, tls: tls.clone() });
            }
        }
        Ok(())
    }

    fn service(&self, protocol: &'static str, outlets: &Outlets) -> Option<Service> {
        let OtlpSettings { grpc, http, timeouts } = &self.settings;
        let Context { id, telemetry, .. } = &self.context;
        let entries = |max_bytes| {
            let counters = |signal: Signal| ReceiverCounters::new(telemetry, id, signal, protocol);
            Entries::new(protocol, outlets, max_bytes, *timeouts, Arc::clone(&self.journal), counters)
        };
        if protocol == GRPC {
            let grpc = grpc.as_ref()?;
            Some(Service::Grpc(Arc::new(Grpc::new(entries(grpc.max_recv_msg_size))), grpc.max_concurrent_streams))
        } else {
            let http = http.as_ref()?;
            Some(Service::Http(Arc::new(Http::new(http.paths.clone(), entries(http.max_request_body_size)))))
        }
    }

    fn take_sockets(&self, lane: usize) -> Vec<BoundSocket> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.sockets.extract_if(.., |socket| socket.lane == lane).collect()
    }
}

#[async_trait]
impl Receiver for OtlpReceiver {
    fn bind(&self, lanes: usize) -> Result<(), StartError> {
        let mut bound = Bound::default();
        if let Some(grpc) = &self.settings.grpc {
            self.open(&mut bound, GRPC, &grpc.endpoint, grpc.tls.as_ref(), lanes)?;
        }
        if let Some(http) = &self.settings.http {
            self.open(&mut bound, HTTP, &http.endpoint, http.tls.as_ref(), lanes)?;
        }
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
        Ok(())
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).addresses.clone()
    }

    async fn run(self: Arc<Self>, lane: usize, outlets: Outlets, shutdown: Shutdown) {
        let mut ports = JoinSet::new();
        let services = [GRPC, HTTP].map(|protocol| (protocol, self.service(protocol, &outlets)));
        for BoundSocket { protocol, listener, tls, .. } in self.take_sockets(lane) {
            let Some(service) = services.iter().find(|(p, _)| *p == protocol).and_then(|(_, s)| s.clone()) else {
                continue;
            };
            // It can only fail outside a runtime with I/O, or when the system has no descriptors for the poller.
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(receiver = self.context.id, lane, "cannot serve {protocol} in this lane: {error}");
                    continue;
                }
            };
            let timeouts = self.settings.timeouts;
            let port = Port { listener, service, tls: tls.map(|TlsHandle(tls)| tls), timeouts };
            ports.spawn(port.serve(shutdown.clone()));
        }
        let (sockets, mut stopping) = (self.context.sockets.clone(), shutdown);
        ports.spawn(async move {
            stopping.requested().await;
            // Whoever comes after this receiver has its own copies by now.
            sockets.release();
        });
        while ports.join_next().await.is_some() {}
    }
}
