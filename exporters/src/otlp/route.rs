//! The way of a request to one URL, and on to where the server there sends it.
//!
//! Of the answers that name another place only 307 and 308 are followed: they alone let a request stay what it is. As in
//! the Collector, a server is believed for one request at a time and ten times in a row. What is secret, which all
//! configured headers may be, goes along to the same host and port, and from http to https of the same host, but to
//! nobody else; and nothing goes from https to http.
//!
//! Decision: a server elsewhere is not believed when it names this machine or its link (`localhost`, a loopback or
//! link-local address): what listens there trusts whoever can reach it. One that is there itself may. What a name stands
//! for is not looked at.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::answer::MAX_HTTP_RESPONSE;
use super::client::{Client, Reply, Target, Template};
use super::endpoint::HttpEndpoint;
use super::exchange::{Outgoing, exchange};
use super::headers::Edit;
use super::http::{HttpSettings, HttpTarget};
use super::tls::Tls;
use crate::queue::Failure;

/// How often in a row a request is sent on.
const MAX_REDIRECTS: usize = 10;

/// One lane's way.
pub(super) struct Route {
    home: HttpTarget,
    client: Client,
    settings: Box<HttpSettings>,
    /// The places that were last sent to.
    known: Mutex<Vec<(Stop, Arc<Client>)>>,
}

/// A place on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stop {
    endpoint: HttpEndpoint,
    /// Whether it may know what is secret.
    is_trusted: bool,
}

impl Route {
    pub(super) fn new(home: &HttpTarget, settings: &HttpSettings) -> Self {
        Self {
            client: Client::new(home.target.clone(), template(home, settings, &settings.headers)),
            home: home.clone(),
            settings: Box::new(settings.clone()),
            known: Mutex::default(),
        }
    }

    /// Sends once, to wherever that leads.
    pub(super) async fn send(&self, request: &Outgoing) -> Result<Reply, Failure> {
        let settings = &self.settings.exchange;
        // One time-out for all of the way.
        let (edits, deadline) = (settings.edits(request)?, settings.deadline());
        let reply = exchange(&self.client, &request.body, &edits, settings, deadline, MAX_HTTP_RESPONSE).await?;
        if !reply.status.is_redirection() {
            return Ok(reply);
        }
        // Boxed, because it is rare and would make the future of every request twice as large.
        Box::pin(self.follow(reply, request, &edits, deadline)).await
    }

    /// Sends to where an answer leads.
    async fn follow(
        &self,
        mut reply: Reply,
        request: &Outgoing,
        edits: &[Edit],
        deadline: Option<Instant>,
    ) -> Result<Reply, Failure> {
        let mut stop = self.start().map_err(Failure::Permanent)?;
        for _ in 0..MAX_REDIRECTS {
            if !matches!(reply.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return told(&stop, reply);
            }
            let failed = |why: String| Failure::Permanent(format!("HTTP status {}: {why}", reply.status));
            stop = stop.next(&reply.headers).map_err(failed)?;
            let client = self.client(&stop, deadline).await?;
            let (edits, settings) = (if stop.is_trusted { edits } else { &[] }, &self.settings.exchange);
            reply = exchange(&client, &request.body, edits, settings, deadline, MAX_HTTP_RESPONSE).await?;
        }
        if !reply.status.is_redirection() {
            return Ok(reply);
        }
        // As in the Collector: servers are put right.
        Err(Failure::transient(format!("HTTP status {}: it sent us on more than {MAX_REDIRECTS} times", reply.status)))
    }

    fn start(&self) -> Result<Stop, String> {
        let endpoint = HttpEndpoint::parse(&self.home.uri.to_string()).map_err(|e| e.to_string())?;
        Ok(Stop { endpoint, is_trusted: true })
    }

    /// A client for a place, with the connections it has from before.
    async fn client(&self, stop: &Stop, deadline: Option<Instant>) -> Result<Arc<Client>, Failure> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known().iter().find(|(other, _)| other == stop) {
            return Ok(Arc::clone(client));
        }
        let HttpEndpoint { uri, host, port, .. } = stop.endpoint.clone();
        let tls = match deadline {
            None => self.tls(stop).await,
            Some(deadline) => {
                let late = |_| Err("the files of `tls` were not read in time".to_owned());
                tokio::time::timeout_at(deadline, self.tls(stop)).await.unwrap_or_else(late)
            }
        };
        let unreachable = |why: String| Failure::transient(format!("it sends us to {}: {why}", stop.endpoint.shown()));
        let proxy = self.settings.proxies.find(&host, port, stop.endpoint.is_https);
        let (tls, proxy) = (tls.map_err(unreachable)?, proxy.map_err(|e| unreachable(e.to_string()))?);
        let target = Target { host, port, tls, proxy, ..self.home.target.clone() };
        let headers = if stop.is_trusted { &self.settings.headers } else { &HeaderMap::new() };
        let to = HttpTarget { target, uri };
        let client = Arc::new(Client::new(to.target.clone(), template(&to, &self.settings, headers)));
        let mut known = known();
        // Another request may have come here meanwhile.
        known.retain(|(other, _)| other != stop);
        if known.len() >= MAX_REDIRECTS {
            known.remove(0);
        }
        known.push((stop.clone(), Arc::clone(&client)));
        Ok(client)
    }

    /// TLS for a place: that of the configured one if the host is the same, which the user may know by another name.
    async fn tls(&self, stop: &Stop) -> Result<Option<Arc<Tls>>, String> {
        let endpoint = &stop.endpoint;
        let Target { host, tls, protocol, .. } = &self.home.target;
        match tls {
            _ if !endpoint.is_https => Ok(None),
            Some(tls) if stop.is_trusted && endpoint.host.eq_ignore_ascii_case(host) => Ok(Some(Arc::clone(tls))),
            _ => {
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| e.to_string())?;
                let (mut settings, alpn) = (self.settings.tls.clone(), protocol.alpn());
                if !stop.is_trusted {
                    // Whom we were sent to learns nothing of who we are.
                    settings.identity = None;
                }
                // Reads files.
                let built = tokio::task::spawn_blocking(move || Tls::new(settings, name, alpn)).await;
                built.map_err(|e| e.to_string())?.map(|tls| Some(Arc::new(tls))).map_err(|e| e.to_string())
            }
        }
    }
}

impl Stop {
    /// Where the server here sends us.
    fn next(&self, headers: &HeaderMap) -> Result<Self, String> {
        let endpoint = location(&self.endpoint, headers)?;
        let from = &self.endpoint;
        let is_upgrade = !from.is_https && endpoint.is_https;
        let is_same = is_upgrade || (from.is_https, from.port) == (endpoint.is_https, endpoint.port);
        let is_trusted = self.is_trusted && is_same && from.host.eq_ignore_ascii_case(&endpoint.host);
        Ok(Self { endpoint, is_trusted })
    }
}

/// An answer that is not followed; if it leads anywhere, the operator is told where.
fn told(stop: &Stop, reply: Reply) -> Result<Reply, Failure> {
    match stop.next(&reply.headers) {
        Ok(next) if reply.status.is_redirection() => {
            let place = next.endpoint.shown();
            let message = format!("HTTP status {}: it sends us to {place}: name that as the endpoint", reply.status);
            Err(Failure::Permanent(message))
        }
        _ => Ok(reply),
    }
}

/// Where an answer leads (RFC 9110, "Location").
pub(super) fn location(from: &HttpEndpoint, headers: &HeaderMap) -> Result<HttpEndpoint, String> {
    let nowhere = || "it sends us elsewhere without saying where".to_owned();
    let said = headers.get(LOCATION).and_then(|value| value.to_str().ok()).and_then(|said| said.split('#').next());
    let said = said.filter(|said| !said.is_empty()).ok_or_else(nowhere)?;
    let scheme = if from.is_https { "https" } else { "http" };
    let authority = from.uri.authority().map_or("", |authority| authority.as_str());
    let path = from.uri.path();
    let is_absolute =
        said.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric()));
    let url = if is_absolute {
        said.to_owned()
    } else if said.starts_with("//") {
        format!("{scheme}:{said}")
    } else if said.starts_with('/') {
        format!("{scheme}://{authority}{said}")
    } else if said.starts_with('?') {
        format!("{scheme}://{authority}{path}{said}")
    } else {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{said}")
    };
    let foreign = || "it sends us to where we do not go: name the address itself".to_owned();
    let endpoint = HttpEndpoint::parse(&url).map_err(|_| foreign())?;
    if from.is_https && !endpoint.is_https || is_near(&endpoint.host) && !is_near(&from.host) {
        return Err(format!("{}, which is {}", foreign(), endpoint.shown()));
    }
    Ok(endpoint)
}

/// Whether a host is this machine or on its link, as far as it can be told without asking anybody.
fn is_near(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        // Without an address, a connection goes to this machine.
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0,
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
        // `127.1` and `0x7f000001` are addresses to many resolvers. No name ends in a number.
        Err(_) => last == "localhost" || last.starts_with(|c: char| c.is_ascii_digit()) && is_number(last),
    }
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// What all requests to a place have in common.
fn template(HttpTarget { target, uri }: &HttpTarget, settings: &HttpSettings, headers: &HeaderMap) -> Template {
    let mut headers = headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(settings.encoding.content_type()));
    if let Some(name) = settings.exchange.compression.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    headers.entry(USER_AGENT).or_insert(super::USER_AGENT_VALUE);
    let mut with_host = headers.clone();
    let authority = uri.authority().map_or_else(|| target.address(), |authority| authority.as_str().to_owned());
    // What was parsed as an authority is a valid header; without a host the server will say so.
    if let (false, Ok(host)) = (with_host.contains_key(HOST), HeaderValue::try_from(authority)) {
        with_host.insert(HOST, host);
    }
    if !target.is_kept_alive {
        with_host.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let path = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    let http1 = match (&target.proxy, &target.tls) {
        // Such a proxy reads the requests themselves, and needs the whole URL.
        (Some(proxy), None) => {
            if let Some(authorization) = &proxy.authorization {
                with_host.insert(PROXY_AUTHORIZATION, authorization.clone());
            }
            uri.clone()
        }
        _ => path,
    };
    Template { http1: (http1, with_host), http2: (uri.clone(), headers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(from: &str, to: &str) -> Result<(String, bool), String> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::try_from(to).unwrap());
        let stop = Stop { endpoint: HttpEndpoint::parse(from).unwrap(), is_trusted: true };
        stop.next(&headers).map(|next| (next.endpoint.uri.to_string(), next.is_trusted))
    }

    #[test]
    fn locations_are_absolute_or_relative() {
        for (from, to, leads, is_trusted) in [
            ("http://h:4318/v1/traces", "/x?y=1#z", "http://h:4318/x?y=1", true),
            ("http://h:4318/v1/traces", "other", "http://h:4318/v1/other", true),
            ("http://h:4318", "other", "http://h:4318/other", true),
            ("http://h:4318/v1/traces?x=1", "?y=2", "http://h:4318/v1/traces?y=2", true),
            ("https://h/v1/traces", "//h/x", "https://h/x", true),
            ("https://h/v1/traces", "HTTPS://H:443/x", "https://H:443/x", true),
            ("http://h/v1/traces", "https://h/v1/traces", "https://h/v1/traces", true),
            ("https://h/v1/traces", "https://h:444/v1/traces", "https://h:444/v1/traces", false),
            ("http://h/v1/traces", "https://g/v1/traces", "https://g/v1/traces", false),
            ("http://h/v1/traces", "http://h:81/", "http://h:81/", false),
        ] {
            assert_eq!(next(from, to), Ok((leads.to_owned(), is_trusted)), "{from} {to}");
        }
        for to in ["http://h/v1/traces", "ftp://h/", "https://u:secret@h/", "https://", "//"] {
            let error = next("https://h/v1/traces", to).unwrap_err();
            assert!(error.contains("to where we do not go") && !error.contains("secret"), "{to}: {error}");
        }
        assert!(next("http://h/", "").unwrap_err().contains("without saying where"));
        assert!(next("http://h/", "#x").unwrap_err().contains("without saying where"));
    }
    #[test]
    fn nobody_else_sends_us_to_this_machine() {
        let near = [
            "localhost",
            "LocalHost.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
        ];
        for host in near {
            let to = format!("http://{host}:8888/-/reload?a=secret");
            for from in ["http://backend.example/v1/traces", "http://192.0.2.1/v1/traces"] {
                let error = next(from, &to).unwrap_err();
                let expected = "it sends us to where we do not go: name the address itself, which is http://";
                assert!(error.starts_with(expected) && error.ends_with(":8888/-/reload"), "{host}: {error}");
                assert!(error.to_lowercase().contains(&host.to_lowercase()), "{host}: {error}");
            }
            assert!(next("http://127.0.0.1:4318/v1/traces", &to).is_ok(), "{host}");
            assert!(next("http://localhost:4318/v1/traces", &to).is_ok(), "{host}");
            assert!(next(&format!("http://{host}/v1/traces"), "/elsewhere").is_ok(), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "[2001:db8::1]", "7.example", "0xyz", "b2"] {
            assert!(next("http://backend.example/", &format!("http://{host}/")).is_ok(), "{host}");
        }
    }
}
