//! What is on a member's disk: two RocksDB databases (`log/`, `state/`), the promised mark, `member.toml` and the ballast.
//!
//! Left out: what the bytes mean. Raft's log and votes are encoded in [`crate::raft`], the rows of the state in the machine
//! that is bound to it. Architecture invariant: nothing outside this module names `rocksdb`.

pub mod digest;
pub mod disk;
pub mod error;
pub mod keys;
pub mod member;
#[cfg(test)]
pub mod memory;
pub mod promised;
pub mod rocks;
pub mod rows;
pub mod scrub;
pub mod wal;

pub use digest::Digest;
pub use disk::{Change, Disk, Table};
pub use error::StorageError;
pub use member::{FORMAT, MemberFile};
pub use promised::{Ballot, FileMark, Mark, Promise, Promised};
pub use rocks::{Checkpoint, Kind, RocksDisk};
