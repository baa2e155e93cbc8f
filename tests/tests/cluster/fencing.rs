//! An agent that hangs: its task is dead before another starts. The kernel's own lock is the oracle.

use crate::scaled;
use muster_tests::{Cluster, until};
use nix::sys::signal::{Signal, kill};
use std::time::Duration;

#[test]
fn a_stopped_agents_task_is_dead_before_its_replacement_starts() {
    if std::process::Command::new("flock").arg("--version").output().is_err() {
        eprintln!("skipped: there is no flock(1) here (util-linux)");
        return;
    }
    for round in 0..scaled(1, 20) {
        let cluster = Cluster::start(1, 2, &["--cpus", "2"]);
        let (lock, held) = (cluster.dir.path().join("lock"), cluster.dir.path().join("held"));
        // The first attempt holds the lock for ever; the second must get it at once, or somebody still lives.
        let text = format!(
            "name: fence\ntasks: {{t: {{run: 'exec flock -n -E 99 {} sh -c \"echo $MUSTER_ATTEMPT $MUSTER_WORKER >> {}; test $MUSTER_ATTEMPT -gt 1 || sleep 600\"'}}}}\n",
            lock.display(),
            held.display()
        );
        let id = cluster.submit(&cluster.file("fence.yaml", &text));
        let holders = || std::fs::read_to_string(&held).unwrap_or_default();
        let first = until("the first holder", Duration::from_secs(60), || {
            let text = holders();
            text.lines().next().map(str::to_owned).ok_or_else(|| format!("{text}{}", cluster.logs()))
        });
        let worker = first.split(' ').nth(1).unwrap().to_owned();
        let agent = cluster.agent(&worker);
        kill(agent, Signal::SIGSTOP).unwrap();
        let doc = cluster.finished(id, Duration::from_secs(60));
        kill(agent, Signal::SIGCONT).unwrap();
        assert_eq!(doc["state"], "succeeded", "round {round}: {doc:#}");
        let attempts = doc["tasks"][0]["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        assert_eq!(attempts[0]["state"], "lost");
        let second = holders().lines().nth(1).unwrap().to_owned();
        assert!(second.starts_with("2 ") && !second.ends_with(&worker), "{second}");
    }
}

#[test]
fn a_killed_agent_kills_no_task() {
    let mut cluster = Cluster::start(1, 1, &["--cpus", "2"]);
    let (go, out) = (cluster.dir.path().join("go"), cluster.dir.path().join("out"));
    let text = format!(
        "name: adopt\ntasks: {{t: {{run: 'echo start >> {1}; while ! test -e {0}; do sleep 0.05; done; echo end >> {1}'}}}}\n",
        go.display(),
        out.display()
    );
    let id = cluster.submit(&cluster.file("adopt.yaml", &text));
    let seen = || std::fs::read_to_string(&out).unwrap_or_default();
    until("its start", Duration::from_secs(60), || {
        seen().contains("start").then_some(()).ok_or_else(|| cluster.logs())
    });
    cluster.kill_agent("w1");
    cluster.start_worker("w1");
    std::fs::write(&go, "").unwrap();
    let doc = cluster.finished(id, Duration::from_secs(60));
    assert_eq!(doc["state"], "succeeded", "{doc:#}{}", cluster.logs());
    assert_eq!(doc["tasks"][0]["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(seen(), "start\nend\n");
}
