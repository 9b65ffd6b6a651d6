//! Weir's own metrics, for Prometheus and over OTLP: `service::telemetry::metrics`.
//!
//! ```yaml
//! service:
//!   telemetry:
//!     metrics:
//!       level: normal                     # none | basic | normal | detailed
//!       readers:
//!         - pull:
//!             exporter:
//!               prometheus:
//!                 host: localhost
//!                 port: 8888
//!                 without_type_suffix: true   # `_total` of counters is left out
//!                 without_units: true         # `_seconds`, `_bytes` … are left out
//!                 without_scope_info: true    # the label `otel_scope_name` is left out
//!         - periodic:
//!             interval: 60000               # milliseconds from one request to the next
//!             timeout: 30000                # of a request, in milliseconds
//!             exporter:
//!               otlp: {protocol: http/protobuf, endpoint: "https://backend:4318"}   # see `weir_exporters::otlp`
//!     resource: {service.name: gateway}   # labels of `target_info`; attributes of the resource over OTLP
//! ```
//!
//! Without `readers` there is one with the values shown; `address: localhost:8888`, which older Collectors read, changes
//! where it listens. A reader that is written has the suffixes and labels unless it says otherwise, as in the Collector.
//!
//! `POST /-/reload` on the same port loads the configuration anew, as SIGHUP does, and answers when it runs or with what
//! is wrong with it. It is for this machine alone: a request from elsewhere, or by a web page, is refused. So is one with a
//! body or the content type of telemetry, which has strayed here: a backend may have sent an exporter of this machine on.
//!
//! Over OTLP, sums count from the start of the process (cumulative), and the resource is told apart from that of other
//! processes by `service.instance.id`, a random one unless it is configured. What is not taken is logged and not sent
//! again, since the next request goes on from it; a stop sends the last numbers.
//!
//! What it guarantees:
//!
//! * All numbers of a page or request are read at one moment. `weir_accounting_difference` is 0 for each destination unless
//!   records vanished uncounted or were counted twice (I2); `weir_exporter_dropped` says how many were given up and why.
//! * The number of series is bounded, whatever clients send ([`weir_pipeline::telemetry::MAX_SERIES`] a metric).
//! * If nobody asked for port 8888, its being in use is a warning: a second Weir on a laptop starts all the same. A
//!   configured address that cannot be had is an error.

mod collect;
mod config;
mod otlp;
mod periodic;
mod process;
mod since;
mod text;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use weir_pipeline::hex::Hex;
use weir_pipeline::host::Host;
use weir_pipeline::node::StartError;
use weir_pipeline::sockets::Sockets;
use weir_pipeline::telemetry::Level;

pub(crate) use self::collect::{Collected, shown_name};
pub use self::config::{MetricsConfig, OpenPush, Periodic, Reader, Settings};
use self::periodic::Sending;
use self::text::Resource;
use crate::http::{Ask, ListenError, Page, Pages, Server, page};

/// The readers that run: pages, and what sends.
#[derive(Debug)]
pub struct Metrics {
    servers: Vec<Server>,
    sending: Vec<Sending>,
    sockets: Sockets,
    /// What tells this process from others of the same name.
    instance_id: String,
}

impl Metrics {
    /// Starts all readers, in tasks of the runtime that this is called in.
    ///
    /// # Errors
    /// If a configured address cannot be listened on. That the default one is in use is logged and no error.
    pub fn start(settings: &Settings, host: &Host) -> Result<Self, StartError> {
        Self::start_with(settings, host, host.sockets(), instance_id(host), None)
    }

    /// Starts the readers that take the place of these, which still run and are then to be stopped.
    ///
    /// # Errors
    /// As [`start`](Self::start); these run on then.
    pub fn restart(&self, settings: &Settings, host: &Host) -> Result<Self, StartError> {
        self.sockets.leave();
        let former = Some(&self.sending[..]);
        let next = Self::start_with(settings, host, host.sockets(), self.instance_id.clone(), former);
        self.sockets.stay();
        next
    }

    fn start_with(
        settings: &Settings,
        host: &Host,
        sockets: Sockets,
        instance_id: String,
        former: Option<&[Sending]>,
    ) -> Result<Self, StartError> {
        let mut metrics = Self { servers: Vec::new(), sending: Vec::new(), sockets, instance_id };
        if let Err(error) = metrics.serve(settings, host, former) {
            metrics.sockets.release();
            return Err(error);
        }
        Ok(metrics)
    }

    fn serve(&mut self, settings: &Settings, host: &Host, former: Option<&[Sending]>) -> Result<(), StartError> {
        if settings.level == Level::None {
            return Ok(());
        }
        for reader in &settings.readers {
            let failed = |message: String| StartError { component: "service::telemetry::metrics".to_owned(), message };
            let sockets = match reader.endpoint.listen(&self.sockets) {
                Ok(sockets) => sockets,
                Err(ListenError::InUse(address)) if reader.is_default => {
                    tracing::warn!(
                        "{address} is in use: Weir's own metrics are not served; another Weir? \
                         Set service::telemetry::metrics::readers to another port, or level to none"
                    );
                    continue;
                }
                Err(error) => return Err(failed(format!("{error}; change the reader's host and port"))),
            };
            let pages: Arc<dyn Pages> = Arc::new(Exposition {
                host: host.clone(),
                level: settings.level,
                reader: reader.clone(),
                resource: Resource::new(&settings.resource),
            });
            self.servers.push(Server::start(sockets, &pages).map_err(|error| failed(error.to_string()))?);
        }
        // After all that can fail: what has begun to send would send its last numbers.
        for reader in &settings.periodic {
            let mut resource = settings.resource.clone();
            if settings.has_instance_id {
                resource.insert(INSTANCE_ID.to_owned(), self.instance_id.clone());
            }
            let address = reader.push.address();
            let nth = self.sending.iter().filter(|sending| sending.address() == address).count();
            self.sending.push(Sending::start(reader.clone(), host.clone(), settings.level, resource, former, nth));
        }
        Ok(())
    }

    /// Where the pages are.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().flat_map(|server| server.addresses().to_vec()).collect()
    }

    /// Where metrics are sent to.
    pub fn destinations(&self) -> impl Iterator<Item = String> {
        self.sending.iter().map(Sending::address)
    }

    /// Sends the last numbers and stops serving.
    pub async fn stop(&self) {
        self.sockets.release();
        for sending in &self.sending {
            sending.stop().await;
        }
        for server in &self.servers {
            server.stop().await;
        }
    }
}

/// The attribute of the resource that is made up.
const INSTANCE_ID: &str = "service.instance.id";

/// Sixteen random bytes as OpenTelemetry wants them: a UUID of version 4.
fn instance_id(host: &Host) -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // No randomness, and still nobody else's: another process of this machine started at another time.
        bytes[..8].copy_from_slice(&host.started_unix_nanos().to_be_bytes());
        bytes[8..12].copy_from_slice(&std::process::id().to_be_bytes());
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = Hex(&bytes).to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Where the configuration is loaded anew; the path is Prometheus' own.
const RELOAD: &str = "/-/reload";

const TEXT: &str = "text/plain; charset=utf-8";

/// The page of one reader.
struct Exposition {
    host: Host,
    level: Level,
    reader: Reader,
    resource: Resource,
}

#[async_trait]
impl Pages for Exposition {
    async fn answer(&self, ask: &Ask) -> Page {
        match ask.uri.path() {
            "/metrics" | "/" => {
                let collected = Collected::now(&self.host, self.level);
                let text = text::exposition(&collected, &self.reader, &self.resource);
                page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            RELOAD => self.reload(ask).await,
            _ => page(StatusCode::NOT_FOUND, TEXT, "the metrics are at /metrics\n"),
        }
    }

    fn methods(&self, path: &str) -> &'static str {
        if path == RELOAD { "POST, PUT" } else { "GET, HEAD" }
    }
}

impl Exposition {
    /// Loads the configuration anew, if this machine asks for it: not a browser that another site has told to, nor a
    /// neighbour who may read the metrics.
    async fn reload(&self, ask: &Ask) -> Page {
        if !ask.peer.ip().to_canonical().is_loopback() || ask.headers.contains_key(ORIGIN) {
            return page(StatusCode::FORBIDDEN, TEXT, "only this machine may do that\n");
        }
        if is_telemetry(&ask.headers) {
            let refusal = "this loads the configuration anew and takes no body: telemetry does not belong here\n";
            return page(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, refusal);
        }
        match self.host.reload().await {
            Ok(()) => page(StatusCode::OK, TEXT, "the configuration was loaded anew\n"),
            Err(error) => page(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        }
    }
}

/// Whether a request may be telemetry: it has a body, or the content type of OTLP.
fn is_telemetry(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.contains_key(CONTENT_LENGTH) && text(CONTENT_LENGTH).is_none_or(|length| length.trim() != "0");
    let kind = text(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    has_body || matches!(kind, "application/x-protobuf" | "application/json") || kind.starts_with("application/grpc")
}
