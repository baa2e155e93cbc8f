//! Content-addressed files: the store, directories as trees of chunks, and the worker's cache of them.
//!
//! The format of a tree is [`muster_core::model::tree`]; here are the parts that touch disks and the store. A workdir, packed by the
//! CLI, and an output, packed by a worker, are the same thing.

mod cache;
mod error;
mod pack;
mod store;
mod unpack;

pub use cache::Cache;
pub use error::{BlobError, Trouble};
pub use pack::{Packed, Source, pack, pack_dir};
pub use store::Store;
pub use unpack::unpack;
