//! The README's first commands.

use muster_tests::Cluster;

#[test]
fn run_streams_and_returns_the_tasks_code() {
    let cluster = Cluster::start(1, 1, &[]);
    let ran = cluster.cli.run(&["run", "--", "sh", "-c", "echo hi; echo oops >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "hi\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("oops"), "{}", ran.stderr);

    let killed = cluster.cli.run(&["run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, Some(137), "{}", killed.stderr);

    let jobs = cluster.cli.json(&["ps"]).unwrap();
    let jobs = jobs["jobs"].as_array().unwrap();
    assert_eq!(jobs.iter().map(|j| j["id"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1]);
    for key in ["id", "name", "state", "queue", "tasks"] {
        assert!(jobs[0].get(key).is_some(), "{key} in {}", jobs[0]);
    }
    assert_eq!((&jobs[0]["state"], &jobs[0]["tasks"]["failed"]), (&"failed".into(), &1.into()));
}

#[test]
fn a_task_sees_the_documented_environment_and_nothing_else() {
    let cluster = Cluster::start(1, 1, &["--gpus", "2xH100-80GB"]);
    let env = cluster.cli.run(&["run", "--gpus", "1", "--env", "MINE=1", "--", "env"]).ok();
    let get = |name: &str| env.lines().find_map(|l| l.strip_prefix(&format!("{name}="))).map(str::to_owned);
    for (name, value) in [
        ("MUSTER_JOB_ID", "1"),
        ("MUSTER_ATTEMPT", "1"),
        ("MUSTER_QUEUE", "default"),
        ("MUSTER_WORKER", "w1"),
        ("MINE", "1"),
    ] {
        assert_eq!(get(name).as_deref(), Some(value), "{name}\n{env}");
    }
    assert_eq!(get("MUSTER_GPU_COUNT").as_deref(), Some("1"));
    assert_eq!(get("CUDA_VISIBLE_DEVICES"), get("MUSTER_GPU_UUIDS"));
    let known = [
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "TZ",
        "MINE",
        "PWD",
        "SHLVL",
        "_",
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
    ];
    let leaks: Vec<&str> = env
        .lines()
        .filter_map(|l| l.split_once('='))
        .map(|(name, _)| name)
        .filter(|n| !known.contains(n) && !n.starts_with("MUSTER_") && !n.starts_with("CUDA_DEVICE_ORDER"))
        .collect();
    assert_eq!(leaks, Vec::<&str>::new());
}

#[test]
fn without_a_token_nothing_answers() {
    let cluster = Cluster::start(1, 0, &[]);
    let status = cluster.status().unwrap();
    let address = status["members"][0]["address"].as_str().unwrap().to_owned();
    let empty = muster_tests::Cli { config_dir: cluster.dir.path().join("other") };
    let ran = empty.run(&["ps", "--address", &address]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("error:") && ran.stderr.contains("hint:"), "{}", ran.stderr);
}
