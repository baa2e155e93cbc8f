//! Outputs and inputs between tasks, on whatever workers they run.

use muster_tests::Cluster;
use std::time::Duration;

#[test]
fn artifacts_travel_between_workers_and_a_missing_one_fails_its_task() {
    let cluster = Cluster::start(1, 2, &["--cpus", "2"]);
    std::fs::create_dir(cluster.dir.path().join("wd")).unwrap();
    cluster.file("wd/tool.sh", "#!/bin/sh\necho tool $1\n");
    let job = cluster.file(
        "wd/job.yaml",
        r#"
name: artifacts
workdir: .
tasks:
  make:
    array: "0-3"
    run: "sh tool.sh $MUSTER_INDEX > $MUSTER_OUTPUT_DIR/part.txt"
    outputs: {part: {path: part.txt}}
  join:
    needs: [make]
    inputs: {parts: make.part}
    run: "find $MUSTER_INPUT_PARTS -type f | sort | xargs cat > $MUSTER_OUTPUT_DIR/all; cat $MUSTER_OUTPUT_DIR/all"
    outputs: {all: {path: all}}
"#,
    );
    let id = cluster.submit(&job);
    let doc = cluster.finished(id, Duration::from_secs(90));
    assert_eq!(doc["state"], "succeeded", "{doc:#}{}", cluster.logs());
    let out = cluster.cli.run(&["logs", &id.to_string(), "--task", "join"]).ok();
    assert_eq!(out, "tool 0\ntool 1\ntool 2\ntool 3\n");

    let bad = cluster.file("bad.yaml", "name: bad\ntasks: {t: {run: 'true', outputs: {x: {path: x.txt}}}}\n");
    let doc = cluster.finished(cluster.submit(&bad), Duration::from_secs(60));
    assert_eq!(doc["state"], "failed");
    let cause = doc["tasks"][0]["attempts"][0]["cause"].as_str().unwrap();
    assert!(cause.starts_with("contract(output"), "{cause}");
}
