//! `basicauth`, as it is written and as it is meant.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Secret};

use super::htpasswd::Users;
use crate::places::error_at;
use crate::watched::Watched;

/// The validated settings of the extension.
pub struct Settings {
    pub(super) role: Role,
}

pub(super) enum Role {
    /// Asks clients.
    Server { file: Option<PathBuf>, inline: Users },
    /// Is shown to destinations.
    Client(Client),
}

pub(super) struct Client {
    pub(super) username: Credential,
    pub(super) password: Credential,
}

pub(super) enum Credential {
    Fixed(Arc<Secret>),
    File(Watched<Secret>),
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct BasicAuthConfig {
    htpasswd: Option<HtpasswdConfig>,
    client_auth: Option<ClientAuthConfig>,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HtpasswdConfig {
    file: Option<PathBuf>,
    inline: Option<Secret>,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ClientAuthConfig {
    username: Option<Secret>,
    username_file: Option<PathBuf>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<BasicAuthConfig>()
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let BasicAuthConfig { htpasswd, client_auth } = node.parse_as(path)?;
        let role = match (htpasswd, client_auth) {
            (Some(HtpasswdConfig { file: None, inline: None }), None) => {
                return Err(
                    error_at(node, path, &["htpasswd"], "there are no users").with_hint("give `file` or `inline`")
                );
            }
            (Some(HtpasswdConfig { file, inline }), None) => {
                let inline = inline.unwrap_or_default();
                let inline = match Users::parse(inline.expose()) {
                    Ok(users) => users,
                    Err(_) if inline.expose().trim().is_empty() && file.is_some() => Users::none(),
                    Err(wrong) => {
                        return Err(error_at(node, path, &["htpasswd", "inline"], format!("line {wrong}")));
                    }
                };
                Role::Server { file, inline }
            }
            (None, Some(client)) => Role::Client(client.validate(node, path)?),
            (None, None) => {
                return Err(node.error(path, "there are no passwords").with_hint(
                    "give `htpasswd` to ask clients for them, or `client_auth` to show them to a destination",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(node
                    .error(path, "`htpasswd` and `client_auth` exclude each other")
                    .with_hint("configure two extensions: `basicauth/server` and `basicauth/client`"));
            }
        };
        Ok(Self { role })
    }
}

impl ClientAuthConfig {
    fn validate(self, node: &Node, path: &str) -> Result<Client, ConfigError> {
        let one = |name: &str, value: Option<Secret>, file: Option<PathBuf>| match (value, file) {
            (Some(value), None) if !value.expose().is_empty() => Ok(Credential::Fixed(Arc::new(value))),
            (None, Some(file)) => Ok(Credential::File(Watched::new(file, line))),
            (Some(_), Some(_)) => {
                let message = format!("`{name}` and `{name}_file` exclude each other");
                Err(error_at(node, path, &["client_auth"], message))
            }
            _ => Err(error_at(node, path, &["client_auth", name], format!("give `{name}` or `{name}_file`"))),
        };
        let username = one("username", self.username, self.username_file)?;
        if matches!(&username, Credential::Fixed(name) if name.expose().contains(':')) {
            return Err(error_at(node, path, &["client_auth", "username"], "must not contain `:` (RFC 7617)"));
        }
        Ok(Client { username, password: one("password", self.password, self.password_file)? })
    }
}

/// The text of a file without the end of its line.
fn line(text: &str) -> Result<Secret, String> {
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() { Err(" it is empty".to_owned()) } else { Ok(Secret::new(line.to_owned())) }
}
