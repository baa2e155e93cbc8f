//! The type configuration of openraft: ids, terms and entries, generic over the runtime (tokio in production, a deterministic one
//! in tests) and over the reply.
//!
//! An entry carries encoded bytes: a batch is encoded once where it is proposed and decoded once where it is applied; the log and
//! the network pass it on as it is. Leaders are unique per term (standard Raft).

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;
use openraft::{AsyncRuntime, BasicNode, OptionalSend, RaftTypeConfig};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::machine::Answer;
use crate::storage::{Ballot, Promise};

/// The production runtime.
#[allow(deprecated)] // The crate it moved to is not in the lock file; the alias names the same type.
pub type Tokio = openraft::impls::TokioRuntime;

/// The configuration.
pub struct Types<A, R>(PhantomData<fn() -> (A, R)>);

impl<A: Answer, R: AsyncRuntime> RaftTypeConfig for Types<A, R> {
    type D = Blob;
    type R = Option<A>;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Self::D, Self::NodeId, Self::Node>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = R;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A position in the log, as openraft names it.
pub type LogId = openraft::alias::LogIdOf<Types<(), Tokio>>;
/// An entry.
pub type Entry = openraft::alias::EntryOf<Types<(), Tokio>>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<Types<(), Tokio>>;
/// A membership and where it stands in the log.
pub type Membership = openraft::alias::StoredMembershipOf<Types<(), Tokio>>;
/// What a snapshot holds.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types<(), Tokio>>;

/// The place of a log id, for the promised mark.
#[must_use]
pub fn promise(id: &LogId) -> Promise {
    Promise { term: id.committed_leader_id().term, index: id.index }
}

/// A vote, for the promised mark.
#[must_use]
pub fn ballot(vote: &Vote) -> Ballot {
    Ballot { term: vote.leader_id.term, committed: vote.committed, candidate: vote.leader_id.voted_for }
}

/// An encoded batch.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut bytes: S) -> Result<Blob, S::Error> {
                let mut all = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    all.push(byte);
                }
                Ok(Blob(all.into()))
            }
        }
        deserializer.deserialize_bytes(Read)
    }
}

// By hand: derives would ask the same of the reply and the runtime.
impl<A, R> Clone for Types<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A, R> Copy for Types<A, R> {}
impl<A, R> Default for Types<A, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<A, R> fmt::Debug for Types<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<A, R> PartialEq for Types<A, R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<A, R> Eq for Types<A, R> {}
impl<A, R> PartialOrd for Types<A, R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<A, R> Ord for Types<A, R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
