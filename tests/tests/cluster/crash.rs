//! Members, agents and shims die at every named step of persistence, under a job, and go on (fault matrix, row 3). The steps of the log and
//! of snapshots are in `coordinator/src/raft/tests/crash.rs`.

use crate::scaled;
use muster_failpoint::{ONCE, Place, Point, VARIABLE};
use muster_tests::{Cluster, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// What arms `point`, once.
fn armed(point: Point) -> String {
    match point {
        Point::JournalAppend => format!("{}=torn(9)", point.name()),
        Point::ShimExitWrite => format!("{}=torn(5)", point.name()),
        _ => format!("{}=abort", point.name()),
    }
}

/// A job whose task fails if another attempt of it lives, and says in `ledger` that it ran.
fn job(cluster: &Cluster, name: &str, constraint: &str) -> String {
    let dir = cluster.dir.path().display();
    let work = cluster.dir.path().join(format!("wd-{name}"));
    std::fs::create_dir_all(&work).expect("make a workdir");
    // Its own content, so that its blobs are not in the store yet.
    std::fs::write(work.join("own.txt"), name).expect("write");
    let text = format!(
        "name: {name}\nworkdir: .\ntasks:\n  t:\n    run: 'exec flock -n -E 99 {dir}/lock-{name} sh -c \"echo {name} $MUSTER_ATTEMPT >> {dir}/ledger; echo out; cat own.txt > $MUSTER_OUTPUT_DIR/x; sleep 0.2\"'\n    outputs: {{x: {{path: x}}}}\n{constraint}"
    );
    cluster.file(&format!("wd-{name}/job.yaml"), &text)
}

/// Each attempt wrote one line at most, and each name at least one.
fn check_ledger(dir: &Path, names: &[String]) {
    let text = std::fs::read_to_string(dir.join("ledger")).expect("the ledger");
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (name, attempt) = line.split_once(' ').expect("name and attempt");
        seen.entry(name).or_default().push(attempt);
    }
    for name in names {
        let attempts = seen.get(name.as_str()).unwrap_or_else(|| panic!("{name} never ran"));
        let mut once = attempts.clone();
        once.dedup();
        assert_eq!(&once, attempts, "an attempt of {name} ran twice");
    }
}

#[test]
fn a_first_start_of_a_member_that_dies_anywhere_is_begun_again() {
    for point in Point::of(Place::Setup) {
        for skip in 0..3 {
            let dir = tempfile::Builder::new().prefix("mu").tempdir().expect("dir");
            let cli = muster_tests::Cli { config_dir: dir.path().join("config") };
            let listen = format!("127.0.0.1:{}", muster_tests::cluster::free_port());
            let (data, log) = (dir.path().join("c").display().to_string(), dir.path().join("log"));
            let args = ["coordinator", "--data-dir", &data, "--listen", &listen, "--bootstrap"];
            let failpoint = format!("{}@{skip}", armed(point));
            let mut first = cli.daemon_with(&args, &log, &[(VARIABLE, &failpoint)]);
            let status = first.wait().expect("reap");
            let text = std::fs::read_to_string(&log).expect("log");
            assert_eq!(status.code(), None, "{failpoint} was not passed: {text}");
            let mut second = cli.daemon(&args, &log);
            until(&failpoint, SOON, || cli.json(&["cluster", "status"]).map(|_| ()));
            second.kill().expect("kill");
            second.wait().expect("reap");
        }
    }
}

#[test]
fn a_member_that_dies_at_any_step_of_a_job_loses_no_submission() {
    let points: Vec<Point> = Point::of(Place::Member).collect();
    // Three clusters side by side: most of the time is waiting for elections.
    std::thread::scope(|scope| {
        for share in points.chunks(points.len().div_ceil(3)) {
            scope.spawn(move || members_die(share));
        }
    });
}

fn members_die(points: &[Point]) {
    let mut cluster = Cluster::start(1, 1, &["--cpus", "4"]);
    let (mut ids, mut names) = (Vec::new(), Vec::new());
    for (number, point) in points.iter().enumerate() {
        for round in 0..scaled(1, 25) {
            let (name, request) = (format!("j{number}-{round}"), format!("r{number}-{round}"));
            let file = job(&cluster, &name, "");
            cluster.kill_member(0);
            cluster.restart_member_with(0, &[(VARIABLE, &armed(*point))]);
            // A worker that comes back is known; a new one is written down.
            if *point == Point::SessionRegister {
                cluster.add_worker(&format!("new{round}"), &[]);
            }
            // The call may die with the member, or be acknowledged before: both are fine, and the same id asks again.
            let args = ["submit", &file, "--request-id", &request];
            let mut call = cluster.cli.daemon(&args, &cluster.dir.path().join("submit.log"));
            let status = until(&format!("{} to be passed", point.name()), SOON, || {
                // It may have called before the member listened.
                if call.try_wait().is_ok_and(|ended| ended.is_some()) {
                    call = cluster.cli.daemon(&args, &cluster.dir.path().join("submit.log"));
                }
                cluster.member_ended(0).ok_or_else(|| cluster.logs())
            });
            assert_eq!(status.code(), None, "{}: {}", point.name(), cluster.logs());
            cluster.restart_member(0);
            call.wait().expect("reap");
            let id = until("the submission", SOON, || {
                let ran = cluster.cli.run(&args);
                ran.stdout.trim().parse::<u64>().map_err(|_| ran.stderr)
            });
            ids.push(id);
            names.push(name);
            let doc = cluster.finished(id, SOON);
            assert_eq!(doc["state"], "succeeded", "{}: {doc:#}{}", point.name(), cluster.logs());
        }
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let jobs = cluster.cli.json(&["ps"]).expect("jobs");
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(ids.len()), "no job twice: {jobs}");
    check_ledger(cluster.dir.path(), &names);
}

#[test]
fn an_agent_or_a_shim_that_dies_at_any_step_of_a_task_brings_it_to_its_end() {
    for _ in 0..scaled(1, 25) {
        let mut cluster = Cluster::start(1, 0, &[]);
        let once = cluster.dir.path().join("once");
        std::fs::create_dir(&once).expect("make");
        let places = [Place::Join, Place::Worker, Place::Shim];
        let points: Vec<Point> = places.into_iter().flat_map(Point::of).collect();
        let name = |point: &Point| point.name().replace('.', "-");
        // One worker a point, all at the same time.
        for point in &points {
            let env = [(VARIABLE, armed(*point)), (ONCE, once.display().to_string())];
            let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
            cluster.add_worker_with(&name(point), &["--cpus", "1"], &env);
        }
        let ids: Vec<u64> = points
            .iter()
            .map(|point| {
                let name = name(point);
                let constraint = format!("    constraints: [\"worker.name == '{name}'\"]\n");
                let file = job(&cluster, &name, &constraint);
                until("the submission", SOON, || {
                    let ran = cluster.cli.run(&["submit", &file, "--request-id", &name]);
                    ran.stdout.trim().parse().map_err(|_| ran.stderr)
                })
            })
            .collect();
        // Whoever died starts again.
        until("a death at every point", SOON, || {
            for point in &points {
                cluster.revive_worker(&name(point));
            }
            let missing: Vec<_> =
                points.iter().filter(|p| !once.join(p.name()).exists()).map(|p| p.name()).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("not passed: {missing:?}")) }
        });
        for (point, id) in points.iter().zip(ids) {
            let doc = until(&format!("the end of {}", point.name()), SOON, || {
                cluster.revive_worker(&name(point));
                let doc = cluster.cli.json(&["show", &id.to_string()])?;
                let over =
                    ["succeeded", "failed", "cancelled"].contains(&doc["state"].as_str().unwrap_or_default());
                over.then_some(doc.clone()).ok_or(doc.to_string())
            });
            assert_eq!(doc["state"], "succeeded", "{}: {doc:#}{}", point.name(), cluster.logs());
        }
        check_ledger(cluster.dir.path(), &points.iter().map(name).collect::<Vec<_>>());
    }
}

#[test]
fn an_agent_that_dies_at_any_step_of_a_commit_brings_it_to_its_end() {
    for _ in 0..scaled(1, 25) {
        let mut cluster = Cluster::start(1, 0, &[]);
        let once = cluster.dir.path().join("once");
        std::fs::create_dir(&once).expect("make");
        let points: Vec<Point> = Point::of(Place::Checkpoint).collect();
        let name = |point: &Point| point.name().replace('.', "-");
        for point in &points {
            let env = [(VARIABLE, armed(*point)), (ONCE, once.display().to_string())];
            let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
            cluster.add_worker_with(&name(point), &["--cpus", "1"], &env);
        }
        let ids: Vec<u64> = points
            .iter()
            .map(|point| {
                let name = name(point);
                let text = format!(
                    "name: {name}\ntasks:\n  t:\n    constraints: [\"worker.name == '{name}'\"]\n    run: |\n      set -e\n      cd $MUSTER_CHECKPOINT_DIR\n      for step in 1 2; do mkdir $step; echo $step > $step/x; muster checkpoint commit $step --step $step; done\n"
                );
                cluster.submit(&cluster.file(&format!("{name}.yaml"), &text))
            })
            .collect();
        for (point, id) in points.iter().zip(ids) {
            let doc = until(&format!("the end of {}", point.name()), SOON, || {
                points.iter().for_each(|point| cluster.revive_worker(&name(point)));
                let doc = cluster.cli.json(&["show", &id.to_string()])?;
                let over = ["succeeded", "failed"].contains(&doc["state"].as_str().unwrap_or_default());
                over.then_some(doc.clone()).ok_or(doc.to_string())
            });
            assert_eq!(doc["state"], "succeeded", "{}: {doc:#}{}", point.name(), cluster.logs());
            let attempts = doc["tasks"][0]["attempts"].as_array().map(Vec::len);
            assert_eq!(attempts, Some(1), "{}: {doc:#}", point.name());
            assert!(once.join(point.name()).exists(), "{} was not passed", point.name());
            let found = cluster.cli.json(&["checkpoint", "list", &id.to_string()]).expect("checkpoints");
            let steps: Vec<_> =
                found["checkpoints"].as_array().expect("a list").iter().map(|c| c["step"].as_u64()).collect();
            assert_eq!(steps, [Some(1), Some(2)], "{}: {found:#}", point.name());
        }
    }
}

#[test]
fn an_unknown_failpoint_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let cli = muster_tests::Cli { config_dir: dir.path().to_owned() };
    let output = cli.command(&["ps"]).env(VARIABLE, "no.such.point=abort").output().expect("run");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no.such.point"));
}
