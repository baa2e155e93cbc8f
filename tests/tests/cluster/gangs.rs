//! Tasks of several workers, and parts of a device: real processes that meet.

use muster_tests::Cluster;
use std::collections::BTreeMap;

/// Rank 0 listens where the gang meets, rank 1 calls it; each says whom it met.
const MEET: &str = r#"
import os, socket, sys, time
rank, place = int(os.environ["RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    server = socket.create_server(place)
    peer, _ = server.accept()
else:
    while True:
        try:
            peer = socket.create_connection(place)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
peer.sendall(str(rank).encode())
print(f"rank {rank} met {peer.recv(1).decode()}")
with open(os.environ["LEDGER"] + f".{rank}", "w") as ledger:
    ledger.writelines(f"{name}={value}\n" for name, value in os.environ.items())
    ledger.write("HOSTS=" + open(os.environ["MUSTER_HOSTFILE"]).read().replace("\n", ";") + "\n")
"#;

fn environment(path: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

#[test]
fn two_ranks_know_each_other_and_meet() {
    let cluster = Cluster::start(1, 2, &["--cpus", "4", "--gpus", "2xH100-80GB"]);
    let ledger = cluster.dir.path().join("ledger").display().to_string();
    let script = cluster.file("meet.py", MEET);
    let job = cluster.file(
        "gang.yaml",
        &format!(
            "name: gang\nenv: {{LEDGER: \"{ledger}\"}}\ntasks:\n  meet: {{workers: 2, run: \"python3 {script}\", resources: {{gpus: 1}}}}\n"
        ),
    );
    let ran = cluster.cli.run(&["submit", &job, "--wait"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stderr, cluster.logs());

    let ranks = [0, 1].map(|rank| environment(&format!("{ledger}.{rank}")));
    for (rank, env) in ranks.iter().enumerate() {
        let number = rank.to_string();
        for (name, value) in [
            ("RANK", number.as_str()),
            ("NODE_RANK", &number),
            ("MUSTER_RANK", &number),
            ("LOCAL_RANK", "0"),
            ("WORLD_SIZE", "2"),
            ("MUSTER_RANKS", "2"),
            ("NPROC_PER_NODE", "1"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MUSTER_GPU_COUNT", "1"),
            ("HOSTS", "127.0.0.1 slots=1;127.0.0.1 slots=1;"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name} of rank {rank}");
        }
        let port: u16 = env["MASTER_PORT"].parse().unwrap();
        assert!((20_000..30_000).contains(&port), "{port}");
    }
    for name in ["MUSTER_WORKER", "CUDA_VISIBLE_DEVICES"] {
        assert_ne!(ranks[0][name], ranks[1][name], "{name}");
    }
    for name in ["MASTER_PORT", "MUSTER_FENCING_TOKEN"] {
        assert_eq!(ranks[0][name], ranks[1][name], "{name}");
    }
    let doc = cluster.cli.json(&["show", "1"]).unwrap();
    let attempt = &doc["tasks"][0]["attempts"][0];
    let workers: Vec<&str> =
        attempt["ranks"].as_array().unwrap().iter().map(|r| r["worker"].as_str().unwrap()).collect();
    assert_eq!(workers, [ranks[0]["MUSTER_WORKER"].as_str(), ranks[1]["MUSTER_WORKER"].as_str()]);
    assert_eq!(attempt["devices"].as_array().map(Vec::len), Some(2));
    assert_eq!(cluster.cli.run(&["logs", "1", "--rank", "1"]).ok(), "rank 1 met 0\n");
    assert_eq!(cluster.cli.run(&["logs", "1", "--rank", "0"]).ok(), "rank 0 met 1\n");
}

#[test]
fn a_rank_that_fails_stops_the_others_and_gives_the_code() {
    let cluster = Cluster::start(1, 2, &["--cpus", "4"]);
    let pid = cluster.dir.path().join("pid").display().to_string();
    // Rank 0 would go on for ten minutes, and does not mind SIGTERM.
    let script = format!(
        "if [ $MUSTER_RANK = 0 ]; then trap '' TERM; echo $$ > {pid}; exec sleep 600; fi; until [ -s {pid} ]; do sleep 0.05; done; exit 7"
    );
    let ran = cluster.cli.run(&["run", "--workers", "2", "--", "/bin/sh", "-c", &script]);
    assert_eq!(ran.code, Some(7), "{}{}", ran.stderr, cluster.logs());
    let rank0 = std::fs::read_to_string(&pid).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", rank0.trim())).exists(), "rank 0 outlived its gang");
    let doc = cluster.cli.json(&["show", "1"]).unwrap();
    let attempts = doc["tasks"][0]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), attempts[0]["cause"].as_str()), (1, Some("exit(7)")));
}

#[test]
fn a_gang_waits_for_its_last_worker_and_two_halves_share_a_gpu() {
    let mut cluster = Cluster::start(1, 1, &["--cpus", "4", "--gpus", "1xH100-80GB"]);
    let dir = cluster.dir.path().display().to_string();
    let gang = cluster
        .cli
        .run(&["submit", &cluster.file("g.yaml", "name: g\ntasks: {t: {workers: 2, run: 'true'}}\n")]);
    assert_eq!(gang.ok(), "1\n");
    // Each half ends when it has seen the other: they run at once, on one device.
    let halves = format!(
        "name: halves\ntasks:\n  half:\n    array: 0-1\n    resources: {{gpus: {{fraction: 0.5}}}}\n    run: |\n      echo $CUDA_VISIBLE_DEVICES > {dir}/half$MUSTER_INDEX\n      until [ -s {dir}/half0 ] && [ -s {dir}/half1 ]; do sleep 0.05; done\n"
    );
    let ran = cluster.cli.run(&["submit", &cluster.file("h.yaml", &halves), "--wait"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stderr, cluster.logs());
    let seen = [0, 1].map(|n| std::fs::read_to_string(format!("{dir}/half{n}")).unwrap());
    assert!(seen[0] == seen[1] && seen[0].starts_with("GPU-"), "{seen:?}");
    assert_eq!(cluster.cli.json(&["show", "1"]).unwrap()["state"], "pending");
    cluster.add_worker("w2", &["--cpus", "4"]);
    let ran = cluster.cli.run(&["wait", "1"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stderr, cluster.logs());
}
