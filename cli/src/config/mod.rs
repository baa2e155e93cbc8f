//! A daemon's settings: flags over environment (`MUSTER_<SECTION>_<KEY>`) over one TOML file, merged once.

pub mod coordinator;
pub mod layers;
pub mod log;
pub mod notice;
mod seldom;
pub mod worker;
