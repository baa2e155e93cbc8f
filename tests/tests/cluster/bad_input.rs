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
