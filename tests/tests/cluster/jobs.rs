//! DAGs, arrays, retries, cancel, hold, rerun.

use muster_tests::{Cluster, until};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_dag_runs_in_order_with_rules_retries_and_when() {
    let cluster = Cluster::start(1, 1, &["--cpus", "4"]);
    let ledger = cluster.dir.path().join("ledger");
    let job = cluster.file(
        "dag.yaml",
        &format!(
            r#"
name: dag
env: {{LEDGER: "{}"}}
defaults: {{retry: {{attempts: 3, backoff: {{initial: 50ms, max: 100ms}}}}}}
tasks:
  a: {{run: "echo a >> $LEDGER"}}
  flaky: {{needs: [a], run: "echo flaky$MUSTER_ATTEMPT >> $LEDGER; test $MUSTER_ATTEMPT -ge 2"}}
  never: {{needs: [flaky], when: "tasks.flaky.failed_count > 0", run: "echo never >> $LEDGER"}}
  many: {{needs: [flaky], array: "10-19:3", run: "echo many$MUSTER_INDEX >> $LEDGER"}}
  after: {{needs: [never, many], rule: none_failed_min_one_success, run: "echo after >> $LEDGER"}}
"#,
            ledger.display()
        ),
    );
    let ran = cluster.cli.run(&["submit", &job, "--wait"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stderr, cluster.logs());
    let text = std::fs::read_to_string(&ledger).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..3], ["a", "flaky1", "flaky2"]);
    let mut middle = lines[3..7].to_vec();
    middle.sort_unstable();
    assert_eq!((middle, lines[7]), (vec!["many10", "many13", "many16", "many19"], "after"));
    let doc = cluster.cli.json(&["show", "1"]).unwrap();
    let states: Vec<&str> =
        doc["tasks"].as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["succeeded", "succeeded", "skipped", "succeeded", "succeeded"]);
}

#[test]
fn the_same_request_id_is_the_same_job() {
    let cluster = Cluster::start(1, 0, &[]);
    let one = cluster.file("one.yaml", "name: one\ntasks: {t: {run: 'true'}}\n");
    let two = cluster.file("two.yaml", "name: two\ntasks: {t: {run: 'true'}}\n");
    let submit = |file: &str| cluster.cli.run(&["submit", file, "--request-id", "r1"]);
    assert_eq!(submit(&one).ok(), "1\n");
    assert_eq!(submit(&one).ok(), "1\n");
    let refused = submit(&two);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("r1"), "{}", refused.stderr);
    let json = cluster.cli.run(&["submit", &two, "--request-id", "r1", "--output", "json"]);
    assert!(
        json.stdout.contains("REQUEST_ID_REUSED") || json.stderr.contains("REQUEST_ID_REUSED"),
        "{json:?}"
    );
}

#[test]
fn cancel_hold_release_and_rerun() {
    let cluster = Cluster::start(1, 1, &["--cpus", "4"]);
    let flag = cluster.dir.path().join("flag");
    let long = cluster.file("long.yaml", "name: long\ntasks: {t: {run: 'sleep 600'}}\n");
    let job = cluster.submit(&long);
    let state = |id: u64| {
        cluster.cli.json(&["show", &id.to_string()]).map(|d| d["state"].as_str().unwrap_or("?").to_owned())
    };
    until("it runs", SOON, || match state(job)?.as_str() {
        "running" => Ok(()),
        other => Err(other.to_owned()),
    });
    let _ = cluster.cli.run(&["cancel", &job.to_string()]).ok();
    assert_eq!(cluster.finished(job, SOON)["state"], "cancelled");
    assert_eq!(cluster.cli.run(&["wait", &job.to_string()]).code, Some(125));

    let file =
        cluster.file("f.yaml", &format!("name: f\ntasks: {{t: {{run: 'test -e {}'}}}}\n", flag.display()));
    let failed = cluster.submit(&file);
    assert_eq!(cluster.finished(failed, SOON)["state"], "failed");
    cluster
        .cli
        .run(&["hold", &failed.to_string()])
        .code
        .filter(|c| *c == 1)
        .expect("a finished job is not held");
    std::fs::write(&flag, "").unwrap();
    let _ = cluster.cli.run(&["rerun", &failed.to_string(), "--failed"]).ok();
    assert_eq!(cluster.finished(failed, SOON)["state"], "succeeded");
}

#[test]
fn an_attempt_that_takes_too_long_ends_with_124() {
    let cluster = Cluster::start(1, 1, &[]);
    let ran = cluster.cli.run(&["run", "--time", "1s", "--", "sleep", "600"]);
    assert_eq!(ran.code, Some(124), "{}", ran.stderr);
}

#[test]
fn logs_stay_after_the_worker_is_gone() {
    let mut cluster = Cluster::start(1, 1, &[]);
    let ran = cluster.cli.run(&["run", "--", "sh", "-c", "echo kept; echo err >&2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    cluster.kill_agent("w1");
    let out = until("the log from the store", SOON, || {
        let ran = cluster.cli.run(&["logs", "1"]);
        (ran.stdout.contains("kept")).then_some(ran.clone()).ok_or(ran)
    });
    assert_eq!(out.code, Some(0));
}
