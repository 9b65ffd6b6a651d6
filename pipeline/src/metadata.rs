//! What a client said beside its data: request metadata, and who it proved to be.
//!
//! A receiver attaches it to a batch only when it is asked to (`include_metadata`, `auth`). It goes where the batch
//! goes: routing, batching by metadata and the headers of exporters read it. Joining batches of different metadata
//! leaves none, as in the Collector; a batch processor that must keep them apart does so by `metadata_keys`.

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
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// What is known of the sender: (`username`, `alice`). Read in configurations as `auth.username`.
    pub attributes: Vec<(&'static str, Box<str>)>,
    /// Whose the data are, if the authenticator knows.
    pub tenant: Option<Arc<Tenant>>,
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
    pub fn new(attributes: Vec<(&'static str, Box<str>)>) -> Self {
        Self { attributes, tenant: None }
    }

    /// A sender for a tenant: `auth.project`, `auth.environment`.
    pub fn of_tenant(tenant: &Arc<Tenant>) -> Self {
        let attributes = [("project", &tenant.project), ("environment", &tenant.environment)];
        let attributes = attributes.map(|(name, slug)| (name, slug.as_str().into())).to_vec();
        Self { attributes, tenant: Some(Arc::clone(tenant)) }
    }

    /// An attribute of the sender.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value)
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
}
