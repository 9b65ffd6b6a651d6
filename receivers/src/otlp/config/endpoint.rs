//! Where a port listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

/// `transport`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    #[default]
    Tcp,
    Unix,
}

/// Where a port listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// On a TCP port.
    Tcp(Endpoint),
    /// On a Unix domain socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// The address that `endpoint` means to `transport`.
    pub(super) fn parse(transport: Transport, endpoint: &str) -> Result<Self, String> {
        match transport {
            Transport::Tcp => endpoint.parse().map(Self::Tcp),
            Transport::Unix if cfg!(not(unix)) => Err("this system has no Unix domain sockets".to_owned()),
            Transport::Unix if endpoint.is_empty() || endpoint.starts_with('@') || endpoint.contains('\0') => {
                Err(format!("`{endpoint}` is no path of a socket: write one such as /run/weir/otlp.sock"))
            }
            Transport::Unix => Ok(Self::Unix(endpoint.into())),
        }
    }
}

/// A host and a port. An empty host means every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// 0: the system chooses.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address to listen on: write host:port, such as localhost:4317");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains([':', '/', ' ']) => return Err(wrong()),
            None => host,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port) in
            [("a:1", "a", 1), (":4317", "", 4317), ("[::1]:0", "::1", 0), ("0.0.0.0:65535", "0.0.0.0", 65535)]
        {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
            assert_eq!(endpoint.to_string(), text);
        }
        for bad in ["", "a", "a:", "a:65536", "::1:4317", "[::1:4317", "http://a:1", "a b:1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_of_sockets() {
        let parse = |text| Address::parse(Transport::Unix, text);
        assert_eq!(parse("/run/otlp.sock"), Ok(Address::Unix("/run/otlp.sock".into())));
        for bad in ["", "@abstract", "a\0b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
