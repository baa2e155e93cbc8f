//! The nouns, one file each.

pub mod array_spec;
pub mod artifact;
pub mod attempt;
pub mod blob;
pub mod breaker;
pub mod checkpoint;
pub mod device_event;
pub mod device_record;
pub mod duration;
pub mod gang;
pub mod ids;
pub mod job;
pub mod job_spec;
pub mod lease;
pub mod notice;
pub mod placement;
pub mod pool;
pub mod ranges;
pub mod resources;
pub mod retry;
pub mod size;
pub mod telemetry;
pub mod time;
pub mod tree;
pub mod words;
pub mod worker;
