//! A backup under load, the ways in which a file can be wrong, and a new cluster from it.

use muster_tests::{Cli, Cluster, free_port, job_ids, until};
use serde_json::Value;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(120);

/// A daemon of the second cluster; it ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every way to spoil a file that is looked for, and what is said of it.
fn spoiled(whole: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let mut newer = whole.to_vec();
    newer[17] = 9;
    let mut longer = whole.to_vec();
    longer.push(0);
    vec![
        ("empty", Vec::new(), "not a backup"),
        ("foreign", b"-----BEGIN CERTIFICATE-----\nMIIB\n".to_vec(), "not a backup"),
        ("newer", newer, "format 9"),
        ("head", flipped(60), "checksum"),
        ("middle", flipped(whole.len() / 2), "checksum"),
        ("last", flipped(whole.len() - 1), "checksum"),
        ("half", whole[..whole.len() / 2].to_vec(), "the rest is missing"),
        ("short", whole[..whole.len() - 1].to_vec(), "the rest is missing"),
        ("longer", longer, "goes on after its end"),
    ]
}

#[test]
fn a_backup_taken_under_load_becomes_a_cluster_that_goes_on() {
    let mut old = Cluster::start(3, 1, &["--cpus", "16"]);
    let (go, tokens) = (old.dir.path().join("go"), old.dir.path().join("tokens"));
    // One task runs through the backup and beyond.
    let text = format!(
        "name: long\ntasks: {{t: {{run: 'echo $MUSTER_ATTEMPT $MUSTER_FENCING_TOKEN >> {}; while ! test -e {}; do sleep 0.05; done'}}}}\n",
        tokens.display(),
        go.display()
    );
    let long = old.submit(&old.file("long.yaml", &text));
    let granted = || -> Vec<(u64, u64)> {
        let text = std::fs::read_to_string(&tokens).unwrap_or_default();
        let number = |word: &str| word.parse::<u64>().ok();
        text.lines()
            .filter_map(|l| l.split_once(' '))
            .filter_map(|(a, t)| Some((number(a)?, number(t)?)))
            .collect()
    };
    until("its first attempt", WITHIN, || (granted().len() == 1).then_some(()).ok_or_else(|| old.logs()));
    let submissions = old.submissions(2);
    submissions.wait_more(10);
    let before = submissions.acknowledged();

    // 1. The backup, while submissions go on.
    let file = old.dir.path().join("b.backup");
    let path = file.display().to_string();
    let made = old.cli.json(&["cluster", "backup", &path]).unwrap();
    let status = old.status().unwrap();
    assert_eq!(made["cluster_id"], status["cluster_id"]);
    assert!(
        made["last_applied"].as_u64().unwrap() > 0 && made["checksum"].as_str().unwrap().len() == 64,
        "{made}"
    );
    assert!(!old.dir.path().join("b.backup.partial").exists());
    let again = old.cli.run(&["cluster", "backup", &path]);
    assert!(again.code == Some(1) && again.stderr.contains("exists"), "{}", again.stderr);
    let after = submissions.end();
    assert!(after.len() > before.len());

    // 2. It is whole, and nothing else is taken for whole.
    let verified = old.cli.json(&["cluster", "restore", &path, "--verify-only"]).unwrap();
    assert_eq!(verified["checksum"], made["checksum"]);
    let cli = Cli { config_dir: old.dir.path().join("config2") };
    let data = old.dir.path().join("n1");
    let data_dir = data.display().to_string();
    let address = format!("127.0.0.1:{}", free_port());
    let whole = std::fs::read(&file).unwrap();
    for (name, bytes, said) in spoiled(&whole) {
        let bad = old.dir.path().join(format!("{name}.backup"));
        std::fs::write(&bad, bytes).unwrap();
        let bad = bad.display().to_string();
        for args in [&["--verify-only"][..], &["--data-dir", &data_dir, "--listen", &address][..]] {
            let ran = cli.run(&[&["cluster", "restore", &bad], args].concat());
            assert_eq!(ran.code, Some(1), "{name}: {}", ran.stderr);
            let speaks = ran.stderr.contains(said) && ran.stderr.contains("hint:");
            assert!(speaks, "{name}: {said:?} is not in {}", ran.stderr);
            assert!(!data.exists() && nothing_begun(old.dir.path()), "{name}: something was written");
        }
    }

    // 3. The old cluster is gone; the new one has all that was acknowledged before the backup began.
    for at in 0..3 {
        old.kill_member(at);
    }
    let restore = ["cluster", "restore", &path, "--data-dir", &data_dir, "--listen", &address];
    let made = cli.json(&restore).unwrap();
    assert_ne!(made["cluster_id"], status["cluster_id"]);
    let second = cli.run(&restore);
    assert!(second.code == Some(1) && second.stderr.contains("not empty"), "{}", second.stderr);
    let log = old.dir.path().join("n1.log");
    let _member = Daemon(cli.daemon(&["coordinator", "--data-dir", &data_dir, "--listen", &address], &log));
    until("the jobs of the backup", WITHIN, || {
        let ids = job_ids(&cli)?;
        let missing: Vec<&u64> = before.iter().filter(|id| !ids.contains(id)).collect();
        let all = missing.is_empty() && ids.contains(&long);
        all.then_some(()).ok_or_else(|| format!("{missing:?} of {ids:?}"))
    });

    // 4. A worker of the new cluster runs what the old one was running, under a token that fences the old one's.
    old.kill_agent("w1");
    let worker_dir = old.dir.path().join("nw").display().to_string();
    let token = data.join("join-token").display().to_string();
    let join = ["worker", "--data-dir", &worker_dir, "--name", "nw", "--cpus", "16", "--join", &address];
    let args = [&join[..], &["--join-token-file", &token]].concat();
    let _worker = Daemon(cli.daemon(&args, &old.dir.path().join("nw.log")));
    until("the second attempt", WITHIN, || (granted().len() == 2).then_some(()).ok_or_else(granted));
    let [first, second] = granted()[..] else { panic!("{:?}", granted()) };
    assert_eq!((first.0, second.0), (1, 2));
    assert!(second.1 > first.1 + (1 << 32), "{second:?} after {first:?}");
    std::fs::write(&go, "").unwrap();
    let ended: Value = until("the end of the long task", WITHIN, || {
        let doc = cli.json(&["show", &long.to_string()])?;
        (doc["state"] == "succeeded").then_some(doc.clone()).ok_or(doc)
    });
    assert_eq!(ended["tasks"][0]["attempts"][0]["state"], "lost");

    // 5. It grows as any cluster does; ids of members count on.
    let address2 = format!("127.0.0.1:{}", free_port());
    let data2 = old.dir.path().join("n2").display().to_string();
    let args = ["coordinator", "--data-dir", &data2, "--listen", &address2, "--join", &address];
    let _second = Daemon(cli.daemon(&args, &old.dir.path().join("n2.log")));
    until("two members", WITHIN, || {
        let status = cli.json(&["cluster", "status"])?;
        let members = status["members"].as_array().ok_or("no members")?;
        let ids: Vec<u64> = members.iter().filter_map(|member| member["id"].as_u64()).collect();
        let vote = members.iter().all(|m| m["role"] == "leader" || m["role"] == "follower");
        (ids == [1, 4] && vote).then_some(()).ok_or_else(|| status.to_string())
    });
    muster_tests::cluster::kill_all_under(old.dir.path());
}

fn nothing_begun(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().flatten().all(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        !name.ends_with(".restoring") && !name.ends_with(".verifying")
    })
}
