//! muster-core: every decision of Muster, and nothing else.
//!
//! Synchronous, total and deterministic. Time, ids and log positions are inputs.
//!
//! Architecture invariants:
//! - no runtime, wire, disk, clock, chance or unordered map is named here; the manifest and `clippy.toml` are the wall;
//! - [`state::State::apply`] never fails and never panics on input: a bad command is [`reply::Reply::Rejected`];
//! - no expression or template is evaluated in apply, so a new version of their library can't split replicas;
//! - integers only in anything stored; ties are broken by id.
//!
//! Code map: `model` the nouns · `spec` job file → model · `dag` what becomes ready · `command`, `reply`, `event` what may be asked,
//! what the caller hears, what happened · `state` the replicated state · `scheduler` the plan · `leader` when to plan, leases,
//! reconcile, timers · `spot` machines that go · `autoscale` how many machines · `ledger` where their time and money went · `view_doc` the documents that people and programs read.

pub mod autoscale;
pub mod command;
pub mod dag;
pub mod event;
pub mod health;
pub mod leader;
pub mod ledger;
pub mod model;
pub mod reply;
pub mod scheduler;
pub mod spec;
pub mod spot;
pub mod state;
pub mod view_doc;
