//! Tests of the store, of three members under faults on the deterministic runtime, and of real members over loopback.

mod crash;
mod crash_child;
mod damage;
mod ledger;
mod loopback;
mod power;
mod purge;
mod refusals;
mod sim;
mod sim_members;
mod sim_plants;
mod sim_slow;
mod sim_world;
mod speed;
mod suite;

/// Shows what openraft says, with `MUSTER_RAFT_TRACE=debug`.
fn trace() {
    let Ok(filter) = std::env::var("MUSTER_RAFT_TRACE") else { return };
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
