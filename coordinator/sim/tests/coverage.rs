//! What is never asked for is never tested: the workload reaches every command and every cause.

use muster_sim::{Options, run_with};
use std::collections::BTreeSet;

#[test]
fn forty_seeds_reach_every_command_and_every_cause() {
    let seen: BTreeSet<String> = (0..40).flat_map(|seed| run_with(Options::hostile(seed)).seen).collect();
    let commands = [
        "SubmitPart",
        "Submit",
        "Cancel",
        "Hold",
        "Release",
        "Rerun",
        "ResolveWhen",
        "ApplyPlan",
        "Reports",
        "Register",
        "LoseWorker",
        "Stop",
        "Drain",
        "Undrain",
        "Retire",
        "DeviceEvents",
        "ReturnDevice",
        "Notice",
        "SetFleet",
        "Scale",
        "ScaleIn",
        "Forget",
    ];
    let causes =
        ["Exit", "Signal", "Oom", "Timeout", "Evicted", "Lost", "Launch", "Contract", "Cancelled", "Device"];
    let of_checkpoints = ["CheckpointCommitted", "Resumed", "Saved", "BadCheckpoint"];
    for name in commands.into_iter().chain(causes).chain(of_checkpoints) {
        assert!(seen.contains(name), "{name} never happens; seen: {seen:?}");
    }
}
