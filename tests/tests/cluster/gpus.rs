//! GPUs of `muster dev`: whole ones, parts, linked ones and gangs side by side; the kernel's locks say that nobody has another's.

use crate::scaled;
use muster_tests::chaos::ledger::{self, DONE, GATES, GPUS, LEDGER, LOCKS, What};
use muster_tests::chaos::task::{Fail, Orders};
use muster_tests::cluster::{free_port, kill_all_under};
use muster_tests::{Cli, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// What runs side by side: the name, how many of a hundred, what each rank asks for, how many tasks may share a GPU, how many ranks.
fn mix() -> [(&'static str, u64, Value, u32, u32); 5] {
    [
        ("half", 40, json!({"fraction": 0.5}), 2, 1),
        ("whole", 30, json!(1), 1, 1),
        ("linked", 10, json!({"count": 4, "link": "nvlink"}), 1, 1),
        ("gang", 10, json!(2), 1, 2),
        ("none", 10, Value::Null, 1, 1),
    ]
}

fn job(dir: &Path, all: u64) -> Value {
    let mut tasks = serde_json::Map::new();
    for (name, share, gpus, sharers, workers) in mix() {
        let orders = Orders { dir: dir.to_owned(), millis: 5, fail: Fail::Never, sharers, parents: vec![] };
        let mut resources = json!({"cpus": 1});
        if !gpus.is_null() {
            resources["gpus"] = gpus;
        }
        let run = orders.words(Path::new(env!("CARGO_BIN_EXE_muster-chaos")));
        let mut task = json!({"array": format!("0-{}", all * share / 100 - 1), "run": run, "resources": resources});
        if workers > 1 {
            task["workers"] = json!(workers);
        }
        tasks.insert(name.to_owned(), task);
    }
    json!({"name": "mix", "tasks": tasks})
}

#[test]
fn no_gpu_is_given_twice_to_wholes_parts_and_gangs() {
    let dir = tempfile::Builder::new().prefix("mu").tempdir().unwrap();
    let cli = Cli { config_dir: dir.path().join("config") };
    let tasks_dir = dir.path().join("tasks");
    for sub in [LOCKS, GPUS, DONE, GATES] {
        std::fs::create_dir_all(tasks_dir.join(sub)).unwrap();
    }
    std::fs::write(tasks_dir.join(LEDGER), "").unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let data = dir.path().join("d").display().to_string();
    let args = ["dev", "--data-dir", &data, "--listen", &listen, "--gpus", "8xH100-80GB", "--workers", "4"];
    let args = [&args[..], &["--cpus", "64"]].concat();
    let mut dev = cli.daemon(&args, &dir.path().join("dev.log"));
    until("four workers", Duration::from_secs(60), || {
        let doc = cli.json(&["workers"])?;
        let ready = doc["workers"].as_array().map_or(0, |w| w.iter().filter(|w| w["state"] == "ready").count());
        (ready == 4).then_some(()).ok_or(doc.to_string())
    });
    let all = scaled(400, 20_000);
    let file = dir.path().join("mix.json");
    std::fs::write(&file, job(&tasks_dir, all).to_string()).unwrap();
    let id: u64 = cli.run(&["submit", &file.display().to_string()]).ok().trim().parse().unwrap();
    let doc = until("the end of the job", Duration::from_secs(1_800), || {
        let doc = cli.json(&["show", &id.to_string()])?;
        (doc["ended"].is_string()).then_some(doc.clone()).ok_or(doc["counts"].to_string())
    });
    let log = std::fs::read_to_string(dir.path().join("dev.log")).unwrap();
    dev.kill().unwrap();
    dev.wait().unwrap();
    kill_all_under(dir.path());
    assert_eq!((&doc["state"], &doc["counts"]["succeeded"]), (&"succeeded".into(), &all.into()), "{log}");
    let lines = ledger::read(&tasks_dir.join(LEDGER)).unwrap();
    let held: Vec<_> = lines.iter().filter(|l| matches!(l.what, What::Held { .. })).collect();
    assert!(held.is_empty(), "{} times a lock was another's: {held:#?}", held.len());
    let mut started: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for line in lines.iter().filter(|l| l.what == What::Start) {
        started.entry(&line.task).or_default().insert(line.index);
    }
    for (name, share, ..) in mix() {
        assert_eq!(started.get(name).map(BTreeSet::len), usize::try_from(all * share / 100).ok(), "{name}");
    }
    // What an attempt had is what it asked for, and a gang's ranks stand on two workers.
    let attempt = |name: &str| {
        let tasks = doc["tasks"].as_array().unwrap();
        tasks.iter().find(|t| t["name"] == name).unwrap()["attempts"][0].clone()
    };
    for (name, devices) in [("half", 1), ("whole", 1), ("linked", 4), ("gang", 4), ("none", 0)] {
        assert_eq!(attempt(name)["devices"].as_array().map(Vec::len), Some(devices), "{}", attempt(name));
    }
}
