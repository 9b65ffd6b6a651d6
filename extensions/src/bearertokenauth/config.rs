//! `bearertokenauth`, as it is written and as it is meant.

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;
use http::header::HeaderValue;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Secret};

use super::TokenSet;
use crate::places::error_at;

/// The validated settings of the extension.
pub struct Settings {
    pub(super) scheme: String,
    /// In lower case.
    pub(super) header: String,
    pub(super) source: Source,
}

/// Where the tokens come from.
pub(super) enum Source {
    Tokens(Arc<TokenSet>),
    File(PathBuf),
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct BearerTokenAuthConfig {
    scheme: String,
    header: String,
    token: Option<Secret>,
    tokens: Option<Vec<Secret>>,
    filename: Option<PathBuf>,
}

impl Default for BearerTokenAuthConfig {
    fn default() -> Self {
        Self {
            scheme: "Bearer".to_owned(),
            header: "Authorization".to_owned(),
            token: None,
            tokens: None,
            filename: None,
        }
    }
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<BearerTokenAuthConfig>()
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: BearerTokenAuthConfig = node.parse_as(path)?;
        let error = |key: &str, message: &str| error_at(node, path, &[key], message);
        let header =
            HeaderName::try_from(&config.header).map_err(|_| error("header", "is not the name of a header"))?;
        if !config.scheme.chars().all(|c| c.is_ascii_graphic()) {
            return Err(error("scheme", "must be one word"));
        }
        let source = match (config.token, config.tokens, config.filename) {
            (Some(token), None, None) => Source::Tokens(tokens(&[token]).map_err(|why| error("token", why))?),
            (None, Some(list), None) => Source::Tokens(tokens(&list).map_err(|why| error("tokens", why))?),
            (None, None, Some(file)) => Source::File(file),
            (None, None, None) => {
                return Err(node.error(path, "there is no token").with_hint("give `token`, `tokens` or `filename`"));
            }
            _ => {
                return Err(node
                    .error(path, "`token`, `tokens` and `filename` exclude each other")
                    .with_hint("keep one of them"));
            }
        };
        Ok(Self { scheme: config.scheme, header: header.as_str().to_owned(), source })
    }
}

fn tokens(tokens: &[Secret]) -> Result<Arc<TokenSet>, &'static str> {
    for token in tokens {
        let text = token.expose();
        // An empty token would let in everybody who sends the scheme alone.
        if text.trim().is_empty() {
            return Err("a token must not be empty: is the variable it comes from set?");
        }
        if HeaderValue::try_from(text).is_err() {
            return Err("a token has characters that a header cannot carry");
        }
    }
    TokenSet::new(tokens).map(Arc::new).ok_or("there must be at least one token")
}
