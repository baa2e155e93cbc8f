//! Real processes: what a user does, and what dies under them. Short versions here; `MUSTER_SCALE=full` runs the numbers.

#![allow(clippy::print_stderr)] // a test that is skipped says why

mod artifacts;
mod autoscale;
mod backups;
mod bad_input;
mod checkpoints;
mod cost;
mod crash;
mod dev;
mod devices;
mod disk;
mod drills;
mod evictions;
mod failover;
mod fencing;
mod first_steps;
mod gangs;
mod gpu_health;
mod gpus;
mod jobs;
mod keda;
#[path = "../../../store/tests/store/moto.rs"]
mod moto;
mod notices;
mod operations;
mod pools;
mod reads;
mod rest;
mod spot;

/// `full` where the long version was asked for.
fn scaled(short: u64, full: u64) -> u64 {
    if std::env::var("MUSTER_SCALE").is_ok_and(|s| s == "full") { full } else { short }
}
