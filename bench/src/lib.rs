//! muster-bench: the built-in load generator behind `muster bench VERB`.
//!
//! Each verb starts its own cluster as real processes of the same binary in a temporary directory, waits for states (never for
//! time), measures, and ends it. What is compared (a bare loop of spawns, etcd) runs in the same call on the same disk.
//!
//! Code map: `cli` what may be typed · `cluster` temporary processes · `client` submit and watch · `simulated` a worker without
//! programs · `procfs` CPU, memory and bytes written · `drive` closed-loop callers · `bare` the bare loop · `etcd` the other store ·
//! `pace` open-loop writes · `dispatch`, `latency`, `dag`, `submit`, `apply`, `gangs`, `raft`, `failover`, `rolling`, `recover`, `readopt` one file a verb, `herd` a folder · `report`, `ranges` figures and what is expected of them.
//!
//! `plan` the scheduler alone · `store` files to the store and back · `replay_args` what may be typed after `replay` · `replay` a published trace of tasks · `spot` one of spot
//! availability · `autoscale` both, with machines that are bought · `decide` one decision of that ·
//! `scale_in` machines that are taken away while tasks run.
//!
//! Left out: any measurement across machines.

mod apply;
mod autoscale;
mod bare;
pub mod cli;
mod client;
mod cluster;
mod dag;
mod decide;
mod dispatch;
mod drive;
mod etcd;
mod evict;
mod failover;
mod gangs;
mod herd;
mod jobs;
mod latency;
mod machine;
mod pace;
mod plan;
mod procfs;
mod raft;
mod ranges;
mod readopt;
mod recover;
mod replay;
mod replay_args;
mod report;
mod rolling;
mod scale_in;
mod simulated;
mod spot;
mod store;
mod submit;

pub use client::Target;
