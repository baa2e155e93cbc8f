//! `muster dev` is killed with SIGKILL in the middle of a job and started again.

use crate::scaled;
use muster_tests::cluster::{free_port, kill_all_under};
use muster_tests::{Cli, until};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn a_killed_dev_goes_on_where_it_was() {
    let dir = tempfile::Builder::new().prefix("mu").tempdir().unwrap();
    let cli = Cli { config_dir: dir.path().join("config") };
    let data = dir.path().join("d").display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let ledger = dir.path().join("ledger");
    let args = ["dev", "--data-dir", &data, "--listen", &listen, "--cpus", "16"];
    let tasks = scaled(300, 1000);
    let job = dir.path().join("job.yaml");
    let text = format!(
        "name: ledger\ntasks: {{t: {{array: '0-{}', run: 'sleep 0.1; echo $MUSTER_INDEX $MUSTER_ATTEMPT >> {}'}}}}\n",
        tasks - 1,
        ledger.display()
    );
    std::fs::write(&job, text).unwrap();

    let mut dev = cli.daemon(&args, &dir.path().join("dev.log"));
    let id = until("the first submission", Duration::from_secs(60), || {
        let ran = cli.run(&["submit", &job.display().to_string()]);
        ran.stdout.trim().parse::<u64>().map_err(|_| ran)
    });
    let lines = || std::fs::read_to_string(&ledger).unwrap_or_default().lines().count() as u64;
    until("a third of the tasks", Duration::from_secs(120), || {
        (lines() > tasks / 3).then_some(()).ok_or(lines())
    });
    dev.kill().unwrap();
    dev.wait().unwrap();
    let before = lines();
    assert!(before < tasks, "the kill came too late to mean anything");

    let mut dev = cli.daemon(&args, &dir.path().join("dev.log"));
    let doc = until("the end of the job", Duration::from_secs(180), || {
        let doc = cli.json(&["show", &id.to_string()])?;
        (doc["state"] == "succeeded").then_some(doc.clone()).ok_or(doc["counts"].to_string())
    });
    let next = cli.run(&["run", "--", "true"]);
    let ids = cli.json(&["ps"]).unwrap()["jobs"][0]["id"].as_u64();
    let log = std::fs::read_to_string(dir.path().join("dev.log")).unwrap();
    dev.kill().unwrap();
    dev.wait().unwrap();
    kill_all_under(dir.path());

    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for line in std::fs::read_to_string(&ledger).unwrap().lines() {
        let index = line.split(' ').next().unwrap().parse().unwrap();
        *seen.entry(index).or_default() += 1;
    }
    assert_eq!(seen.len() as u64, tasks);
    // A second line of an index is a second attempt, and the job says so.
    let repeated: Vec<u64> = seen.iter().filter(|(_, n)| **n > 1).map(|(i, _)| *i).collect();
    let attempts = doc["tasks"][0]["attempts"].as_array().unwrap();
    for index in repeated {
        let mine = attempts.iter().filter(|a| a["index"] == index).count();
        assert!(mine > 1, "index {index} ran twice and nothing says so\n{log}");
    }
    assert_eq!((next.code, ids), (Some(0), Some(id + 1)));
}
