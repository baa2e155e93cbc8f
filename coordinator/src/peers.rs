//! Calls to other members: one lazy channel an address.

use muster_proto::channel::{Bearer, ChannelError, MESSAGE_BYTES_MAX, Tls, dial_lazy};
use muster_proto::member::member_api_client::MemberApiClient;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// A client of another member.
pub type Peer = MemberApiClient<InterceptedService<Channel, Bearer>>;

/// Channels by address. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    bearer: Bearer,
    tls: Option<Tls>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Peers {
    /// `token` is the members' token.
    #[must_use]
    pub fn new(token: &str, tls: Option<Tls>) -> Self {
        Self { bearer: Bearer::new(token), tls, channels: Arc::default() }
    }

    /// A client of the member at `address`.
    ///
    /// # Errors
    /// A bad address or unusable certificates.
    pub fn at(&self, address: &str) -> Result<Peer, ChannelError> {
        self.with(address, self.bearer.clone())
    }

    /// The same with the caller's own token.
    ///
    /// # Errors
    /// As [`Peers::at`].
    pub fn with(&self, address: &str, bearer: Bearer) -> Result<Peer, ChannelError> {
        let channel = {
            let mut channels = self.channels.lock();
            match channels.get(address) {
                Some(channel) => channel.clone(),
                None => {
                    let channel = dial_lazy(address, self.tls.as_ref())?;
                    channels.insert(address.to_owned(), channel.clone());
                    channel
                }
            }
        };
        Ok(MemberApiClient::with_interceptor(channel, bearer)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}
