//! Pools, what is wanted of them, and workers that are forgotten: what the command line says.

use muster_tests::{Cluster, until};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn without_a_pool_nothing_is_wanted_and_a_worker_that_is_gone_can_be_forgotten() {
    let mut cluster = Cluster::start(3, 2, &["--cpus", "2"]);
    // Any member says so: the first of a context's addresses need not lead.
    for at in 0..3 {
        let address = cluster.member_address(at);
        let doc = cluster.cli.json(&["autoscale", "signals", "--address", &address]).unwrap();
        assert_eq!(doc["pools"], json!([]), "{doc}");
    }
    let ran = cluster.cli.run(&["autoscale", "signals"]);
    assert_eq!(ran.stdout.lines().count(), 1, "only the heading: {}", ran.stdout);
    assert!(ran.stderr.contains("no pool is configured"), "{}", ran.stderr);
    let ran = cluster.cli.run(&["autoscale", "signals", "--pool", "h100", "--output", "json"]);
    let error: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, error["error"]["code"].as_str()), (Some(1), Some("POOL_NOT_FOUND")));

    // A pool that only workers name is shown as what it is.
    let pools = cluster.cli.json(&["pool", "list"]).unwrap();
    let pool = &pools["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["configured"], &pool["workers"]),
        (&json!("default"), &json!(false), &json!(2))
    );
    let shown = cluster.cli.run(&["pool", "show", "default"]).ok();
    assert!(shown.contains("2 workers") && shown.contains("no coordinator's file has it"), "{shown}");
    let ran = cluster.cli.run(&["pool", "show", "h100"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no pool \"h100\"; there is default"), "{}", ran.stderr);

    // Who is there is not forgotten; who is drained is, and saying it twice is saying it once.
    let refused = cluster.cli.run(&["worker", "remove", "w1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("hint: drain it first"), "{}", refused.stderr);
    let _ = cluster.cli.run(&["worker", "drain", "w1"]).ok();
    until("an empty worker", WITHIN, || {
        let doc = cluster.cli.json(&["worker", "show", "w1"])?;
        (doc["state"] == "drained").then_some(()).ok_or(doc.to_string())
    });
    let id = cluster.cli.json(&["worker", "show", "w1"]).unwrap()["id"].to_string();
    // The agent is stopped first: it would join again, as a new worker of that name.
    cluster.kill_agent("w1");
    for _ in 0..2 {
        let removed = cluster.cli.json(&["worker", "remove", "w1", "--request-id", "gone"]).unwrap();
        assert_eq!(removed, json!({"worker": "w1"}));
    }
    let again = cluster.cli.run(&["worker", "remove", "w1"]);
    assert!(again.code == Some(1) && again.stderr.contains("no worker \"w1\""), "{}", again.stderr);
    let workers = cluster.cli.json(&["workers"]).unwrap();
    let names: Vec<&str> =
        workers["workers"].as_array().unwrap().iter().filter_map(|w| w["name"].as_str()).collect();
    assert_eq!(names, ["w2"], "worker {id} is forgotten: {workers}");
}

#[test]
fn a_watch_prints_what_changes() {
    let mut cluster = Cluster::start_configured(
        1,
        "[[pool]]\nname = \"spot\"\nmax = 2\ntemplate = { cpus = 2, memory = \"2GiB\" }\n",
    );
    let mut watch = cluster
        .cli
        .command(&["autoscale", "signals", "--watch", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, lines) = mpsc::channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
    // A document a line.
    let wanted = || -> u64 {
        let line = lines.recv_timeout(WITHIN).expect("a line in time");
        let doc: serde_json::Value = serde_json::from_str(&line).expect("a document a line");
        doc["pools"][0]["desired"].as_u64().expect("a number")
    };
    assert_eq!(wanted(), 0);
    let job = cluster.file("job.yaml", "name: waits\ntasks: {one: {run: sleep 600, resources: {cpus: 2}}}\n");
    let _ = cluster.submit(&job);
    while wanted() != 1 {}
    watch.kill().unwrap();
    watch.wait().unwrap();
    let _ = reader.join();
    // The machine comes, whoever brought it.
    cluster.add_worker("w1", &["--cpus", "2", "--pool", "spot"]);
    until("a worker of the pool", WITHIN, || {
        let pool = cluster.cli.json(&["pool", "show", "spot"])?;
        let is_there = pool["workers"] == json!(1) && pool["signal"]["current"] == json!(1);
        is_there.then_some(()).ok_or(pool.to_string())
    });
}
