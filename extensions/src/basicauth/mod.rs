//! `basicauth`: user names and passwords (RFC 7617), asked of clients or shown to destinations.
//!
//! ```yaml
//! extensions:
//!   basicauth/server:
//!     htpasswd:
//!       file: /etc/weir/.htpasswd   # read again when it changes
//!       inline: |                   # wins over the file for a user who is in both
//!         alice:$2y$05$...
//!         bob:{SHA}...
//!   basicauth/client:
//!     client_auth:
//!       username: weir              # or username_file, read again when it changes
//!       password: ${env:PASSWORD}   # or password_file
//! ```
//!
//! An htpasswd line is `user:hash`, with bcrypt (`$2y$`, `$2a$`, `$2b$`), `{SHA}`, `{SSHA}`, Apache's MD5 (`$apr1$`),
//! MD5-crypt (`$1$`), or a plain password. A client that is let in is known as `auth.username`.
//!
//! bcrypt and MD5-crypt are slow by design, too slow for each request and for a lane. A pair of name and password that
//! was right once is remembered as a keyed hash until the file changes or nobody has used it for an hour. So only the
//! first request of a client and each wrong password cost a check. Checks run on threads of their own, few at a time;
//! a limited number of clients waits for them, for a limited time, and others are asked to come again. Those who are
//! remembered, or have a hash that is checked in microseconds, do not wait. A name that does not exist costs as much as
//! a wrong password, so that names cannot be found out by timing.

mod checks;
mod config;
mod htpasswd;
mod md5_crypt;
mod remembered;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir_pipeline::config::{ConfigError, Secret};
use weir_pipeline::extension::{Authenticator, Decision, Denied, Extension, HeaderEdit, OutgoingHeaders};
use weir_pipeline::graph::Section;
use weir_pipeline::metadata::{Metadata, Reads};
use weir_pipeline::node::StartError;

use self::checks::{Checks, WRONG};
pub use self::config::Settings;
pub use self::config::schema;
use self::config::{Client, Credential, Role};
use self::htpasswd::{Look, Users};
use crate::watched::Watched;

/// Longest header that is looked at, in bytes: some hashes take long over long passwords.
const MAX_HEADER: usize = 2048;

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    let id = section.context.id.clone();
    Ok(match settings.role {
        Role::Server { file, inline } => {
            let file = file.map(|path| Watched::new(path, Users::parse));
            Arc::new(Server { id, file, inline: Arc::new(inline), checks: Checks::default() })
        }
        Role::Client(client) => Arc::new(Shown { id, client }),
    })
}

// === Server ===

struct Server {
    id: String,
    file: Option<Watched<Users>>,
    inline: Arc<Users>,
    checks: Checks,
}

#[async_trait]
impl Extension for Server {
    async fn start(&self) -> Result<(), StartError> {
        match self.file.as_ref().map(Watched::current) {
            Some(Err(message)) => Err(StartError { component: self.id.clone(), message }),
            _ => Ok(()),
        }
    }

    fn authenticator(self: Arc<Self>) -> Option<Arc<dyn Authenticator>> {
        Some(self)
    }
}

impl Authenticator for Server {
    fn authenticate<'h>(&self, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied> {
        let value = header("authorization").ok_or(Denied::Unknown("the `authorization` header is missing"))?;
        let malformed =
            Denied::Unknown("the `authorization` header is not of the form `Basic` and base64 of `user:password`");
        if value.len() > MAX_HEADER {
            return Err(malformed);
        }
        let (scheme, encoded) = value.split_once(' ').ok_or(malformed)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(malformed);
        }
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or(malformed)?;
        let (user, password) = decoded.split_once(':').ok_or(malformed)?;
        let file = self.file.as_ref().map(Watched::current).transpose();
        let file = file.map_err(|_| Denied::Undecided("the passwords cannot be read"))?;
        let users = match &file {
            Some(file) if !self.inline.has(user) => file,
            _ => &self.inline,
        };
        match users.look(user, password) {
            Look::Right(identity) => Ok(Decision::Made(identity)),
            Look::Wrong => Err(WRONG),
            Look::Costly(check) => self.checks.queue(check),
        }
    }
}

// === Client ===

struct Shown {
    id: String,
    client: Client,
}

impl Shown {
    fn value(&self) -> Result<Secret, String> {
        let username = self.client.username.current()?;
        let password = self.client.password.current()?;
        Ok(Secret::new(format!("Basic {}", STANDARD.encode(format!("{}:{}", username.expose(), password.expose())))))
    }
}

impl Credential {
    fn current(&self) -> Result<Arc<Secret>, String> {
        match self {
            Self::Fixed(secret) => Ok(Arc::clone(secret)),
            Self::File(file) => file.current(),
        }
    }
}

#[async_trait]
impl Extension for Shown {
    async fn start(&self) -> Result<(), StartError> {
        match self.value() {
            Ok(_) => Ok(()),
            Err(message) => Err(StartError { component: self.id.clone(), message }),
        }
    }

    fn outgoing_headers(self: Arc<Self>) -> Option<Arc<dyn OutgoingHeaders>> {
        Some(self)
    }
}

impl OutgoingHeaders for Shown {
    fn edits(&self, _metadata: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
        Ok(vec![HeaderEdit::Upsert("authorization".to_owned(), self.value()?.expose().as_str().into())])
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }
}
