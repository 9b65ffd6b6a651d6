//! What the address of a call says about who answered it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names;
use crate::cost::catalog::{Catalog, ProviderId};

/// Who is behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A provider of the catalog.
    Provider(ProviderId),
    /// Nobody can tell: none was given, or one inside the user's own network, where proxies and gateways live.
    Silent,
    /// A public host that is none of the catalog's.
    Unknown,
}

/// Reads a base URL or a host name.
pub(super) fn endpoint(catalog: &Catalog, address: &str) -> Endpoint {
    let address = address.trim().to_lowercase();
    let rest = address.split_once("://").map_or(address.as_str(), |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host_of(authority);
    // What the user says about hosts comes first: it is the only thing that can be known about private ones.
    if let Some(provider) = catalog.declared_host(authority).or_else(|| catalog.declared_host(host)) {
        return Endpoint::Provider(provider);
    }
    if host.is_empty() || is_private(host) {
        return Endpoint::Silent;
    }
    // The catalog's patterns are for URLs with https and without a port.
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    let url = format!("https://{host}{path}");
    let by_table = || names::provider_of_host(host).and_then(|id| catalog.provider_by_id(id));
    catalog.provider_by_url(&url).or_else(by_table).map_or(Endpoint::Unknown, Endpoint::Provider)
}

fn host_of(authority: &str) -> &str {
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    // A bare IPv6 address has more than one colon; everything else at most the one before its port.
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => authority,
    }
}

fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => is_private_v4(ip),
        Ok(IpAddr::V6(ip)) => is_private_v6(ip),
        Err(_) => !host.contains('.') || PRIVATE_DOMAINS.iter().any(|domain| host.ends_with(domain)),
    }
}

const PRIVATE_DOMAINS: [&str; 7] = [".localhost", ".local", ".internal", ".svc", ".lan", ".intranet", ".home.arpa"];

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64;
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || ip.to_ipv4_mapped().is_some_and(is_private_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> String {
        let catalog = Catalog::embedded().unwrap();
        match endpoint(&catalog, address) {
            Endpoint::Provider(id) => catalog.provider_name(id).to_owned(),
            Endpoint::Silent => "silent".to_owned(),
            Endpoint::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn endpoints_of_providers_are_recognised() {
        let cases = [
            ("https://api.openai.com/v1/", "openai"),
            ("api.openai.com", "openai"),
            ("https://eu.api.openai.com/v1", "openai"),
            ("https://api.deepseek.com", "deepseek"),
            ("https://api.groq.com:443/openai/v1", "groq"),
            ("https://openrouter.ai/api/v1", "openrouter"),
            ("https://traceloop-stg.openai.azure.com/openai/", "azure"),
            ("https://test.services.ai.azure.com/models", "azure"),
            ("https://generativelanguage.googleapis.com/v1beta/openai/", "google"),
            ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws"),
            ("HTTPS://API.MISTRAL.AI/v1", "mistral"),
            ("http://user:secret@api.x.ai/v1", "x-ai"),
        ];
        for (address, provider) in cases {
            assert_eq!(of(address), provider, "{address}");
        }
    }

    #[test]
    fn own_addresses_say_nothing() {
        for address in [
            "",
            "127.0.0.1",
            "http://localhost:8000/v1/",
            "http://127.0.0.1:8080/llm/openai/v1/",
            "http://10.1.2.3/v1",
            "http://[::1]:4000",
            "::1",
            "fd00::1",
            "http://litellm:4000",
            "http://litellm.llm.svc.cluster.local",
            "http://host.docker.internal:11434/v1",
            "100.64.0.7",
        ] {
            assert_eq!(of(address), "silent", "{address}");
        }
    }

    #[test]
    fn public_hosts_of_others_are_unknown() {
        for address in ["https://llm.example.com/v1", "https://api.openai.com.example.org", "8.8.8.8", "100.128.0.1"] {
            assert_eq!(of(address), "unknown", "{address}");
        }
    }
}
