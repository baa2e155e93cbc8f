//! What is on a member's disk: two RocksDB databases (`log/`, `state/`), the promised mark, `member.toml` and the ballast.
//!
//! Left out: what the bytes mean. Raft's log and votes are encoded in [`crate::raft`], the rows of the state in the machine
//! that is bound to it. Architecture invariant: nothing outside this module names `rocksdb`.

pub mod checkpoint;
pub mod database;
pub mod digest;
pub mod disk;
pub mod error;
pub mod install;
pub mod keys;
pub mod lock;
pub mod manifest;
pub mod member;
#[cfg(test)]
pub mod memory;
pub mod promised;
pub mod records;
pub mod rocks;
pub mod rows;
pub mod scrub;
pub mod wal;

pub use checkpoint::Checkpoint;
pub use database::Kind;
pub use digest::Digest;
pub use disk::{Change, Disk, Table};
pub use error::StorageError;
pub use lock::{DirLock, Holder};
pub use member::{FORMAT, MemberFile};
pub use promised::{Ballot, FileMark, Mark, Promise, Promised};
pub use rocks::RocksDisk;
pub use wal::Cut;
