//! Machines that are said to go: what runs there saves, stops, and goes on elsewhere, and everybody can see why.

use muster_tests::cluster::Cluster;
use muster_tests::until;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A cluster of two workers, and a job whose attempt runs on one of them until it is asked to save; the next one then succeeds.
fn saving(name: &str) -> (Cluster, u64, String) {
    let cluster = Cluster::start(1, 2, &[]);
    let mark = cluster.file(&format!("{name}.saved"), "");
    let script = format!(
        "test -s {mark} && exit 0; trap 'echo saved > {mark}; exit 9' USR1; while :; do sleep 0.05; done"
    );
    let task =
        json!({"run": script, "checkpoint": {"signal": "SIGUSR1", "grace": "20s"}, "retry": {"attempts": 1}});
    let file =
        cluster.file(&format!("{name}.yaml"), &json!({"name": name, "tasks": {"t": task}}).to_string());
    let job = cluster.submit(&file);
    let worker = until("a running attempt", SOON, || {
        let attempt = attempts(&cluster, job).first().cloned().unwrap_or_default();
        (attempt["state"] == "running").then(|| attempt["worker"].clone()).ok_or(attempt)
    });
    (cluster, job, worker.as_str().unwrap().to_owned())
}

fn attempts(cluster: &Cluster, job: u64) -> Vec<Value> {
    let doc = cluster.cli.json(&["show", &job.to_string()]).unwrap_or_default();
    doc["tasks"][0]["attempts"].as_array().cloned().unwrap_or_default()
}

/// The job succeeds with its second attempt, on another worker; the first one ended like this.
fn moved(cluster: &Cluster, job: u64, from: &str, cause: &str) -> Value {
    let doc = cluster.finished(job, SOON);
    assert_eq!(doc["state"], "succeeded", "{doc}");
    let attempts = doc["tasks"][0]["attempts"].as_array().unwrap();
    let ends: Vec<_> = attempts.iter().map(|a| (a["cause"].as_str().unwrap(), a["worker"] == from)).collect();
    assert_eq!(ends, [(cause, true), ("exit(0)", false)], "{doc}");
    doc
}

#[test]
fn a_notice_moves_a_task_to_another_machine_and_can_be_taken_back() {
    let (cluster, job, worker) = saving("noticed");
    let cli = &cluster.cli;
    let said = cli.run(&["worker", "notice", &worker, "--in", "30s", "--detail", "by the test", "--drill"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("1 attempt asked to save and stop"), "{}", said.stderr);
    let doc = moved(&cluster, job, &worker, "evicted(notice)");
    let events: Vec<&str> =
        doc["timeline"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        [
            "job_submitted",
            "attempt_started",
            "notice",
            "attempt_ended",
            "attempt_started",
            "attempt_ended",
            "job_ended"
        ],
        "{doc}"
    );
    // The machine, and what it is to whoever asks.
    let shown = cli.json(&["worker", "show", &worker]).unwrap();
    assert_eq!((&shown["state"], &shown["notice"]["drill"]), (&json!("drained"), &json!(true)), "{shown}");
    assert_eq!(shown["notice"]["detail"], "by the test", "{shown}");
    assert!(shown["notice"]["deadline"].is_string(), "{shown}");
    let table = cli.run(&["workers"]).ok();
    assert!(table.contains("operator: goes in"), "{table}");
    // It stays after all.
    let said = cli.run(&["worker", "notice", &worker, "--withdraw"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let shown = cli.json(&["worker", "show", &worker]).unwrap();
    assert_eq!((&shown["state"], &shown["notice"]), (&json!("ready"), &Value::Null), "{shown}");
    // What makes no sense is refused.
    for (args, code) in [
        (&["worker", "notice", "nobody", "--in", "1s"][..], 1),
        (&["worker", "notice", &worker, "--in", "3650d"], 1),
        (&["worker", "notice", &worker, "--withdraw", "--in", "1s"], 2),
    ] {
        let ran = cli.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(cli.json(&["worker", "show", &worker]).unwrap()["notice"], Value::Null);
}

#[test]
fn a_drain_with_a_deadline_asks_to_save_in_time() {
    let (cluster, job, worker) = saving("drained");
    // 20 s of grace and what follows it do not fit: it begins at once.
    let drained = cluster.cli.run(&["worker", "drain", &worker, "--deadline", "10s"]);
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    moved(&cluster, job, &worker, "evicted(drain)");
    let shown = cluster.cli.json(&["worker", "show", &worker]).unwrap();
    assert_eq!((&shown["state"], &shown["notice"]), (&json!("drained"), &Value::Null), "{shown}");
}
