//! Workers with GPUs, through NVML: the library is the fake one, everything above it is real.

use muster_fake_nvml::{Event, Installed, Process, Scenario, install};
use muster_tests::{Cluster, until};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);
/// Looks at a job that must not have ended. Any number would do: each can find it ended.
const LOOKS: usize = 5;

/// A cluster whose one worker has the GPUs of a scenario.
struct Rig {
    cluster: Cluster,
    fake: Installed,
    scenario: Scenario,
}

impl Rig {
    fn new(seed: u32, gpus: usize) -> Self {
        let mut cluster = Cluster::start(1, 0, &[]);
        let scenario = Scenario::healthy(seed, gpus);
        let fake = install(cluster.dir.path(), &scenario).unwrap();
        let library = fake.library.display().to_string();
        cluster.add_worker_with("w1", &["--cpus", "8"], &[("MUSTER_DEVICES_NVML_PATH", &library)]);
        cluster.wait_workers(1);
        Self { cluster, fake, scenario }
    }

    fn change(&mut self, change: impl FnOnce(&mut Scenario)) {
        change(&mut self.scenario);
        self.fake.set(&self.scenario).unwrap();
    }

    fn gpus(&self) -> Result<Vec<Value>, String> {
        let doc = self.cluster.cli.json(&["workers"])?;
        doc["workers"][0]["gpus"].as_array().cloned().ok_or_else(|| doc.to_string())
    }

    /// Waits until the attempt of this number is in this state.
    fn attempt(&self, job: u64, number: u64, state: &str) -> Value {
        until(&format!("attempt {number} of job {job} to be {state}"), SOON, || {
            let doc = self.cluster.cli.json(&["show", &job.to_string()])?;
            let all = doc["tasks"][0]["attempts"].as_array().cloned().unwrap_or_default();
            let found = all.into_iter().find(|a| a["number"] == number && a["state"] == state);
            found.ok_or_else(|| doc.to_string() + &self.cluster.logs())
        })
    }

    fn worker_log(&self) -> String {
        std::fs::read_to_string(self.cluster.dir.path().join("w1.log")).unwrap_or_default()
    }

    fn state(&self, job: u64) -> String {
        let doc = self.cluster.cli.json(&["show", &job.to_string()]).unwrap();
        doc["state"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_worker_offers_what_nvml_says_and_a_task_sees_its_own_gpu() {
    let mut rig = Rig::new(0x1001, 2);
    let gpus = rig.gpus().unwrap();
    let known: Vec<_> = gpus.iter().map(|g| g["uuid"].as_str().unwrap_or_default().to_owned()).collect();
    let there: Vec<_> = rig.scenario.gpus.iter().map(|g| g.uuid.clone()).collect();
    assert_eq!(known, there);
    assert_eq!(gpus[0]["model"], "H100");
    assert_eq!(gpus[0]["simulated"], false);

    let seen =
        rig.cluster.cli.run(&["run", "--gpus", "1", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]).ok();
    assert!(there.contains(&seen.trim().to_owned()), "{seen}");
    assert_eq!(rig.cluster.cli.run(&["run", "--", "sh", "-c", "echo -$CUDA_VISIBLE_DEVICES-"]).ok(), "--\n");

    // What is measured comes up beside the log.
    rig.change(|s| (s.gpus[1].temperature, s.gpus[1].utilization) = (77, 50));
    until("the measurement", SOON, || {
        let sample = rig.gpus()?[1]["sample"].clone();
        let is_new = sample["temperature"] == 77 && sample["utilization_permille"] == 500;
        is_new.then_some(()).ok_or_else(|| sample.to_string() + &rig.cluster.logs())
    });
    let doc = rig.cluster.cli.json(&["workers"]).unwrap();
    assert!(doc["workers"][0]["machine"]["memory_total"].as_u64().is_some_and(|bytes| bytes > 0), "{doc}");
}

#[test]
fn the_end_of_a_task_is_told_when_its_gpu_is_clean() {
    let mut rig = Rig::new(0x1002, 1);
    let (go, over) = (rig.cluster.dir.path().join("go"), rig.cluster.dir.path().join("over"));
    let script = format!("until test -e {}; do sleep 0.05; done; touch {}", go.display(), over.display());
    let job = rig.cluster.file(
        "job.yaml",
        &format!("name: dirty\ntasks: {{t: {{run: '{script}', resources: {{gpus: 1}}}}}}\n"),
    );
    let id = rig.cluster.submit(&job);
    until("the task to run", SOON, || {
        let state = rig.state(id);
        (state == "running").then_some(()).ok_or_else(|| state + &rig.cluster.logs())
    });
    // A context that outlives its process: no such process is there.
    rig.change(|s| s.gpus[0].processes = vec![Process { pid: 4_000_000, memory: 1 << 30 }]);
    std::fs::write(&go, "").unwrap();
    until("the task's own end", SOON, || over.exists().then_some(()).ok_or_else(|| rig.cluster.logs()));
    for _ in 0..LOOKS {
        // On a machine so busy that the worker gave up waiting meanwhile, it has said so.
        let gave_up = rig.worker_log().contains("not clean after its task");
        let state = rig.state(id);
        assert!(gave_up || state == "running", "{state}");
    }
    rig.change(|s| s.gpus[0].processes.clear());
    assert_eq!(rig.cluster.finished(id, SOON)["state"], "succeeded");
}

#[test]
fn a_task_leaves_a_gpu_that_falls_off_the_bus_and_goes_on_with_another() {
    let mut rig = Rig::new(0x1003, 8);
    let dir = rig.cluster.dir.path().to_owned();
    let script = format!("until test -e {0}/go; do sleep 0.05; done", dir.display());
    // One failure of its own would be the end of it.
    let text = format!(
        "name: train\ndefaults: {{retry: {{attempts: 1}}}}\ntasks: {{t: {{run: '{script}', resources: {{gpus: 1}}}}}}\n"
    );
    let id = rig.cluster.submit(&rig.cluster.file("train.yaml", &text));
    let first = rig.attempt(id, 1, "running");
    let sick = first["devices"][0].as_str().unwrap().to_owned();
    let at = rig.scenario.gpus.iter().position(|g| g.uuid == sick).unwrap();
    rig.change(|s| {
        s.gpus[at].lost = true;
        s.events.push(Event { gpu: at, xid: Some(79) });
    });

    let second = rig.attempt(id, 2, "running");
    assert_ne!(second["devices"][0], sick.as_str());
    assert_eq!(rig.attempt(id, 1, "evicted")["cause"], "device(79)");
    let device = rig.cluster.cli.json(&["gpus", "show", &sick]).unwrap();
    assert_eq!(device["health"], "quarantined", "{device}");
    std::fs::write(dir.join("go"), "").unwrap();
    assert_eq!(rig.cluster.finished(id, SOON)["state"], "succeeded");
}

#[test]
fn an_agent_that_starts_again_beside_a_dead_gpu_gives_no_gpu_twice() {
    let mut rig = Rig::new(0x1005, 3);
    let dir = rig.cluster.dir.path().to_owned();
    let job = |rig: &Rig, name: &str| {
        let script = format!(
            "echo $CUDA_VISIBLE_DEVICES > {0}/{name}; until test -e {0}/go-{name}; do sleep 0.05; done",
            dir.display()
        );
        let text = format!("name: {name}\ntasks: {{t: {{run: '{script}', resources: {{gpus: 1}}}}}}\n");
        rig.cluster.submit(&rig.cluster.file(&format!("{name}.yaml"), &text))
    };
    let seen = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_owned();
    let place = |rig: &Rig, uuid: &str| rig.scenario.gpus.iter().position(|gpu| gpu.uuid == uuid).unwrap();
    let ids = ["a", "b", "c"].map(|name| (name, job(&rig, name)));
    let mut held: Vec<(usize, &str, u64)> = Vec::new();
    for (name, id) in ids {
        let attempt = rig.attempt(id, 1, "running");
        held.push((place(&rig, attempt["devices"][0].as_str().unwrap()), name, id));
    }
    held.sort_unstable();
    // The first GPU is free and then dead, the second is held, the third is free again.
    let [(_, first, first_id), (_, second, second_id), (_, third, third_id)] = held[..] else {
        panic!("{held:?}")
    };
    for (name, id) in [(first, first_id), (third, third_id)] {
        std::fs::write(dir.join(format!("go-{name}")), "").unwrap();
        assert_eq!(rig.cluster.finished(id, SOON)["state"], "succeeded");
    }
    rig.cluster.kill_agent("w1");
    rig.change(|s| s.gpus[0].lost = true);
    rig.cluster.start_worker("w1");

    // The driver numbers what answers from 0: by its numbers, the next task would get what the second holds.
    let next = job(&rig, "next");
    let attempt = rig.attempt(next, 1, "running");
    let uuids: Vec<&str> = rig.scenario.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
    assert_eq!(
        (attempt["devices"][0].as_str(), seen("next").as_str()),
        (Some(uuids[2]), uuids[2]),
        "{attempt}"
    );
    assert_eq!(seen(second), uuids[1]);
    let dead = rig.cluster.cli.json(&["gpus", "show", uuids[0]]).unwrap();
    assert_eq!(dead["health"], "quarantined", "{dead}");
    for (name, id) in [(second, second_id), ("next", next)] {
        std::fs::write(dir.join(format!("go-{name}")), "").unwrap();
        assert_eq!(rig.cluster.finished(id, SOON)["state"], "succeeded");
    }
}

#[test]
fn an_xid_of_an_application_is_the_tasks_own_and_touches_no_gpu() {
    let mut rig = Rig::new(0x1004, 1);
    let dir = rig.cluster.dir.path().to_owned();
    let script = format!("until test -e {0}/go; do sleep 0.05; done; exit 7", dir.display());
    let text = format!("name: bad\ntasks: {{t: {{run: '{script}', resources: {{gpus: 1}}}}}}\n");
    let id = rig.cluster.submit(&rig.cluster.file("bad.yaml", &text));
    rig.attempt(id, 1, "running");
    rig.change(|s| s.events.push(Event { gpu: 0, xid: Some(13) }));
    let uuid = rig.scenario.gpus[0].uuid.clone();
    let show = |rig: &Rig| rig.cluster.cli.json(&["gpus", "show", &uuid]);
    until("the XID in the history of the GPU", SOON, || {
        let device = show(&rig)?;
        device["history"].to_string().contains("xid 13").then_some(()).ok_or_else(|| device.to_string())
    });
    std::fs::write(dir.join("go"), "").unwrap();
    assert_eq!(rig.cluster.finished(id, SOON)["state"], "failed");
    assert_eq!(rig.attempt(id, 1, "failed")["cause"], "exit(7)");
    assert_eq!(show(&rig).unwrap()["health"], "healthy");
}

#[test]
fn a_worker_whose_library_is_missing_works_without_gpus_and_says_so() {
    let mut cluster = Cluster::start(1, 0, &[]);
    let missing = [("MUSTER_DEVICES_NVML_PATH", "/nonexistent/libnvidia-ml.so.1")];
    cluster.add_worker_with("w1", &["--cpus", "2"], &missing);
    cluster.wait_workers(1);
    assert_eq!(cluster.cli.run(&["run", "--", "echo", "works"]).ok(), "works\n");
    let log = std::fs::read_to_string(cluster.dir.path().join("w1.log")).unwrap();
    assert_eq!(log.matches("no GPUs").count(), 1, "{log}");
}
