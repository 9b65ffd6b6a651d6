//! What a client said beside its data: request metadata, and who it proved to be.
//!
//! A receiver attaches it to a batch only when it is asked to (`include_metadata`, `auth`). It goes where the batch
//! goes: routing, batching by metadata and the headers of exporters read it. Joining batches of different metadata
//! leaves none, as in the Collector, but who the sender is if that is the same; a batch processor that must keep them
//! apart does so by `metadata_keys`, and then never joins what different senders sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::tenant::Tenant;

/// The headers of a request and its authenticated sender.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Lower-case names and values, in the order they came; a name may occur more than once.
    headers: Vec<(Box<str>, Box<str>)>,
    identity: Option<Arc<Identity>>,
}

/// Who sent a request, as an authenticator found out.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// What is known of the sender: (`username`, `alice`). Read in configurations as `auth.username`.
    pub attributes: Vec<(Cow<'static, str>, Box<str>)>,
    /// Whose the data are, if the authenticator knows.
    pub tenant: Option<Arc<Tenant>>,
}

/// What of the metadata somebody reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Headers, by their lower-case names.
    pub headers: Vec<String>,
    /// Attributes of the authenticated sender.
    pub attributes: Vec<String>,
    /// Whether it may be more than that, which nobody knows.
    pub is_unknown: bool,
}

impl Metadata {
    /// Metadata with these headers; names are put into lower case.
    pub fn new<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase().into(), value.into()));
        Self { headers: headers.collect(), identity: None }
    }

    /// The same with an authenticated sender.
    #[must_use]
    pub fn with_identity(mut self, identity: Arc<Identity>) -> Self {
        self.identity = Some(identity);
        self
    }

    /// All headers: lower-case names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// All values of a header, whose name is compared without regard to case.
    pub fn values<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The first value of a header.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// What two that are joined have in common: both, if they are the same, else the sender, if it is the same.
    pub(crate) fn common(one: Option<Arc<Self>>, other: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        if one.as_ref() == other {
            return one;
        }
        let identity = one?.identity.clone()?;
        let is_same = other?.identity.as_ref() == Some(&identity);
        is_same.then(|| Arc::new(Self { headers: Vec::new(), identity: Some(identity) }))
    }

    /// The authenticated sender.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// What configurations write after `from_context:`: `metadata.x-tenant` or a bare header name, `auth.username`.
    pub fn lookup(&self, path: &str) -> Option<&str> {
        match path.split_once('.') {
            Some(("auth", attribute)) => self.identity.as_ref()?.get(attribute),
            Some(("metadata", header)) => self.first(header),
            _ => self.first(path),
        }
    }
}

impl Identity {
    /// A sender of whom these attributes are known.
    pub fn new<N: Into<Cow<'static, str>>>(attributes: Vec<(N, Box<str>)>) -> Self {
        Self { attributes: attributes.into_iter().map(|(name, value)| (name.into(), value)).collect(), tenant: None }
    }

    /// A sender for a tenant: `auth.project`, `auth.environment`.
    pub fn of_tenant(tenant: &Arc<Tenant>) -> Self {
        let attributes = [("project", &tenant.project), ("environment", &tenant.environment)];
        let attributes = attributes.map(|(name, slug)| (name.into(), slug.as_str().into())).to_vec();
        Self { attributes, tenant: Some(Arc::clone(tenant)) }
    }

    /// An attribute of the sender.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value)
    }
}

impl Reads {
    /// Of which nobody knows what it is.
    pub fn unknown() -> Self {
        Self { is_unknown: true, ..Self::default() }
    }

    /// Whether it may be anything of who the sender is.
    pub fn has_identity(&self) -> bool {
        self.is_unknown || !self.attributes.is_empty()
    }
}

/// Headers may carry secrets: only their names are shown.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.headers.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.attributes.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_identity_are_found_by_the_paths_of_configurations() {
        let identity = Identity::new(vec![("username", "alice".into())]);
        let metadata = Metadata::new([("X-Tenant", "acme"), ("x-tenant", "other"), ("authorization", "secret")])
            .with_identity(Arc::new(identity));
        assert_eq!(metadata.lookup("metadata.x-tenant"), Some("acme"));
        assert_eq!(metadata.lookup("X-TENANT"), Some("acme"));
        assert_eq!(metadata.lookup("auth.username"), Some("alice"));
        assert_eq!(metadata.lookup("auth.email"), None);
        assert_eq!(metadata.values("X-Tenant").collect::<Vec<_>>(), ["acme", "other"]);
        assert!(!format!("{metadata:?}").contains("secret"));
    }

    #[test]
    fn what_is_joined_of_one_sender_is_still_that_senders() {
        let metadata = |header: &str, sender: Option<&str>| {
            let metadata = Metadata::new([("x-tenant", header)]);
            Some(Arc::new(match sender {
                Some(name) => metadata.with_identity(Arc::new(Identity::new(vec![("username", name.into())]))),
                None => metadata,
            }))
        };
        let common = |one, other: Option<Arc<Metadata>>| Metadata::common(one, other.as_ref());
        let alice = || metadata("a", Some("alice"));
        assert_eq!(common(alice(), alice()), alice());
        let joined = common(alice(), metadata("b", Some("alice"))).unwrap();
        assert_eq!((joined.lookup("auth.username"), joined.first("x-tenant")), (Some("alice"), None));
        for other in [metadata("a", Some("bob")), metadata("a", None), None] {
            assert_eq!(common(alice(), other.clone()), None);
            assert_eq!(common(other, alice()), None);
        }
        assert_eq!(common(metadata("a", None), metadata("b", None)), None);
    }
}
