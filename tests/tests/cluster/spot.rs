//! Machines that go: from the notice to the task that goes on elsewhere, with real processes, and with the training examples.

use crate::scaled;
use muster_cloud_metadata::Emulator;
use muster_tests::cluster::{free_port, kill_all_under};
use muster_tests::{Cli, Cluster, Puppet, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);
const COUNTER: &str = include_str!("counter.py");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
/// Indices that count at once.
const COUNTERS: u64 = 4;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether a Python has these modules; says so where it has not.
fn has(python: &Path, modules: &str, hint: &str) -> bool {
    let imported = std::process::Command::new(python).args(["-c", &format!("import {modules}")]).output();
    let there = imported.is_ok_and(|done| done.status.success());
    if !there {
        eprintln!("skipped: {} has not all of {modules}: {hint}", python.display());
    }
    there
}

/// The line of a log that begins so; of one attempt, or of what `logs` takes.
fn log_line(cli: &Cli, args: &[&str], begins: &str) -> Result<String, String> {
    let log = cli.run(&[&["logs"], args].concat());
    let line = log.stdout.lines().find(|line| line.starts_with(begins)).map(str::to_owned);
    line.ok_or_else(|| format!("{log:?}"))
}

#[test]
fn a_notice_moves_the_digits_and_the_weights_are_the_same_to_the_last_bit() {
    if !has(Path::new("python3"), "numpy, sklearn, matplotlib", "`scripts/python-env.sh` installs them") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clouds = runtime.block_on(Emulator::start("127.0.0.1:0".parse().unwrap())).unwrap();
    let dir = tempfile::Builder::new().prefix("mu").tempdir().unwrap();
    let cli = Cli { config_dir: dir.path().join("config") };
    let data = dir.path().join("d").display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["dev", "--data-dir", &data, "--listen", &listen, "--workers", "2", "--spot", "--cpus", "2"];
    let env =
        [("MUSTER_NOTICE_SOURCES", "aws"), ("MUSTER_NOTICE_AWS_ENDPOINT", &clouds.endpoint("{worker}"))];
    let mut dev = cli.daemon_with(&args, &dir.path().join("dev.log"), &env);
    let epochs = format!("epochs={}", scaled(1_500, 10_000));
    let job = format!("{EXAMPLES}/digits/job.yaml");
    let submit = ["submit", &job, "--param", "seeds=[1]", "--param", "rates=[0.03]", "--param", &epochs];
    let submitted = || cli.run(&submit).stdout.trim().parse::<u64>();
    let finished = |job: u64| {
        until(&format!("the end of job {job}"), LONG, || {
            let doc = cli.json(&["show", &job.to_string()])?;
            let ended = ["succeeded", "failed", "cancelled", "held"].contains(&text(&doc["state"]));
            ended.then_some(doc.clone()).ok_or(doc["tasks"].to_string())
        })
    };

    // 1. It trains on one of them, and that one is to go.
    let moved = until("the first submission", SOON, submitted);
    let id = moved.to_string();
    let train = ["--task", "train", "--index", "0"];
    let first = [&[id.as_str()][..], &train, &["--attempt", "1"]].concat();
    until("some epochs", LONG, || log_line(&cli, &first, "epoch 50/"));
    let attempts = |doc: &Value| list(&doc["tasks"][1]["attempts"]).to_vec();
    let worker = text(&attempts(&cli.json(&["show", &id]).unwrap())[0]["worker"]).to_owned();
    clouds.put(&worker, "aws/instance-action", &json!({"action": "terminate", "in_ms": 120_000})).unwrap();
    let doc = finished(moved);

    // 2. The same without a notice.
    let still = submitted().unwrap();
    let undisturbed = finished(still);
    let weights =
        |job: u64| log_line(&cli, &[&[job.to_string().as_str()][..], &train].concat(), "final weights");
    let (with, without) = (weights(moved).unwrap(), weights(still).unwrap());
    let shown = cli.run(&["show", &id]).stdout;
    dev.kill().unwrap();
    dev.wait().unwrap();
    kill_all_under(dir.path());

    let log = std::fs::read_to_string(dir.path().join("dev.log")).unwrap();
    assert_eq!((&doc["state"], &undisturbed["state"]), (&"succeeded".into(), &"succeeded".into()), "{log}");
    assert_eq!(with, without);
    assert_eq!(attempts(&undisturbed).len(), 1);
    // 3. The story.
    let both = attempts(&doc);
    assert_eq!(both.len(), 2, "{both:#?}");
    assert_eq!((text(&both[0]["state"]), text(&both[0]["cause"])), ("evicted", "evicted(notice)"));
    let step = both[0]["checkpoint_step"].as_u64().unwrap();
    assert!(step >= 50, "{both:#?}");
    assert_eq!(both[1]["resumed_step"], step);
    assert_ne!(both[1]["worker"], both[0]["worker"]);
    let mut story = list(&doc["timeline"]).iter().map(|entry| (text(&entry["event"]), text(&entry["text"])));
    for (event, says) in [
        ("notice", "preemption notice"),
        ("checkpoint_committed", &format!("committed step {step}")),
        ("attempt_ended", "evicted(notice)"),
        ("attempt_resumed", &format!("resumed at step {step}")),
    ] {
        assert!(story.any(|(e, text)| e == event && text.contains(says)), "{event} in its place: {shown}");
    }
    assert!(shown.contains(&format!("resumed at step {step}")), "{shown}");
}

/// What one index wrote down.
#[derive(Debug, Default)]
struct Ledger {
    /// Attempt, the step that it began from, the last one that it did.
    attempts: Vec<(u64, u64, u64)>,
    /// The newest that it heard was committed before each of them began.
    known: Vec<u64>,
    done: Option<(u64, u64)>,
}

impl Ledger {
    fn read(text: &str) -> Self {
        let mut ledger = Self::default();
        let mut newest = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
            match words[0] {
                "start" => {
                    ledger.attempts.push((number(1), number(3), number(3)));
                    ledger.known.push(newest);
                }
                "step" => {
                    let last = ledger.attempts.last_mut().unwrap();
                    assert_eq!(
                        (last.0, last.2 + 1),
                        (number(1), number(2)),
                        "two at once, or a step left out"
                    );
                    last.2 = number(2);
                }
                "committed" => newest = newest.max(number(2)),
                "done" => ledger.done = Some((number(2), number(3))),
                _ => panic!("{line}\n{text}"),
            }
        }
        ledger
    }

    /// Steps that were done and had to be done again.
    fn lost(&self) -> u64 {
        self.attempts.windows(2).map(|pair| pair[0].2 - pair[1].1).sum()
    }
}

#[test]
fn evictions_at_random_moments_lose_no_step() {
    let goal = scaled(12, 100);
    let seed: u64 = rand::random();
    eprintln!("evictions: seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(1, 0, &[]);
    let path = |name: &str| cluster.dir.path().join(name);
    let (ledger, stop) = (path("ledger"), path("stop"));
    let notices = ["w1", "w2"].map(|name| (name, path(&format!("{name}.notice"))));
    for (name, file) in &notices {
        let file = file.display().to_string();
        cluster
            .add_worker(name, &["--cpus", "4", "--spot", "--notice-sources", "file", "--notice-file", &file]);
    }
    cluster.wait_workers(2);
    let script = cluster.file("counter.py", COUNTER);
    let job = format!(
        "name: counters\nenv: {{LEDGER: \"{}\", STOP: \"{}\"}}\ntasks:\n  t: {{array: 0-{}, run: [python3, \"{script}\"], checkpoint: {{signal: SIGUSR1, grace: 25s}}}}\n",
        ledger.display(),
        stop.display(),
        COUNTERS - 1
    );
    let id = cluster.submit(&cluster.file("counters.yaml", &job));
    let written =
        |index: u64| std::fs::read_to_string(format!("{}.{index}", ledger.display())).unwrap_or_default();
    let lines = || (0..COUNTERS).map(|index| written(index).lines().count()).sum::<usize>();
    let show = || cluster.cli.json(&["show", &id.to_string()]);

    // 1. Now this machine goes, now that one, after any number of steps; by its own source, or by a call.
    let mut evicted = 0;
    while evicted < goal {
        let (name, file) = &notices[rng.random_range(0..2)];
        let enough = lines() + rng.random_range(20..150);
        until("more steps", SOON, || if lines() >= enough { Ok(()) } else { Err(cluster.logs()) });
        let by_file = rng.random();
        if by_file {
            let part = file.with_extension("part");
            std::fs::write(&part, r#"{"in": "30s"}"#).unwrap();
            std::fs::rename(&part, file).unwrap();
        } else {
            let _ = cluster.cli.run(&["worker", "notice", name, "--in", "30s"]).ok();
        }
        let doc = until(&format!("all of them away from {name}"), SOON, || {
            let doc = show()?;
            let attempts = list(&doc["tasks"][0]["attempts"]);
            let there = attempts.iter().filter(|a| a["state"] == "running" && a["worker"] != *name).count();
            let noticed = cluster.cli.json(&["worker", "show", name])?["notice"].is_object();
            (noticed && there as u64 == COUNTERS)
                .then_some(doc.clone())
                .ok_or(doc["counts"].to_string() + &cluster.logs())
        });
        evicted =
            list(&doc["tasks"][0]["attempts"]).iter().filter(|a| a["cause"] == "evicted(notice)").count()
                as u64;
        if by_file {
            std::fs::remove_file(file).unwrap();
        } else {
            let _ = cluster.cli.run(&["worker", "notice", name, "--withdraw"]).ok();
        }
        cluster.wait_workers(2);
    }
    std::fs::write(&stop, "").unwrap();
    let doc = cluster.finished(id, SOON);
    assert_eq!(doc["state"], "succeeded", "{doc:#}{}", cluster.logs());

    // 2. None went back, none was torn, none forgot what it had been told was committed, and nothing was done twice.
    let mut lost = 0;
    for index in 0..COUNTERS {
        let ledger = Ledger::read(&written(index));
        lost += ledger.lost();
        for ((attempt, from, _), known) in ledger.attempts.iter().zip(&ledger.known) {
            assert!(
                from >= known,
                "attempt {attempt} of index {index} began from {from}, {known} was committed"
            );
        }
        let (steps, total) = ledger.done.unwrap();
        let expected = (1..=steps)
            .fold(0_u64, |total, step| total.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        assert_eq!(total, expected, "index {index}");
    }
    assert_eq!(lost, 0, "steps were lost over {evicted} evictions, seed {seed}");
    assert!(
        list(&doc["tasks"][0]["attempts"])
            .iter()
            .all(|a| a["state"] == "evicted" || a["state"] == "succeeded")
    );
}

#[test]
fn a_drain_with_a_deadline_tells_it_then_asks_then_kills() {
    let cluster = Cluster::start(1, 2, &["--cpus", "2"]);
    let puppet = Puppet::submit(&cluster, "drained", "checkpoint: {signal: SIGUSR1, grace: 1s}");
    let env = puppet.started(1, 0);
    assert_eq!(puppet.ask(1, "DEADLINE.exists()"), "False");
    assert_eq!(puppet.ask(1, "trap()"), "trapped");
    puppet.commits(1, 7);
    let child = puppet.ask(1, "subprocess.Popen(['setsid', 'sleep', '600']).pid");
    let _ = cluster.cli.run(&["worker", "drain", &env["MUSTER_WORKER"], "--deadline", "6s"]).ok();

    // It begins in time for all of it to be over at the deadline, which it can read before the first signal.
    let next = puppet.started(2, 0);
    let signals = puppet.signals(1);
    let names: Vec<&str> = signals.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["SIGUSR1", "SIGTERM"], "{signals:?}");
    let deadline = signals[0].split(' ').nth(1).unwrap();
    assert!(deadline.ends_with('Z'), "{signals:?}");
    let left: f64 = puppet.ask(2, &format!("seconds_until('{deadline}')")).parse().unwrap();
    assert!(left < 6.0, "{deadline} is {left} s away after a drain within 6 s");
    assert!(!Path::new(&format!("/proc/{child}")).exists(), "its child outlived it");
    assert_ne!(next["MUSTER_WORKER"], env["MUSTER_WORKER"]);
    assert_eq!((next["MUSTER_RESUME_STEP"].as_str(), puppet.ask(2, "resumed()").as_str()), ("7", "7"));
    puppet.exit(2, 0);
    let (doc, ends) = puppet.ends();
    assert_eq!(doc["state"], "succeeded", "{doc:#}");
    assert_eq!(ends[0], ("evicted".to_owned(), "evicted(drain)".to_owned()));
}

/// A Python with torch and transformers, where somebody has installed them: 3 GB are too much for every run.
fn torch() -> Option<String> {
    let bin = std::env::var("MUSTER_TORCH").unwrap_or_default();
    let hint = "`scripts/python-env.sh torch` installs them (3 GB), and `make test` finds them then";
    if bin.is_empty() {
        eprintln!("skipped: no torch: {hint}");
        return None;
    }
    let python = Path::new(&bin).join("python3");
    has(&python, "torch, transformers, accelerate", hint)
        .then(|| format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
}

/// The worker of rank 0 of a job's newest attempt, once it runs.
fn running(cluster: &Cluster, job: u64) -> String {
    until("a running attempt", LONG, || {
        let doc = cluster.cli.json(&["show", &job.to_string()])?;
        let attempts = list(&doc["tasks"][0]["attempts"]);
        let newest = attempts.iter().find(|attempt| attempt["state"] == "running");
        newest.map(|attempt| text(&attempt["worker"]).to_owned()).ok_or(format!("{doc}{}", cluster.logs()))
    })
}

#[test]
fn two_torch_ranks_are_evicted_and_resumed_as_one() {
    let Some(path) = torch() else { return };
    let cluster = Cluster::start_in(1, 3, &["--cpus", "1", "--spot"], &[("PATH", &path)]);
    let file = format!("{EXAMPLES}/torch-ddp/job.yaml");
    let submit = || -> u64 {
        let out = cluster.cli.run(&["submit", &file, "--param", "steps=6000"]).ok();
        out.trim().parse().unwrap()
    };
    let moved = submit();
    let id = moved.to_string();
    until("some steps", LONG, || {
        log_line(&cluster.cli, &[&id, "--attempt", "1", "--rank", "0"], "step 200/")
    });
    let _ = cluster.cli.run(&["worker", "notice", &running(&cluster, moved), "--in", "30s"]).ok();
    let doc = cluster.finished(moved, LONG);
    let still = submit();
    let undisturbed = cluster.finished(still, LONG);

    assert_eq!(
        (&doc["state"], &undisturbed["state"]),
        (&"succeeded".into(), &"succeeded".into()),
        "{doc:#}{}",
        cluster.logs()
    );
    let attempts = list(&doc["tasks"][0]["attempts"]);
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    assert_eq!(attempts[0]["cause"], "evicted(notice)");
    let step = attempts[0]["checkpoint_step"].as_u64().unwrap();
    assert!(step >= 200 && attempts[1]["resumed_step"] == step, "{attempts:#?}");
    for rank in ["0", "1"] {
        let said = |job: u64| {
            log_line(&cluster.cli, &[&job.to_string(), "--rank", rank], &format!("rank {rank}: accuracy"))
        };
        assert_eq!(said(moved).unwrap(), said(still).unwrap());
        let resumed = log_line(&cluster.cli, &[&id, "--rank", rank], &format!("rank {rank}: resumed"));
        assert_eq!(resumed.unwrap(), format!("rank {rank}: resumed after step {step}"));
    }
}

#[test]
fn a_trainer_that_knows_nothing_of_it_goes_on_from_its_own_checkpoint() {
    let Some(path) = torch() else { return };
    let cluster = Cluster::start_in(1, 2, &["--cpus", "1", "--spot"], &[("PATH", &path)]);
    let file = format!("{EXAMPLES}/hf-trainer/job.yaml");
    let out = cluster.cli.run(&["submit", &file, "--param", "steps=3000"]).ok();
    let job: u64 = out.trim().parse().unwrap();
    until("a checkpoint", LONG, || {
        let doc = cluster.cli.json(&["checkpoint", "list", &job.to_string()])?;
        (!list(&doc["checkpoints"]).is_empty()).then_some(()).ok_or(format!("{doc}{}", cluster.logs()))
    });
    let _ = cluster.cli.run(&["worker", "notice", &running(&cluster, job), "--in", "30s"]).ok();
    let doc = cluster.finished(job, LONG);
    assert_eq!(doc["state"], "succeeded", "{doc:#}{}", cluster.logs());
    let attempts = list(&doc["tasks"][0]["attempts"]);
    assert_eq!((attempts.len(), text(&attempts[0]["cause"])), (2, "evicted(notice)"), "{attempts:#?}");
    let step = attempts[1]["resumed_step"].as_u64().unwrap();
    assert!(step > 0 && step.is_multiple_of(100), "{attempts:#?}");
    let last = log_line(&cluster.cli, &[&job.to_string()], "trained to step").unwrap();
    assert_eq!(last, "trained to step 3000");
}
