//! Who may send, and what is kept of what a client says beside its data.

use std::fmt;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Uri};
use weir_pipeline::extension::{Authenticator, Decision, Denied};
use weir_pipeline::metadata::{Identity, Metadata};
use weir_pipeline::tenant::{Tenant, TenantSource};

use super::refusal::Refusal;

/// What a port asks of clients before it reads their data, and what it keeps of the answers.
#[derive(Clone, Default)]
pub struct Access {
    /// Lets clients in; without one, anybody is.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Query parameters that the authenticator sees as headers, in preference to those of that name.
    pub request_params: Vec<String>,
    /// Whether the headers go with the data.
    pub include_metadata: bool,
}

/// What is kept of a request beside its data.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) metadata: Arc<Metadata>,
    /// About the memory that the headers take which are kept.
    pub(super) bytes: usize,
    /// Whose the data are.
    pub(super) owner: Owner,
}

/// Whose the data of a request are.
#[derive(Clone)]
pub(super) enum Owner {
    /// Nobody asks.
    Unknown,
    /// The client's, as its key says.
    Tenant(Arc<Tenant>),
    /// The attributes of each resource tell.
    Attributes(Arc<dyn TenantSource>),
}

impl Access {
    /// Lets a request in or not, by its head alone. `None` if nothing of it is to be kept.
    pub(super) async fn admit(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<Sender>, Refusal> {
        let identity = match &self.authenticator {
            Some(authenticator) => Some(self.ask(&**authenticator, headers, uri)?.wait().await?),
            None if self.include_metadata => None,
            None => return Ok(None),
        };
        Ok(Some(self.sender(headers, uri, identity)))
    }

    fn ask(&self, authenticator: &dyn Authenticator, headers: &HeaderMap, uri: &Uri) -> Result<Decision, Denied> {
        let parameters = match uri.query() {
            Some(query) if !self.request_params.is_empty() => self.parameters(query),
            _ => Vec::new(),
        };
        authenticator.authenticate(&|name| {
            let parameter = parameters.iter().find(|(parameter, _)| parameter.eq_ignore_ascii_case(name));
            let header = || headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
            parameter.map(|(_, value)| value.as_str()).or_else(header)
        })
    }

    fn sender(&self, headers: &HeaderMap, uri: &Uri, identity: Option<Arc<Identity>>) -> Sender {
        let mut kept: Vec<(&str, &str)> = Vec::new();
        if self.include_metadata {
            // A value that is no text cannot be compared or sent on as one.
            let texts = headers.iter().filter_map(|(n, v)| Some((n.as_str(), std::str::from_utf8(v.as_bytes()).ok()?)));
            kept.extend(texts);
            if let (Some(authority), false) = (uri.authority(), headers.contains_key(HOST)) {
                kept.push((HOST.as_str(), authority.as_str()));
            }
        }
        let bytes = kept.iter().map(|(name, value)| name.len() + value.len() + size_of::<(Box<str>, Box<str>)>()).sum();
        let metadata = Metadata::new(kept);
        let tenant = identity.as_ref().and_then(|identity| identity.tenant.clone());
        let tenants = || self.authenticator.as_ref()?.tenants();
        let owner = match tenant {
            Some(tenant) => Owner::Tenant(tenant),
            None => tenants().map_or(Owner::Unknown, Owner::Attributes),
        };
        let metadata = match identity {
            Some(identity) => metadata.with_identity(identity),
            None => metadata,
        };
        Sender { metadata: Arc::new(metadata), bytes, owner }
    }

    /// The first value of each parameter of a query that is asked for.
    fn parameters(&self, query: &str) -> Vec<(&str, String)> {
        let mut found: Vec<(&str, String)> = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some((name, value)) = form_decoded(name).zip(form_decoded(value)) else { continue };
            if let Some(wanted) = self.request_params.iter().find(|wanted| **wanted == name)
                && !found.iter().any(|(known, _)| known == wanted)
            {
                found.push((wanted, value));
            }
        }
        found
    }
}

/// A name or value of `application/x-www-form-urlencoded`; `None` where an escape is broken or what comes out is no
/// text.
fn form_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("authenticates", &self.authenticator.is_some())
            .field("request_params", &self.request_params)
            .field("include_metadata", &self.include_metadata)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    /// Remembers the header `token` and lets everybody in who has one.
    #[derive(Default)]
    struct Token(Mutex<Option<String>>);

    impl Authenticator for Token {
        fn authenticate<'h>(&self, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied> {
            let token = header("token").ok_or(Denied::Unknown("no token"))?;
            *self.0.lock().unwrap() = Some(token.to_owned());
            Ok(Decision::Made(Arc::new(Identity::new(vec![("username", "alice".into())]))))
        }
    }

    fn request(uri: &str, headers: &[(&str, &[u8])]) -> Request<()> {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    /// What is kept of a request that is let in without waiting.
    fn admitted(access: &Access, request: &Request<()>) -> Option<Sender> {
        let admitted = access.admit(request.headers(), request.uri());
        admitted.now_or_never().expect("decided at once").unwrap()
    }

    #[test]
    fn nothing_is_looked_at_unless_it_is_asked_for() {
        assert!(admitted(&Access::default(), &request("/", &[("token", b"x")])).is_none());
    }

    #[test]
    fn a_query_parameter_wins_over_the_header() {
        let seen = |uri: &str, params: &[&str]| {
            let token = Arc::new(Token::default());
            let request_params = params.iter().map(|&p| p.to_owned()).collect();
            let access = Access { authenticator: Some(token.clone()), request_params, include_metadata: false };
            let sender = admitted(&access, &request(uri, &[("token", b"header")])).unwrap();
            assert_eq!(
                (sender.metadata.lookup("auth.username"), sender.metadata.first("token")),
                (Some("alice"), None)
            );
            token.0.lock().unwrap().take().unwrap()
        };
        assert_eq!(seen("/v1/traces?token=query", &[]), "header");
        assert_eq!(seen("/v1/traces?token=query", &["other"]), "header");
        assert_eq!(seen("/v1/traces?a=b&token=que%72y+%C3%A9&token=second", &["token"]), "query \u{e9}");
        assert_eq!(seen("/v1/traces?Token=query", &["Token"]), "query");
        assert_eq!(seen("/v1/traces?token=%4", &["token"]), "header");
        assert_eq!(seen("/v1/traces?token", &["token"]), "");
        assert_eq!(seen("/v1/traces", &["token"]), "header");
    }

    #[test]
    fn headers_are_kept_in_lower_case_with_the_host() {
        let access = Access { include_metadata: true, ..Access::default() };
        let headers: &[(&str, &[u8])] =
            &[("X-Tenant", b"acme"), ("x-tenant", "caf\u{e9}".as_bytes()), ("x-raw", b"\xff")];
        let sender = admitted(&access, &request("http://weir.test:4317/path", headers)).unwrap();
        let metadata = &sender.metadata;
        assert_eq!(metadata.values("x-tenant").collect::<Vec<_>>(), ["acme", "caf\u{e9}"]);
        assert_eq!((metadata.first("host"), metadata.first("x-raw")), (Some("weir.test:4317"), None));
        assert!(metadata.identity().is_none() && sender.bytes > 40);
        let sender = admitted(&access, &request("http://weir.test/", &[("host", b"other")])).unwrap();
        assert_eq!(sender.metadata.values("host").collect::<Vec<_>>(), ["other"]);
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(text in any::<String>()) {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(form_decoded(&escaped), Some(text));
        }

        #[test]
        fn any_text_can_be_decoded_or_refused(text in any::<String>()) {
            let plain = !text.contains(['%', '+']);
            let decoded = form_decoded(&text);
            prop_assert!(!plain || decoded.as_deref() == Some(text.as_str()));
        }
    }
}
