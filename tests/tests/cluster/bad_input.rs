//! Bad input: an error that names the thing and the next step, the right exit code, and nothing half-done.

use muster_tests::Cluster;

#[test]
fn every_bad_input_is_named_and_leaves_nothing() {
    let cluster = Cluster::start(1, 1, &["--cpus", "2", "--gpus", "2xH100-80GB"]);
    let file = |name: &str, text: &str| cluster.file(name, text);
    let dir = cluster.dir.path().join("folder.yaml");
    std::fs::create_dir(&dir).unwrap();
    let not_text = cluster.dir.path().join("bin.yaml");
    std::fs::write(&not_text, [0xff, 0xfe, 0x00]).unwrap();
    let cases: Vec<(String, &[&str])> = vec![
        (
            file("cycle.yaml", "name: c\ntasks:\n  a: {needs: [b], run: x}\n  b: {needs: [a], run: x}\n"),
            &["a → b → a"],
        ),
        (file("key.yaml", "name: c\ntaks: {}\n"), &["taks", "tasks"]),
        (
            file("need.yaml", "name: c\ntasks: {train: {run: x}, b: {needs: [trian], run: x}}\n"),
            &["trian", "train"],
        ),
        (file("gpus.yaml", "name: c\ntasks: {a: {run: x, resources: {gpus: 16}}}\n"), &["16", "2"]),
        (file("template.yaml", "name: c\ntasks: {a: {run: 'echo {{ params.nope }}'}}\n"), &["nope"]),
        (file("when.yaml", "name: c\ntasks: {a: {run: x, when: 'tasks.('}}\n"), &["when"]),
        (file("workdir.yaml", "name: c\nworkdir: ./nowhere\ntasks: {a: {run: x}}\n"), &["nowhere"]),
        (file("size.yaml", "name: c\ntasks: {a: {run: x, resources: {memory: 4GiBs}}}\n"), &["4GiBs"]),
        (file("many.yaml", "name: c\ntasks: {a: {run: x, array: '0-1000000'}}\n"), &["1000001", "1000000"]),
        (dir.display().to_string(), &["folder.yaml", "director"]),
        (not_text.display().to_string(), &["bin.yaml", "UTF-8"]),
        (cluster.dir.path().join("absent.yaml").display().to_string(), &["absent.yaml"]),
    ];
    for (path, words) in cases {
        let ran = cluster.cli.run(&["submit", &path]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{path}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error:"), "{path}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{path}: {word:?} is not in {}", ran.stderr);
        }
    }
    assert_eq!(cluster.cli.json(&["ps"]).unwrap()["jobs"], serde_json::json!([]));

    let missing = cluster.cli.run(&["run", "--", "no-such-program"]);
    assert_eq!(missing.code, Some(125), "{}", missing.stderr);
    let doc = cluster.cli.json(&["show", "1"]).unwrap();
    assert!(doc["tasks"][0]["attempts"][0]["cause"].as_str().unwrap().contains("no-such-program"), "{doc:#}");
}

#[test]
fn an_address_with_nothing_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let cli = muster_tests::Cli { config_dir: dir.path().to_owned() };
    let ran = cli.run(&["ps", "--address", "127.0.0.1:1"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("127.0.0.1:1") && ran.stderr.contains("hint:"), "{}", ran.stderr);
    let run = cli.run(&["run", "--address", "127.0.0.1:1", "--", "true"]);
    assert_eq!(run.code, Some(125), "{}", run.stderr);
}

#[test]
fn clear_text_beyond_loopback_and_a_foreign_data_dir_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cli = muster_tests::Cli { config_dir: dir.path().to_owned() };
    let data = dir.path().join("c").display().to_string();
    let store = format!("file://{}", dir.path().join("s").display());
    let ran = cli.run(&[
        "coordinator",
        "--data-dir",
        &data,
        "--listen",
        "0.0.0.0:17070",
        "--bootstrap",
        "--store-url",
        &store,
    ]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("TLS"), "{}", ran.stderr);
    assert!(!dir.path().join("c/log").exists(), "nothing half-done");
}

/// A file with this pool, these lines more, and what `--check-config` says of it: exit code and stderr.
fn checked(dir: &std::path::Path, pool: &str, more: &str) -> (Option<i32>, String) {
    let cli = muster_tests::Cli { config_dir: dir.to_owned() };
    let file = dir.join("pools.toml");
    std::fs::write(&file, format!("[[pool]]\nname = \"gpu\"\nmax = 4\n{pool}\n{more}\n")).unwrap();
    let (file, data) = (file.display().to_string(), dir.join("c").display().to_string());
    let ran = cli.run(&["coordinator", "--config", &file, "--check-config", "--data-dir", &data]);
    (ran.code, ran.stderr)
}

#[test]
fn what_is_wrong_with_a_pool_is_said_with_its_file_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let asg = r#"driver = { kind = "aws-asg", group = "g", region = "eu-west-1" }"#;
    let second = |name: &str, rest: &str| format!("[[pool]]\nname = \"{name}\"\nmax = 1\n{rest}");
    let template = |keys: &str| format!("template = {{ {keys} }}");
    let exec = |command: &str| format!("driver = {{ kind = \"exec\", command = [{command}] }}");
    // The pool's lines, further lines of the file, and words of the answer.
    let cases: Vec<(String, String, &[&str])> = vec![
        // What the file cannot say is told with its line.
        ("maxx = 3".into(), String::new(), &["pools.toml:4:", "unknown field `maxx`", "scale_in_cooldown"]),
        ("min = -1".into(), String::new(), &["pools.toml:4:", "-1"]),
        ("patience = \"soon\"".into(), String::new(), &["pools.toml:4:", "is no duration"]),
        (
            r#"driver = { kind = "aws" }"#.into(),
            String::new(),
            &["pools.toml:4:", "`aws`", "`aws-asg`, `gcp-mig`, `azure-vmss`, `slurm`, `webhook`, `exec`"],
        ),
        (
            r#"driver = { kind = "aws-asg", group = "g" }"#.into(),
            String::new(),
            &["pools.toml:4:", "missing field `region`"],
        ),
        (
            r#"driver = { kind = "aws-asg", group = "g", region = "r", secret = "s" }"#.into(),
            String::new(),
            &["pools.toml:4:", "unknown field `secret`", "credentials_file"],
        ),
        // What it says and cannot work, with the pool.
        (String::new(), second("gpu", ""), &["pool \"gpu\" is there twice", "its own name"]),
        (String::new(), second("a b", ""), &["\"a b\" is no name of a pool", "h100-spot"]),
        ("min = 5".into(), String::new(), &["pool \"gpu\": min is 5, above its max of 4", "raise max"]),
        (String::new(), "[[pool]]\nname = \"b\"\nmax = 100001".into(), &["max is 100001", "100000"]),
        ("usd_per_hour = -1.0".into(), String::new(), &["usd_per_hour is -1, which is no price", "USD an hour"]),
        (String::new(), "[autoscale]\nmax_usd_per_hour = -5.0".into(), &["max_usd_per_hour is -5"]),
        (
            r#"prices = [{ from = "25:00", to = "06:00", usd_per_hour = 1.0 }]"#.into(),
            String::new(),
            &["\"25:00\" is no time of the day", "22:00"],
        ),
        (template(r#"cpus = 8, memory = "1GiB", gpus = "8xH100""#), String::new(), &["template.gpus", "8xH100-80GB"]),
        (template(r#"cpus = 8, memory = "1GiB", cuda = "new""#), String::new(), &["template.cuda is \"new\"", "12.4"]),
        (template(r#"cpus = 0, memory = "1GiB""#), String::new(), &["0 cpus and 1GiB of memory", "cpus = 96"]),
        ("quota = \"eu\"".into(), String::new(), &["names the quota \"eu\"", "[[quota]]"]),
        (
            String::new(),
            "[[quota]]\nname = \"eu\"\ngpus = 1\n[[quota]]\nname = \"eu\"\ngpus = 2".into(),
            &["quota \"eu\" is there twice"],
        ),
        (asg.into(), second("b", asg), &["pools \"gpu\" and \"b\" have one group", "merge the two"]),
        // What a driver needs on this machine.
        (exec(""), String::new(), &["driver exec of pool gpu: command is empty"]),
        (exec("\"scale.sh\""), String::new(), &["\"scale.sh\" is not a whole path"]),
        (exec("\"/no/such/program\""), String::new(), &["/no/such/program"]),
        (
            r#"driver = { kind = "gcp-mig", project = "p", group = "g" }"#.into(),
            String::new(),
            &["give `zone` or `region`"],
        ),
        (
            r#"driver = { kind = "aws-asg", group = "g", region = "r", credentials_file = "/no/such/key" }"#.into(),
            String::new(),
            &["no credentials file /no/such/key"],
        ),
        (
            r#"driver = { kind = "azure-vmss", subscription = "s", resource_group = "r", group = "g", endpoint = "ftp://x" }"#
                .into(),
            String::new(),
            &["endpoint `ftp://x` is not an http or https address"],
        ),
        (
            r#"driver = { kind = "webhook", url = "https://h/p" }"#.into(),
            String::new(),
            &["give either secret_file or secret_env"],
        ),
        (r#"driver = { kind = "slurm" }"#.into(), String::new(), &["give either worker"]),
    ];
    for (pool, more, words) in cases {
        let (code, stderr) = checked(dir.path(), &pool, &more);
        assert_eq!(code, Some(1), "{pool} {more}: {stderr}");
        assert!(stderr.starts_with("error:") && stderr.contains("hint:"), "{pool} {more}: {stderr}");
        assert!(stderr.contains("pools.toml"), "{pool} {more}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{pool} {more}: {word:?} is not in {stderr}");
        }
    }
    let sound = format!("{asg}\n{}", template(r#"cpus = 96, memory = "1TiB", gpus = "8xH100-80GB""#));
    let (code, stderr) = checked(dir.path(), &sound, "");
    assert_eq!((code, stderr.as_str()), (Some(0), "the configuration is sound\n"));
    assert!(!dir.path().join("c").exists(), "nothing is made");
}
