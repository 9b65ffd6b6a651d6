//! Endpoints as the Collector reads them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use weir_pipeline::signal::Signal;

use super::answer::{percent_decoded, shortened};
use super::connect::Proxy;

/// What is wrong with an endpoint. The text does not quote the endpoint where it may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidEndpoint(String);

impl InvalidEndpoint {
    /// The same of a proxy that a variable of the environment names.
    pub(super) fn of(self, variable: &str) -> Self {
        Self(format!("needs a proxy, by the environment, but {variable} {self}, or the host into NO_PROXY"))
    }
}

/// An address for gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrpcEndpoint {
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The path of a Unix socket, which is connected to instead; beginning with a zero if it is a name (unix(7),
    /// "abstract").
    pub(super) socket: Option<PathBuf>,
    /// `https://` was written, which asks for TLS whatever `tls::insecure` says.
    pub(super) is_https: bool,
}

impl GrpcEndpoint {
    /// Reads `host:port`, optionally after `http://`, `https://`, `dns:///` or `passthrough:///`; or a Unix socket
    /// after `unix:` or `unix-abstract:` (gRPC's document "naming").
    ///
    /// A scheme does not choose between TLS and plain text, except that `https://` asks for TLS.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |what: &str| InvalidEndpoint(format!("{what}: write it as host:port, such as localhost:4317"));
        if text.is_empty() {
            return Err(invalid("must be specified"));
        }
        if let Some(socket) = socket(text) {
            let socket =
                socket.map_err(|what| InvalidEndpoint(format!("{what}: write it as unix:///run/otlp.sock")))?;
            return Ok(Self { host: "localhost".to_owned(), port: 0, socket: Some(socket), is_https: false });
        }
        let is_https = text.starts_with("https://");
        let rest = ["http://", "https://", "dns:///", "passthrough:///"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        if rest.contains("://") || rest.starts_with("dns:") {
            return Err(InvalidEndpoint(
                "has a scheme that is not supported: write it as host:port, optionally after http://, https:// or dns:///"
                    .to_owned(),
            ));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| invalid("has no port"))?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(|| invalid("has an unclosed bracket"))?,
            None if host.contains(':') => return Err(invalid("is an IPv6 address without brackets")),
            None => host,
        };
        if host.contains(['/', '@', '?', '#']) || host.contains(char::is_whitespace) {
            return Err(invalid("is more than a host and a port"));
        }
        let port = port.parse().ok().filter(|p| *p > 0).ok_or_else(|| invalid("has no valid port"))?;
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self { host: host.to_owned(), port, socket: None, is_https })
    }

    /// `host:port` as it stands in `:authority`; of a socket the host alone.
    pub(super) fn authority(&self) -> String {
        if self.socket.is_some() {
            self.host.clone()
        } else if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The path of a Unix socket, if that is what is written, or what is wrong with it.
fn socket(text: &str) -> Option<Result<PathBuf, &'static str>> {
    let (path, lead) = match (text.strip_prefix("unix:"), text.strip_prefix("unix-abstract:")) {
        (Some(path), _) => (path.strip_prefix("//").unwrap_or(path), ""),
        (None, Some(name)) => (name, "\0"),
        (None, None) => return None,
    };
    Some(match path {
        "" => Err("names no socket"),
        path if path.contains('\0') => Err("is no path"),
        // After `unix://` there may be an authority, of which there is none.
        path if text.starts_with("unix://") && !path.starts_with('/') => Err("is no absolute path"),
        path => Ok(PathBuf::from(format!("{lead}{path}"))),
    })
}

/// A URL to post to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpEndpoint {
    /// The whole URL.
    pub(super) uri: Uri,
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_https: bool,
}

impl HttpEndpoint {
    /// The endpoint of a signal below the base URL `endpoint`.
    pub(super) fn below(base: &str, signal: Signal) -> Result<Self, InvalidEndpoint> {
        if base.contains(['?', '#']) {
            let message = format!("cannot have a query: write the whole URL as {signal}_endpoint");
            return Err(InvalidEndpoint(message));
        }
        // By itself first: a missing host would otherwise be taken from the path.
        Self::parse(base)?;
        Self::parse(&format!("{}/v1/{signal}", base.strip_suffix('/').unwrap_or(base)))
    }

    /// For messages: without the query, which may hold a secret.
    pub(super) fn shown(&self) -> String {
        self.uri.to_string().split('?').next().map(shortened).unwrap_or_default()
    }

    /// A URL to be used as it is.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |what: &str| InvalidEndpoint(format!("{what}: write a URL such as https://example.com:4318"));
        let uri: Uri = text.parse().map_err(|_| invalid("is not a URL"))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) => return Err(invalid("has a scheme that is neither http nor https")),
            None => return Err(invalid("has neither http:// nor https:// in front")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(InvalidEndpoint("cannot have a user name or password: send them as a header".to_owned()));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(invalid("has no host"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if is_https => 443,
            Some("") => 80,
            rest => rest
                .and_then(|r| r.strip_prefix(':')?.parse().ok())
                .filter(|port| *port > 0)
                .ok_or_else(|| invalid("has no valid port"))?,
        };
        Ok(Self { host, port, is_https, uri })
    }
}

/// Reads `proxy_url`: `http://proxy:3128`, optionally with a user name and a password, percent-encoded.
pub(super) fn proxy(text: &str) -> Result<Proxy, InvalidEndpoint> {
    let invalid = |what: &str| InvalidEndpoint(format!("{what}: write a URL such as http://proxy:3128"));
    let rest = text.strip_prefix("http://").ok_or_else(|| invalid("does not begin with http://"))?;
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, rest),
    };
    let endpoint = HttpEndpoint::parse(&format!("http://{rest}")).map_err(|_| invalid("is not the URL of a proxy"))?;
    if endpoint.uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err(invalid("is more than the address of a proxy"));
    }
    let authorization = credentials.map(|credentials| {
        let decoded = percent_decoded(credentials.as_bytes());
        let with_password = if credentials.contains(':') { decoded } else { format!("{decoded}:") };
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(with_password)));
        if let Ok(value) = &mut value {
            value.set_sensitive(true);
        }
        value.map_err(|_| invalid("has a user name that cannot be sent"))
    });
    Ok(Proxy { host: endpoint.host, port: endpoint.port, authorization: authorization.transpose()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grpc(text: &str) -> Result<(String, u16, bool), String> {
        GrpcEndpoint::parse(text).map(|e| (e.host, e.port, e.is_https)).map_err(|e| e.to_string())
    }

    fn http(text: &str) -> Result<(String, String, u16, bool), String> {
        let endpoint = HttpEndpoint::below(text, Signal::Traces).map_err(|e| e.to_string())?;
        Ok((endpoint.uri.to_string(), endpoint.host, endpoint.port, endpoint.is_https))
    }

    #[test]
    fn grpc_endpoints_are_host_and_port() {
        for text in ["tempo:4317", "http://tempo:4317", "dns:///tempo:4317", "passthrough:///tempo:4317"] {
            assert_eq!(grpc(text), Ok(("tempo".to_owned(), 4317, false)), "{text}");
        }
        assert_eq!(grpc("https://tempo:443"), Ok(("tempo".to_owned(), 443, true)));
        assert_eq!(grpc("[::1]:4317"), Ok(("::1".to_owned(), 4317, false)));
        assert_eq!(grpc(":4317"), Ok(("localhost".to_owned(), 4317, false)));
        assert_eq!(GrpcEndpoint::parse("[::1]:1").unwrap().authority(), "[::1]:1");
        for (text, path) in [
            ("unix:///run/x.sock", "/run/x.sock"),
            ("unix:/run/x.sock", "/run/x.sock"),
            ("unix:x.sock", "x.sock"),
            ("unix-abstract:x", "\0x"),
        ] {
            let endpoint = GrpcEndpoint::parse(text).unwrap();
            assert_eq!((endpoint.socket.as_deref(), endpoint.authority().as_str()), (Some(path.as_ref()), "localhost"));
        }
        for text in [
            "",
            "tempo",
            "tempo:",
            "tempo:http",
            "tempo:0",
            "tempo:70000",
            "::1:4317",
            "[::1:4317",
            "tempo:4317/",
            "a/b:1",
            "u@h:1",
            "unix:",
            "unix://tmp/x",
            "unix-abstract:",
            "ftp://h:1",
            "dns://8.8.8.8/h:1",
        ] {
            assert!(grpc(text).is_err(), "{text}");
        }
    }

    #[test]
    fn http_endpoints_are_bases_or_whole_urls() {
        let ok = |uri: &str, host: &str, port, is_https| Ok((uri.to_owned(), host.to_owned(), port, is_https));
        assert_eq!(http("http://h:4318"), ok("http://h:4318/v1/traces", "h", 4318, false));
        assert_eq!(http("http://h:4318/"), ok("http://h:4318/v1/traces", "h", 4318, false));
        assert_eq!(http("https://h/otlp"), ok("https://h/otlp/v1/traces", "h", 443, true));
        assert_eq!(http("http://[::1]"), ok("http://[::1]/v1/traces", "::1", 80, false));
        for text in [
            "",
            "h:4318",
            "/v1",
            "ftp://h",
            "http://",
            "https://u:secret@h",
            "http://h:x",
            "http://h:0",
            "http://h?a=b",
        ] {
            assert!(http(text).is_err(), "{text}");
        }
        assert!(!http("https://u:secret@h").unwrap_err().contains("secret"));
        let whole = HttpEndpoint::parse("https://h/custom?x=1").unwrap();
        assert_eq!(whole.uri.path_and_query().unwrap(), "/custom?x=1");
    }

    #[test]
    fn proxies_are_addresses_with_credentials() {
        let parsed = proxy("http://me:p%40ss@squid:3128/").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port), ("squid", 3128));
        let basic = format!("Basic {}", STANDARD.encode("me:p@ss"));
        assert_eq!(parsed.authorization.unwrap(), basic.as_str());
        assert!(proxy("http://squid").unwrap().authorization.is_none());
        for text in ["", "squid:3128", "https://squid", "socks5://squid", "http://", "http://squid/path", "http://s:x"]
        {
            assert!(proxy(text).is_err(), "{text}");
        }
        assert!(!proxy("http://me:secret@squid:x").unwrap_err().to_string().contains("secret"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = proxy(&format!("http://{text}"));
            let _ = (GrpcEndpoint::parse(&text), HttpEndpoint::parse(&text), HttpEndpoint::below(&text, Signal::Logs));
        }
    }
}
