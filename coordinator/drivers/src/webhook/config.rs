//! `driver = { kind = "webhook", … }`, and what can be checked of it before the first call.

use super::sign::{SECRET_MIN, Secret};
use muster_core::model::duration::Millis;
use reqwest::{Certificate, Url};
use serde::Deserialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most time that a receiver may be given.
const TIMEOUT_MAX: Millis = Millis::from_secs(300);

/// Where orders go and how they are signed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://…`; `http://` is taken too, and then whoever is on the way can read the orders and write the answers.
    pub url: String,
    /// A file with the secret that both sides have, by its whole path; a line's end at its end does not count. Either this or `secret_env`.
    pub secret_file: Option<PathBuf>,
    /// The variable of the coordinators' environment that has the secret.
    pub secret_env: Option<String>,
    /// How long one call may take, the answer included. Default: 10s.
    #[serde(default = "timeout")]
    pub timeout: Millis,
    /// A PEM file with the authorities that vouch for the receiver, by its whole path. Default: those of the machine.
    pub ca_file: Option<PathBuf>,
}

fn timeout() -> Millis {
    Millis::from_secs(10)
}

/// Its address without path and query: those are secrets at times.
impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("url", &self.url().map(|url| place(&url)).unwrap_or_default())
            .field("secret_file", &self.secret_file)
            .field("secret_env", &self.secret_env)
            .field("timeout", &self.timeout)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// What is wrong with it. None shows the address or the secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("url is no address of the form https://host/path")]
    Url,
    #[error("url has a user or a password in it: calls are signed, so leave them out")]
    User,
    #[error("give either secret_file or secret_env: calls are always signed")]
    Secret,
    #[error("{what} {path:?} is a relative path: coordinators start anywhere, so write the whole path")]
    Relative { what: &'static str, path: PathBuf },
    #[error("cannot read {what} {path:?}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the variable {0} that secret_env names is not set, or is no text")]
    Variable(String),
    #[error("the secret has {0} bytes; at least {SECRET_MIN} keep it from being guessed")]
    Short(usize),
    #[error("timeout is {0}; it is more than 0 and at most {TIMEOUT_MAX}")]
    Timeout(Millis),
    #[error("ca_file {0:?} has no certificate in PEM")]
    Authorities(PathBuf),
}

/// Scheme, host and port.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(
        || format!("{}://{host}", url.scheme()),
        |port| format!("{}://{host}:{port}", url.scheme()),
    )
}

impl WebhookConfig {
    pub(super) fn url(&self) -> Result<Url, ConfigError> {
        let url = Url::parse(&self.url).map_err(|_| ConfigError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(ConfigError::Url);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::User);
        }
        Ok(url)
    }

    pub(super) fn secret(&self) -> Result<Secret, ConfigError> {
        let bytes = match (&self.secret_file, &self.secret_env) {
            (Some(path), None) => read("secret_file", path)?,
            (None, Some(name)) => std::env::var(name)
                .map(String::into_bytes)
                .map_err(|_| ConfigError::Variable(name.clone()))?,
            _ => return Err(ConfigError::Secret),
        };
        let secret = bytes.trim_ascii_end();
        if secret.len() < SECRET_MIN {
            return Err(ConfigError::Short(secret.len()));
        }
        Ok(Secret::new(secret))
    }

    pub(super) fn within(&self) -> Result<Duration, ConfigError> {
        match self.timeout {
            Millis(0) => Err(ConfigError::Timeout(self.timeout)),
            timeout if timeout > TIMEOUT_MAX => Err(ConfigError::Timeout(timeout)),
            timeout => Ok(Duration::from_millis(timeout.0)),
        }
    }

    pub(super) fn authorities(&self) -> Result<Option<Vec<Certificate>>, ConfigError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let pem = read("ca_file", path)?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(authorities) if !authorities.is_empty() => Ok(Some(authorities)),
            _ => Err(ConfigError::Authorities(path.clone())),
        }
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    if !path.is_absolute() {
        return Err(ConfigError::Relative { what, path: path.to_owned() });
    }
    std::fs::read(path).map_err(|source| ConfigError::File { what, path: path.to_owned(), source })
}
