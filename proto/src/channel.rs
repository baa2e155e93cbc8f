//! The one way to dial and the one way to listen: mutual TLS from configuration, limits, keep-alive, timeouts.
//!
//! Clear text is for loopback alone: a listener beyond it without certificates is refused before the port opens.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

/// Largest message that is decoded, bytes: a 4 MiB entry or blob and its envelope.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// HTTP/2 streams of one connection at once.
pub const STREAMS_MAX: u32 = 4096;
/// A peer that answers no ping for this long, after an idle time as long, is gone. Without it a cut connection stays half open.
pub const KEEPALIVE: Duration = Duration::from_secs(5);
/// A peer that connects and does not finish its handshake is let go: keep-alive begins only after it.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection attempt ends after this long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Certificates of one daemon: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authority that signed the peers' certificates.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why nothing can be dialled or listened on.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("{address:?} is not an address: write host:port")]
    BadAddress { address: String },
    #[error(
        "refused to listen on {address} without TLS: beyond loopback anyone could read tokens and run programs"
    )]
    ClearTextBeyondLoopback { address: SocketAddr },
    #[error("cannot read {file}: {error}")]
    Unreadable { file: PathBuf, error: std::io::Error },
    #[error("unusable certificates: {0}")]
    BadCertificates(#[source] tonic::transport::Error),
    #[error("nothing answers at {address}: {error}")]
    Unreachable { address: String, error: tonic::transport::Error },
}

impl ChannelError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::BadAddress { .. } => "for example 127.0.0.1:7070",
            Self::ClearTextBeyondLoopback { .. } => {
                "set tls.ca, tls.certificate and tls.key, or listen on 127.0.0.1"
            }
            Self::Unreadable { .. } | Self::BadCertificates(_) => {
                "check the files named in the tls section (PEM)"
            }
            Self::Unreachable { .. } => {
                "is a coordinator running there? `muster dev` starts one; `muster context list` shows addresses"
            }
        }
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>, ChannelError> {
    std::fs::read(file).map_err(|error| ChannelError::Unreadable { file: file.clone(), error })
}

/// A channel that connects when first used and again whenever it must.
///
/// # Errors
/// A bad address or unusable certificates; not an absent peer.
pub fn dial_lazy(address: &str, tls: Option<&Tls>) -> Result<Channel, ChannelError> {
    Ok(endpoint(address, tls)?.connect_lazy())
}

/// A connected channel.
///
/// # Errors
/// [`ChannelError`], with nothing behind the address too.
pub async fn dial(address: &str, tls: Option<&Tls>) -> Result<Channel, ChannelError> {
    endpoint(address, tls)?
        .connect()
        .await
        .map_err(|error| ChannelError::Unreachable { address: address.to_owned(), error })
}

fn endpoint(address: &str, tls: Option<&Tls>) -> Result<Endpoint, ChannelError> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .ok()
        .filter(|_| {
            address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        })
        .ok_or_else(|| ChannelError::BadAddress { address: address.to_owned() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    let Some(tls) = tls else { return Ok(endpoint) };
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&tls.ca)?))
        .identity(Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?));
    endpoint.tls_config(config).map_err(ChannelError::BadCertificates)
}

/// A server with the house's limits, mutual TLS when certificates are given.
///
/// # Errors
/// Clear text beyond loopback is refused; unusable certificates.
pub fn listen(address: SocketAddr, tls: Option<&Tls>) -> Result<Server, ChannelError> {
    let server = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    match tls {
        None if !address.ip().is_loopback() => Err(ChannelError::ClearTextBeyondLoopback { address }),
        None => Ok(server),
        Some(tls) => server
            .tls_config(
                ServerTlsConfig::new()
                    .timeout(HANDSHAKE)
                    .client_ca_root(Certificate::from_pem(read(&tls.ca)?))
                    .identity(Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?)),
            )
            .map_err(ChannelError::BadCertificates),
    }
}

/// Puts the bearer token on every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// An empty or unprintable token sends none, and the peer refuses the call.
    #[must_use]
    pub fn new(token: &str) -> Self {
        let value = (!token.is_empty()).then(|| format!("Bearer {token}").parse().ok()).flatten();
        Self(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The bearer token of a call, if it has one.
#[must_use]
pub fn bearer_of<T>(request: &Request<T>) -> Option<&str> {
    request.metadata().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_is_for_loopback_alone() {
        assert!(listen("127.0.0.1:7070".parse().unwrap(), None).is_ok());
        assert!(listen("[::1]:7070".parse().unwrap(), None).is_ok());
        let refused = listen("0.0.0.0:7070".parse().unwrap(), None).err().unwrap();
        assert!(refused.to_string().contains("0.0.0.0:7070 without TLS"), "{refused}");
    }

    #[tokio::test]
    async fn a_bad_address_and_an_empty_port_are_named() {
        for bad in ["", "x", "host", "host:", ":1", "a b:1"] {
            assert!(matches!(dial_lazy(bad, None), Err(ChannelError::BadAddress { .. })), "{bad}");
        }
        let error = dial("127.0.0.1:1", None).await.err().unwrap();
        assert!(error.to_string().starts_with("nothing answers at 127.0.0.1:1"), "{error}");
    }
}
