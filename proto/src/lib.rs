//! muster-proto: the wire. Generated messages, the one way to dial and to listen ([`channel`]), to call any member ([`caller`]).
//!
//! Architecture invariant: wire types stop here and in the adapters (`coordinator/src/api/grpc*`, `worker/src/session.rs`, `cli/src/client`);
//! what crosses as opaque `bytes` is postcard of a core type, decoded only through [`convert`].

pub mod caller;
pub mod channel;
pub mod convert;

/// What users call.
pub mod api {
    #![allow(clippy::all, missing_docs, rustdoc::all)]
    tonic::include_proto!("muster.api.v1");
}
/// A worker's session.
pub mod worker {
    #![allow(clippy::all, missing_docs, rustdoc::all)]
    tonic::include_proto!("muster.worker.v1");
}
/// Between members.
pub mod member {
    #![allow(clippy::all, missing_docs, rustdoc::all)]
    tonic::include_proto!("muster.member.v1");
}
/// Raft between members.
pub mod raft {
    #![allow(clippy::all, missing_docs, rustdoc::all)]
    tonic::include_proto!("muster.raft.v1");
}
/// What KEDA calls.
pub mod externalscaler {
    #![allow(clippy::all, missing_docs, rustdoc::all)]
    tonic::include_proto!("externalscaler");
}
