//! Calls to any member: one connection, the next address when one does not answer, the same request on every try. The command line and
//! the benchmarks use it alike, so that what is measured is what is shipped.

use crate::api::api_client::ApiClient;
use crate::channel::{Bearer, ChannelError, MESSAGE_BYTES_MAX, Tls, dial};
use rand::Rng;
use std::time::{Duration, Instant};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// The generated client behind the bearer token.
pub type Api = ApiClient<InterceptedService<Channel, Bearer>>;

/// While some member answers but none can serve (an election), a call is tried again for this long: two elections and a reconnect.
const RETRY_FOR: Duration = Duration::from_secs(20);
/// After a round in which no member could serve. Members themselves wait for a leader, so a round that failed is no busy loop.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing reachable, or a connection that cannot be made at all.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Members answer, and none could serve for 20 s.
    #[error("no member can serve: {}", .0.message())]
    Unserved(Box<Status>),
    /// The server's refusal.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
}

/// A user's side of the wire. Clones share the connection until it breaks.
#[derive(Debug, Clone)]
pub struct Caller {
    addresses: Vec<String>,
    token: String,
    tls: Option<Tls>,
    /// Position in the addresses of the one in use.
    at: usize,
    api: Option<Api>,
}

impl Caller {
    /// Connects when first used; begins with the first address.
    #[must_use]
    pub fn new(addresses: Vec<String>, token: String, tls: Option<Tls>) -> Self {
        if tls.is_some() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Self { addresses, token, tls, at: 0, api: None }
    }

    /// Where it calls.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    async fn connect(&mut self) -> Result<Api, ChannelError> {
        if let Some(api) = &self.api {
            return Ok(api.clone());
        }
        let address = self.addresses.get(self.at).map_or("", String::as_str);
        let channel = dial(address, self.tls.as_ref()).await?;
        let api = ApiClient::with_interceptor(channel, Bearer::new(&self.token))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(self.api.insert(api).clone())
    }

    /// Forgets the connection and turns to the next address.
    pub fn turn(&mut self) {
        self.api = None;
        self.at = (self.at + 1) % self.addresses.len().max(1);
    }

    /// One call, on whichever member answers. `ask` may run several times: what changes something carries a request id.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T>(
        &mut self,
        mut ask: impl AsyncFnMut(&mut Api) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let until = Instant::now() + RETRY_FOR;
        let mut pause = RETRY_FIRST;
        loop {
            let (mut unserved, mut unreachable) = (None, None);
            for _ in 0..self.addresses.len().max(1) {
                let mut api = match self.connect().await {
                    Ok(api) => api,
                    Err(error @ ChannelError::Unreachable { .. }) => {
                        unreachable.get_or_insert(error);
                        self.turn();
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                match ask(&mut api).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) if is_transient(&status) => {
                        unserved = Some(status);
                        self.turn();
                    }
                    Err(status) => return Err(CallError::Refused(Box::new(status))),
                }
            }
            match (unserved, unreachable) {
                (Some(status), _) if Instant::now() >= until => {
                    return Err(CallError::Unserved(Box::new(status)));
                }
                (None, Some(error)) => return Err(error.into()),
                _ => {}
            }
            let spread = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(spread)).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }
}

/// Whether another member, or the same a little later, may answer: no leader, or a connection that broke. A refusal names its code.
#[must_use]
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => {
            status.metadata().get("muster-code").is_none()
                && ["transport", "h2 ", "connection", "broken pipe", "stream"]
                    .iter()
                    .any(|word| status.message().contains(word))
        }
        _ => false,
    }
}
