//! `bearertokenauth`: tokens in a header, asked of clients and shown to destinations.
//!
//! ```yaml
//! extensions:
//!   bearertokenauth:
//!     scheme: Bearer            # default; "" for a header that holds the token alone
//!     header: Authorization     # default
//!     token: ${env:TOKEN}       # or
//!     tokens: [a, b]            # any of them lets a client in; the first is shown to destinations; or
//!     filename: /etc/weir/tokens   # one token a line, read again when it changes
//! ```
//!
//! A receiver names it in `auth`, and lets in who shows one of the tokens; an exporter names it in `auth`, and shows the
//! first. Tokens are compared as hashes in constant time, each with all, and are never logged. A file that breaks is
//! logged and what it held before stays valid.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use weir_pipeline::config::{ConfigError, Secret};
use weir_pipeline::extension::{Authenticator, Decision, Denied, Extension, HeaderEdit, OutgoingHeaders};
use weir_pipeline::graph::Section;
use weir_pipeline::metadata::{Identity, Metadata, Reads};
use weir_pipeline::node::StartError;

pub use self::config::Settings;
use self::config::Source;
pub use self::config::schema;
use crate::scheme::after_scheme;
use crate::watched::Watched;

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    Ok(Arc::new(BearerTokenAuth::new(settings, section.context.id.clone())))
}

struct BearerTokenAuth {
    id: String,
    scheme: String,
    /// In lower case.
    header: String,
    tokens: Tokens,
    /// What a client is known as: there is nothing to say of it but that it has a token.
    identity: Arc<Identity>,
}

enum Tokens {
    Fixed(Arc<TokenSet>),
    File(Watched<TokenSet>),
}

/// At least one token.
pub(crate) struct TokenSet {
    first: Secret,
    hashes: Vec<[u8; 32]>,
}

impl TokenSet {
    fn new(tokens: &[Secret]) -> Option<Self> {
        let hashes = tokens.iter().map(|token| hash(token.expose())).collect();
        Some(Self { first: tokens.first()?.clone(), hashes })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let tokens: Vec<Secret> = lines.map(|line| Secret::new(line.to_owned())).collect();
        Self::new(&tokens).ok_or_else(|| " there is no token in it".to_owned())
    }

    /// Whether it is one of the tokens. Takes as long for each that is not, and for each that is.
    fn contains(&self, token: &str) -> bool {
        let hash = hash(token);
        self.hashes.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&hash)).into()
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl BearerTokenAuth {
    fn new(Settings { scheme, header, source }: Settings, id: String) -> Self {
        let tokens = match source {
            Source::Tokens(tokens) => Tokens::Fixed(tokens),
            Source::File(path) => Tokens::File(Watched::new(path, TokenSet::parse)),
        };
        Self { id, scheme, header, tokens, identity: Arc::default() }
    }

    fn tokens(&self) -> Result<Arc<TokenSet>, String> {
        match &self.tokens {
            Tokens::Fixed(tokens) => Ok(Arc::clone(tokens)),
            Tokens::File(file) => file.current(),
        }
    }
}

#[async_trait]
impl Extension for BearerTokenAuth {
    async fn start(&self) -> Result<(), StartError> {
        match self.tokens() {
            Ok(_) => Ok(()),
            Err(message) => Err(StartError { component: self.id.clone(), message }),
        }
    }

    fn authenticator(self: Arc<Self>) -> Option<Arc<dyn Authenticator>> {
        Some(self)
    }

    fn outgoing_headers(self: Arc<Self>) -> Option<Arc<dyn OutgoingHeaders>> {
        Some(self)
    }
}

impl Authenticator for BearerTokenAuth {
    fn authenticate<'h>(&self, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied> {
        let value = header(&self.header).ok_or(Denied::Unknown("the header with the token is missing"))?;
        let token =
            after_scheme(&self.scheme, value).ok_or(Denied::Unknown("the token is not of the expected scheme"))?;
        let tokens = self.tokens().map_err(|_| Denied::Undecided("the tokens cannot be read"))?;
        if tokens.contains(token) {
            Ok(Decision::Made(Arc::clone(&self.identity)))
        } else {
            Err(Denied::Unknown("the token is not known"))
        }
    }
}

impl OutgoingHeaders for BearerTokenAuth {
    fn edits(&self, _metadata: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
        let tokens = self.tokens()?;
        let token = tokens.first.expose();
        let value = if self.scheme.is_empty() { token.clone() } else { format!("{} {token}", self.scheme) };
        Ok(vec![HeaderEdit::Upsert(self.header.clone(), value.into())])
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }
}
