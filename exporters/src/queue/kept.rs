//! What of the metadata of a batch lies in the log beside it.
//!
//! Texts, each behind its length in four bytes: names and values of headers, then, if an authenticator found out who the
//! sender is, two empty texts, and names and values of what is known of it. No header has an empty name; the log of a
//! version that kept headers alone ends with them.

use std::sync::Arc;

use bytes::Bytes;
use weir_pipeline::metadata::{Identity, Metadata, Reads};

/// Between headers and the attributes of the sender.
const SENDER: [&str; 2] = ["", ""];

/// Parts of the names of headers that may be secret.
const SECRETS: [&str; 8] = ["auth", "cookie", "credential", "key", "passw", "secret", "session", "token"];

/// What somebody reads of the metadata. Where nobody knows what that is, all but what may be secret.
pub(super) fn encode(metadata: &Metadata, reads: &Reads) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |name: &str, value: &str| {
        for text in [name, value] {
            // A header is far shorter than 4 GiB; a length that is not right is noticed when it is read.
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    };
    let is_kept =
        |name: &str| !name.is_empty() && (is_named(&reads.headers, name) || reads.is_unknown && !is_secret(name));
    metadata.headers().filter(|(name, _)| is_kept(name)).for_each(|(name, value)| put(name, value));
    if let Some(identity) = metadata.identity().filter(|_| reads.has_identity()) {
        put(SENDER[0], SENDER[1]);
        let is_kept = |name: &str| reads.is_unknown || is_named(&reads.attributes, name);
        identity.attributes.iter().filter(|(name, _)| is_kept(name)).for_each(|(name, value)| put(name, value));
    }
    out
}

fn is_named(names: &[String], name: &str) -> bool {
    names.iter().any(|named| named == name)
}

/// Whether a header of this lower-case name may be secret: `authorization`, `x-api-key`.
fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|part| name.contains(part))
}

/// `None` if there is nothing.
pub(super) fn decode(bytes: &Bytes) -> Option<Metadata> {
    let (mut rest, mut texts) = (&bytes[..], Vec::new());
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let (text, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts.push(std::str::from_utf8(text).ok()?);
        rest = behind;
    }
    let (pairs, _) = texts.as_chunks::<2>();
    let mut parts = pairs.splitn(2, |pair| *pair == SENDER);
    let (headers, sender) = (parts.next().unwrap_or_default(), parts.next());
    if headers.is_empty() && sender.is_none() {
        return None;
    }
    let metadata = Metadata::new(headers.iter().map(|[name, value]| (*name, *value)));
    Some(match sender {
        Some(attributes) => {
            let attributes = attributes.iter().map(|[name, value]| ((*name).to_owned(), Box::from(*value)));
            metadata.with_identity(Arc::new(Identity::new(attributes.collect())))
        }
        None => metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(headers: &[&str], attributes: &[&str]) -> Reads {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Reads { headers: owned(headers), attributes: owned(attributes), is_unknown: false }
    }

    fn sent() -> Metadata {
        let identity = Identity::new(vec![("username", "alice".into()), ("email", "".into())]);
        Metadata::new([("x-tenant", "acme"), ("x-tenant", ""), ("authorization", "Bearer ☃"), ("x-api-key", "k")])
            .with_identity(Arc::new(identity))
    }

    #[test]
    fn what_somebody_reads_is_read_as_it_was_written_and_nothing_else_is_written() {
        let kept = |reads: &Reads| decode(&encode(&sent(), reads).into());
        assert_eq!(kept(&reads(&["x-tenant", "x-api-key", "authorization"], &["email", "username"])), Some(sent()));
        let metadata = kept(&reads(&["x-tenant"], &["username", "missing"])).unwrap();
        assert_eq!(metadata.headers().collect::<Vec<_>>(), [("x-tenant", "acme"), ("x-tenant", "")]);
        assert_eq!((metadata.lookup("auth.username"), metadata.lookup("auth.email")), (Some("alice"), None));
        assert_eq!(kept(&reads(&["x-tenant"], &[])).unwrap().identity(), None);
        assert_eq!(encode(&sent(), &Reads::default()), [0; 0]);
    }

    #[test]
    fn secrets_are_written_only_if_they_are_named() {
        let kept = |reads: &Reads| decode(&encode(&sent(), reads).into()).unwrap();
        let metadata = kept(&Reads::unknown());
        assert_eq!(metadata.headers().collect::<Vec<_>>(), [("x-tenant", "acme"), ("x-tenant", "")]);
        assert_eq!(metadata.lookup("auth.username"), Some("alice"));
        let metadata = kept(&Reads { is_unknown: true, ..reads(&["authorization"], &[]) });
        assert_eq!((metadata.first("authorization"), metadata.first("x-api-key")), (Some("Bearer ☃"), None));
        for secret in ["proxy-authorization", "cookie", "api-key", "x-goog-api-key", "x-auth-token", "x-secret"] {
            assert!(is_secret(secret), "{secret}");
        }
    }

    /// What a version wrote that knew headers alone.
    #[test]
    fn headers_that_were_written_before_are_read() {
        let before = b"\x08\0\0\0x-tenant\x04\0\0\0acme\x01\0\0\0a\0\0\0\0";
        assert_eq!(decode(&Bytes::from_static(before)), Some(Metadata::new([("x-tenant", "acme"), ("a", "")])));
        assert_eq!(decode(&Bytes::new()), None);
        for wrong in [&b"\x01\0\0\0"[..], b"\xff\xff\xff\xffabc", b"\x01\0\0\0\xff\x01\0\0\0a"] {
            assert_eq!(decode(&Bytes::from_static(wrong)), None);
        }
    }
}
