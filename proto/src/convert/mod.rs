//! Where wire bytes become core types: postcard with a format byte in front, and names of jobs, tasks and indices.

mod packed;
mod target;

pub use packed::{BadBytes, pack, unpack};
pub use target::{BadTarget, TargetName};
