//! Calls to any member: one connection, the next address when one does not answer, the same request id on every try.

pub mod follow;
pub mod mutate;
pub mod ship;
pub mod submit;
pub mod watch;

use crate::args::Global;
use crate::context::{self, Context};
use crate::failure::{Failure, UNREACHABLE};
use muster_proto::api::{Document, api_client::ApiClient};
use muster_proto::channel::{Bearer, MESSAGE_BYTES_MAX, Tls, dial};
use rand::Rng;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// The generated client behind the bearer token.
pub type Api = ApiClient<InterceptedService<Channel, Bearer>>;

/// While some member answers but none can serve (an election), a call is tried again for this long: two elections and a reconnect.
const RETRY_FOR: Duration = Duration::from_secs(20);

/// A user's side of the wire.
pub struct Client {
    context: Context,
    tls: Option<Tls>,
    /// Position in the addresses of the one in use.
    at: usize,
    api: Option<Api>,
}

impl Client {
    /// A client of the chosen context; connects when first used.
    ///
    /// # Errors
    /// Nothing says where a coordinator is.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        Ok(Self::of(context::resolve(global)?))
    }

    /// A client of one context.
    #[must_use]
    pub fn of(context: Context) -> Self {
        let tls = context.tls.as_ref().map(Tls::from);
        if tls.is_some() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Self { context, tls, at: 0, api: None }
    }

    async fn connect(&mut self) -> Result<Api, Failure> {
        if let Some(api) = &self.api {
            return Ok(api.clone());
        }
        let channel = dial(&self.context.addresses[self.at], self.tls.as_ref()).await?;
        let api = ApiClient::with_interceptor(channel, Bearer::new(&self.context.token))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(self.api.insert(api).clone())
    }

    /// Forgets the connection and turns to the next address.
    pub fn turn(&mut self) {
        self.api = None;
        self.at = (self.at + 1) % self.context.addresses.len();
    }

    /// One call, on whichever member answers. `ask` may run several times: what changes something carries a request id.
    ///
    /// # Errors
    /// The server's refusal; nothing reachable (exit code 3).
    pub async fn call<T>(
        &mut self,
        mut ask: impl AsyncFnMut(&mut Api) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + RETRY_FOR;
        let mut pause = Duration::from_millis(20);
        loop {
            let mut answered = false;
            let mut last = None;
            for _ in 0..self.context.addresses.len() {
                let mut api = match self.connect().await {
                    Ok(api) => api,
                    Err(failure) if failure.exit == UNREACHABLE => {
                        last.get_or_insert(failure);
                        self.turn();
                        continue;
                    }
                    Err(failure) => return Err(failure),
                };
                match ask(&mut api).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) if is_transient(&status) => {
                        answered = true;
                        last = Some(Failure::from(status).exit(UNREACHABLE));
                        self.turn();
                    }
                    Err(status) => return Err(status.into()),
                }
            }
            if !answered || Instant::now() >= until {
                return Err(last.unwrap_or_else(|| self.unreachable()));
            }
            let spread = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(spread)).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// One read view, as it came and as a value.
    ///
    /// # Errors
    /// As [`Client::call`]; a document of another shape.
    pub async fn document<T: DeserializeOwned>(
        &mut self,
        ask: impl AsyncFnMut(&mut Api) -> Result<Response<Document>, Status>,
    ) -> Result<(String, T), Failure> {
        let json = self.call(ask).await?.json;
        let value = serde_json::from_str(&json).map_err(|error| {
            Failure::new("BAD_DOCUMENT", format!("the coordinator's answer is not readable: {error}"))
                .hint("is this `muster` of the coordinator's version?")
        })?;
        Ok((json, value))
    }

    fn unreachable(&self) -> Failure {
        Failure::new(
            "UNREACHABLE",
            format!("no coordinator answers at {}", self.context.addresses.join(", ")),
        )
        .hint("is one running? `muster dev` starts one")
        .exit(UNREACHABLE)
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

/// A new request id: 128 bits of chance.
#[must_use]
pub fn request_id(given: Option<&str>) -> String {
    given.map_or_else(|| format!("{:032x}", rand::rng().random::<u128>()), str::to_owned)
}

/// Who is asking, for display: the user's name on this machine.
#[must_use]
pub fn user() -> String {
    context::env("USER").or_else(|| context::env("LOGNAME")).unwrap_or_else(|| {
        nix::unistd::User::from_uid(nix::unistd::Uid::effective())
            .ok()
            .flatten()
            .map_or_else(|| format!("uid{}", nix::unistd::Uid::effective()), |user| user.name)
    })
}
