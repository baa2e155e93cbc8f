//! Calls to any member: one connection, the next address when one does not answer, the same request id on every try.

pub mod follow;
pub mod mutate;
pub mod ship;
pub mod submit;
pub mod watch;

use crate::args::Global;
use crate::context::{self, Context};
use crate::failure::{Failure, UNREACHABLE};
use muster_proto::api::Document;
use muster_proto::caller::{CallError, Caller};
use muster_proto::channel::Tls;
use rand::Rng;
use serde::de::DeserializeOwned;
use tonic::{Response, Status};

pub use muster_proto::caller::{Api, is_transient};

/// A user's side of the wire.
pub struct Client(Caller);

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
        Self(Caller::new(context.addresses, context.token, tls))
    }

    /// Forgets the connection and turns to the next address.
    pub fn turn(&mut self) {
        self.0.turn();
    }

    /// One call, on whichever member answers. `ask` may run several times: what changes something carries a request id.
    ///
    /// # Errors
    /// The server's refusal; nothing reachable (exit code 3).
    pub async fn call<T>(
        &mut self,
        ask: impl AsyncFnMut(&mut Api) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.0.call(ask).await.map_err(|error| match error {
            CallError::Channel(error) => error.into(),
            CallError::Unserved(status) => Failure::from(*status).exit(UNREACHABLE),
            CallError::Refused(status) => (*status).into(),
        })
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
