//! What is on a member's disk: two RocksDB databases (`log/`, `state/`), the promised mark and `member.toml`.
//!
//! Left out: what the bytes mean. Raft's log and votes are encoded in [`crate::raft`], the rows of the state in the machine
//! that is bound to it. Architecture invariant: nothing outside this module names `rocksdb`.

pub mod disk;
pub mod error;
pub mod keys;
pub mod member;
#[cfg(test)]
pub mod memory;
pub mod promised;
pub mod rocks;
pub mod rows;

pub use disk::{Change, Disk, Table};
pub use error::StorageError;
pub use member::{FORMAT, MemberFile};
pub use promised::{FileMark, Mark, Promise};
pub use rocks::{Checkpoint, Kind, RocksDisk};
