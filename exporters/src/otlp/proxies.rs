//! Proxies that the environment names, as programs in Go and so the Collector read it: `HTTP_PROXY` for `http://` URLs,
//! `HTTPS_PROXY` for `https://` URLs and for gRPC, and `NO_PROXY` for the hosts that are reached without one, each also in
//! small letters. What is on this machine never is.
//!
//! `NO_PROXY` is a list with commas: domains, which stand for what is below them too, addresses, networks such as
//! `10.0.0.0/8`, each of them with or without a port, or `*` for everything.

use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use super::client::address;
use super::connect::Proxy;
use super::endpoint::{InvalidEndpoint, proxy};

/// Which requests go through which proxy.
#[derive(Debug, Clone, Default)]
pub(super) enum Proxies {
    /// All through none.
    #[default]
    None,
    /// All through this one.
    Always(Proxy),
    /// As these variables say.
    Environment(Variables),
}

/// What the environment says; what is not set is empty.
#[derive(Clone, Default)]
pub(super) struct Variables {
    http: (&'static str, String),
    https: (&'static str, String),
    no: String,
}

impl Proxies {
    /// Those of the process's environment.
    pub(super) fn of_environment() -> Self {
        Self::Environment(Variables::read(|name| std::env::var(name).ok()))
    }

    /// The proxy for a host. `is_https` is for TLS and for gRPC.
    ///
    /// # Errors
    /// If the one that is named cannot be used.
    pub(super) fn find(&self, host: &str, port: u16, is_https: bool) -> Result<Option<Proxy>, InvalidEndpoint> {
        match self {
            Self::None => Ok(None),
            Self::Always(proxy) => Ok(Some(proxy.clone())),
            Self::Environment(variables) => variables.find(host, port, is_https),
        }
    }
}

impl Variables {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| {
            let mut given = names.into_iter().map(|name| (name, variable(name).unwrap_or_default()));
            given.find(|(_, value)| !value.is_empty()).unwrap_or_default()
        };
        Self {
            http: first(["HTTP_PROXY", "http_proxy"]),
            https: first(["HTTPS_PROXY", "https_proxy"]),
            no: first(["NO_PROXY", "no_proxy"]).1,
        }
    }

    fn find(&self, host: &str, port: u16, is_https: bool) -> Result<Option<Proxy>, InvalidEndpoint> {
        let (name, url) = if is_https { &self.https } else { &self.http };
        if url.is_empty() || is_local(host) || self.excepts(host, port) {
            return Ok(None);
        }
        let with_scheme = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        proxy(&with_scheme).map(Some).map_err(|error| error.of(name))
    }

    /// Whether `NO_PROXY` names the host.
    fn excepts(&self, host: &str, port: u16) -> bool {
        let suffix = format!(":{port}");
        let entries = self.no.split(',').map(|entry| {
            let entry = entry.trim();
            // The matcher knows no ports; one colon is not that of an IPv6 address.
            let without = entry.strip_suffix(&suffix).filter(|rest| !rest.contains(':') || rest.ends_with(']'));
            // As in Go, `*.example` is what is below it.
            let entry = without.unwrap_or(entry);
            entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry)
        });
        let entries: Vec<_> = entries.map(|entry| entry.trim_matches(['[', ']'])).collect();
        // Any proxy will do to ask whether there is to be one.
        let matcher = Matcher::builder().all("http://proxy").no(entries.join(",")).build();
        let uri: Option<Uri> = format!("http://{}", address(&host.to_ascii_lowercase(), port)).parse().ok();
        uri.is_some_and(|uri| matcher.intercept(&uri).is_none())
    }
}

/// Without what may be a password.
impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").field("no", &self.no).finish_non_exhaustive()
    }
}

fn is_local(host: &str) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Proxies::Environment(Variables::read(value))
    }

    fn found(variables: &[(&str, &str)], host: &str, is_https: bool) -> Option<String> {
        let found = proxies(variables).find(host, 4317, is_https).unwrap();
        found.map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let both = [("HTTP_PROXY", "http://a:1"), ("https_proxy", "b:2")];
        assert_eq!(found(&both, "h", false).as_deref(), Some("a:1"));
        assert_eq!(found(&both, "h", true).as_deref(), Some("b:2"));
        let both = [("HTTPS_PROXY", ""), ("https_proxy", "http://user:pw@b:2/")];
        assert_eq!((found(&both, "h", false), found(&both, "h", true).as_deref()), (None, Some("b:2")));
        assert_eq!((found(&[], "h", false), found(&[], "h", true)), (None, None));
        assert!(Proxies::None.find("h", 1, true).unwrap().is_none());
    }

    #[test]
    fn what_is_here_needs_none() {
        let all = [("HTTPS_PROXY", "p:1")];
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(found(&all, host, true), None, "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "fe80::1"] {
            assert!(found(&all, host, true).is_some(), "{host}");
        }
    }

    #[test]
    fn hosts_that_are_excepted_are_reached_without() {
        for (no, host, is_excepted) in [
            ("*", "h.example", true),
            ("example", "h.example", true),
            (".example", "h.example", true),
            ("*.example", "h.example", true),
            ("*.example:4317", "a.h.example", true),
            ("*.other", "h.example", false),
            ("h.example", "H.Example", true),
            ("other, h.example", "h.example", true),
            ("h.example:4317", "h.example", true),
            ("h.example:4318", "h.example", false),
            ("ample", "h.example", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3:4317", "10.1.2.3", true),
            ("10.1.2.3:1", "10.1.2.3", false),
            ("fd00::/8", "fd00::1", true),
            ("fd00::1", "fd00::1", true),
            ("[fd00::1]:4317", "fd00::1", true),
            ("fd00::4317", "fd00::4317", true),
            (" , ", "h.example", false),
        ] {
            let variables = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", no)];
            assert_eq!(found(&variables, host, true).is_none(), is_excepted, "{no} {host}");
        }
    }

    #[test]
    fn one_that_cannot_be_used_is_an_error_where_it_is_needed() {
        let socks = proxies(&[("HTTPS_PROXY", "socks5://me:secret@p:1"), ("NO_PROXY", "inside")]);
        assert!(socks.find("h", 1, false).unwrap().is_none());
        assert!(socks.find("h.inside", 1, true).unwrap().is_none());
        let error = socks.find("h", 1, true).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && error.contains("http://") && !error.contains("secret"), "{error}");
        assert!(!format!("{socks:?}").contains("secret"));
    }
}
