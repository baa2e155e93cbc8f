//! Preemption notices as a user sets them up: flags and environment, and what a process does with SIGTERM.

use muster_cloud_metadata::Emulator;
use muster_tests::cluster::{Cluster, free_port, kill_all_under};
use muster_tests::{Cli, until};
use nix::sys::signal::{Signal, kill};
use serde_json::json;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn dev_gives_each_worker_an_endpoint_of_its_own() {
    let emulator = Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let dir = tempfile::Builder::new().prefix("mu").tempdir().unwrap();
    let cli = Cli { config_dir: dir.path().join("config") };
    let (data, log) = (dir.path().join("d").display().to_string(), dir.path().join("dev.log"));
    let listen = format!("127.0.0.1:{}", free_port());
    let endpoint = emulator.endpoint("{worker}");
    let env = [("MUSTER_NOTICE_SOURCES", "aws"), ("MUSTER_NOTICE_AWS_ENDPOINT", endpoint.as_str())];
    let args = ["dev", "--data-dir", &data, "--listen", &listen, "--workers", "2", "--spot"];
    let mut dev = cli.daemon_with(&args, &log, &env);
    emulator.put("w2", "aws/instance-action", &json!({"action": "terminate", "in_ms": 120_000})).unwrap();
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the notice", LIMIT, || {
        let told = |line: &&str| line.contains("preemption notice: this machine goes");
        let lines: Vec<String> = text().lines().filter(told).map(str::to_owned).collect();
        (!lines.is_empty()).then_some(()).ok_or_else(text)?;
        assert!(lines.iter().all(|line| line.contains("w2") && line.contains("aws")), "{lines:?}");
        Ok::<_, String>(())
    });
    dev.kill().unwrap();
    dev.wait().unwrap();
    kill_all_under(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_which_machine_of_its_cloud_it_is_on() {
    let emulator = Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let machine = json!({"id": "i-0123456789abcdef0", "image": "ami-0abc", "zone": "eu-west-1b"});
    emulator.put("w1", "aws/machine", &machine).unwrap();
    emulator.put("w2", "fault", &json!({"kind": "status", "status": 503})).unwrap();
    let endpoint = emulator.endpoint("{worker}");
    let mut cluster = Cluster::start(1, 0, &[]);
    let cloud = ["--notice-sources", "aws", "--notice-aws-endpoint", endpoint.as_str()];
    cluster.add_worker("w1", &[&cloud[..], &["--label", "zone=mine", "--label", "rack=7"]].concat());
    cluster.add_worker("w2", &cloud);
    cluster.wait_workers(2);
    let labels = |cluster: &Cluster, name: &str| {
        let workers = cluster.cli.json(&["workers"]).unwrap();
        let all = workers["workers"].as_array().unwrap();
        all.iter().find(|worker| worker["name"] == name).unwrap()["labels"].clone()
    };
    // The operator's word counts before the machine's.
    let expected =
        json!({"instance_id": "i-0123456789abcdef0", "image": "ami-0abc", "zone": "mine", "rack": "7"});
    assert_eq!(labels(&cluster, "w1"), expected);
    assert_eq!(labels(&cluster, "w2"), json!({}), "a service that does not say it holds nobody up");
    let log = std::fs::read_to_string(cluster.dir.path().join("w2.log")).unwrap();
    assert!(log.contains("the machine does not say which one it is"), "{log}");
}

#[test]
fn with_the_source_sigterm_an_idle_agent_ends_by_itself() {
    let mut cluster = Cluster::start(1, 0, &[]);
    cluster.add_worker("w1", &["--notice-sources", "sigterm"]);
    cluster.wait_workers(1);
    kill(cluster.agent("w1"), Signal::SIGTERM).unwrap();
    let status = until("the agent's end", LIMIT, || cluster.agent_ended("w1").ok_or("it runs"));
    assert!(status.success(), "{status}");
    let log = std::fs::read_to_string(cluster.dir.path().join("w1.log")).unwrap();
    assert!(log.contains("preemption notice: this machine goes"), "{log}");
}

#[test]
fn what_cannot_be_listened_to_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let cli = Cli { config_dir: dir.path().join("config") };
    let data = dir.path().join("w").display().to_string();
    let check = |more: &[&str]| {
        let mut args = vec!["worker", "--check-config", "--data-dir", &data, "--join", "127.0.0.1:1"];
        args.extend(more);
        let ran = cli.run(&args);
        (ran.code, ran.stderr)
    };
    assert_eq!(check(&["--notice-sources", "aws,systemd,sigterm"]).0, Some(0));
    assert_eq!(check(&["--notice-sources", ""]).0, Some(0));
    for (bad, words) in [
        (&["--notice-sources", "file"][..], "has no file to look at"),
        (&["--notice-sources", "ibm"], "unknown variant `ibm`"),
        (&["--notice-sources", "operator"], "operators call"),
        (&["--notice-aws-endpoint", "https://h"], "does not begin with http://"),
        (&["--notice-gcp-notice", "soon"], "is no duration"),
        (&["--notice-sources", "aws", "--notice-file", "/x"], "is not among notice.sources"),
    ] {
        let (code, stderr) = check(bad);
        assert!(code == Some(1) && stderr.contains(words), "{bad:?}: {code:?} {stderr}");
    }
    let dev = cli.run(&["dev", "--data-dir", &data, "--notice-sources", "sigterm"]);
    assert!(dev.code == Some(1) && dev.stderr.contains("the signal ends it"), "{dev:?}");
}
