//! The binary as a user meets it without any coordinator: exit codes, `error:` and `hint:`, documents for programs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A home of its own, so that no context of this machine is seen.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("muster-usage-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command
            .args(args)
            .env_clear()
            .env("MUSTER_CONFIG_DIR", self.0.join("config"))
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.0);
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in: {}", self.err);
        }
        assert_eq!(self.code, code, "{}", self.err);
    }
}

const JOB: &str = "name: hello\ntasks:\n  hi:\n    run: echo hi\n";

#[test]
fn wrong_usage_is_two() {
    let home = Home::new("usage");
    home.run(&["frobnicate"]).says(2, &["error: ", "frobnicate"]);
    home.run(&["ps", "--state", "sleeping"]).says(2, &["sleeping"]);
    home.run(&["cancel"]).says(2, &["<ID>"]);
    home.run(&["cancel", "1", "2", "--request-id", "x"])
        .says(2, &["error: one --request-id is for one ID", "hint: "]);
    home.run(&["run"]).says(2, &["CMD"]);
    let json = home.run(&["ps", "--nonsense", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &document["error"]["code"]), (2, &"USAGE".into()));
}

#[test]
fn help_and_version_are_zero_on_stdout() {
    let home = Home::new("help");
    for args in [&["--help"][..], &["submit", "--help"], &["--version"], &["worker", "drain", "--help"]] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.is_empty(), ran.err.as_str()), (0, false, ""), "{args:?}");
    }
}

#[test]
fn no_coordinator_is_three_and_125_where_the_code_is_the_jobs() {
    let home = Home::new("nobody");
    home.run(&["ps"]).says(3, &["error: no coordinator is known", "hint: start one with `muster dev`"]);
    home.run(&["ps", "--address", "127.0.0.1:1"])
        .says(3, &["error: nothing answers at 127.0.0.1:1", "hint: "]);
    home.run(&["--address", "127.0.0.1:1,127.0.0.1:2", "show", "42"]).says(3, &["127.0.0.1"]);
    home.run(&["run", "--address", "127.0.0.1:1", "--", "true"]).says(125, &["nothing answers"]);
    home.run(&["wait", "42"]).says(125, &["no coordinator is known"]);
    let job = home.file("job.yaml", JOB);
    home.run(&["submit", &job]).says(3, &["no coordinator"]);
    home.run(&["submit", &job, "--wait"]).says(125, &["no coordinator"]);
    let ran = home.run(&["workers", "--output", "json", "--address", "127.0.0.1:1"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["error"]["code"]), (3, &"UNREACHABLE".into()));
    home.run(&["ps", "--address", "nonsense"]).says(1, &["is not an address"]);
}

#[test]
fn what_is_no_job_file_is_named() {
    let home = Home::new("files");
    let path = |name: &str| home.0.join(name).display().to_string();
    home.run(&["submit", &path("absent.yaml")]).says(1, &["error: there is no file", "hint: "]);
    home.run(&["submit", &path("")]).says(1, &["is a directory, not a job file", "job.yaml"]);
    home.run(&["validate", &home.file("latin.yaml", b"name: x\nqueue: \xff\n")])
        .says(1, &["latin.yaml:2:", "UTF-8"]);
    home.run(&["validate", &home.file("notes.txt", "hello")]).says(1, &["neither a job file nor a script"]);
    home.run(&["validate", &home.file("job.yaml", JOB.replace("run:", "rum:"))]).says(1, &["rum", "run"]);
    let cycle = "name: c\ntasks:\n  a: {run: 'true', needs: [b]}\n  b: {run: 'true', needs: [a]}\n";
    home.run(&["validate", &home.file("cycle.yaml", cycle)]).says(1, &["→"]);
}

#[test]
fn a_file_over_64_mib_is_refused() {
    let home = Home::new("large");
    let large = home.file("large.yaml", "");
    std::fs::File::options().write(true).open(&large).unwrap().set_len((64 << 20) + 1).unwrap();
    home.run(&["validate", &large]).says(1, &["larger than 64 MiB"]);
}

#[test]
fn a_sound_file_is_said_to_be_so() {
    let home = Home::new("valid");
    let job = home.file("job.yaml", JOB);
    let ran = home.run(&["validate", &job]);
    assert_eq!((ran.code, ran.out), (0, format!("{job}: valid (1 task, 1 index)\n")), "{}", ran.err);
    let ran = home.run(&["validate", &job, "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&document["valid"], &document["tasks"]), (&true.into(), &1.into()));
    let mut child =
        home.command(&["validate", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(JOB.as_bytes()).unwrap();
    assert_eq!(Ran::of(child.wait_with_output().unwrap()).out, "-: valid (1 task, 1 index)\n");
}

#[test]
fn a_bad_configuration_ends_before_any_port_opens() {
    let home = Home::new("config");
    let data = home.0.join("c1").display().to_string();
    home.run(&["coordinator", "--bootstrap"]).says(1, &["no data directory", "hint: "]);
    home.run(&["coordinator", "--data-dir", &data, "--listen", "0.0.0.0:7999", "--bootstrap"])
        .says(1, &["without TLS", "hint: "]);
    home.run(&["dev", "--data-dir", &data, "--listen", "0.0.0.0:7999"]).says(1, &["loopback"]);
    let file = home.file("c.toml", "[coordinator]\ndata_dir = \"c1\"\ncolour = \"red\"\n");
    home.run(&["coordinator", "--config", &file, "--check-config"]).says(1, &["c.toml:3:", "colour"]);
    let mut warned = home.command(&["coordinator", "--data-dir", &data, "--bootstrap", "--check-config"]);
    Ran::of(warned.env("MUSTER_COORDINATOR_LISTEM", "x").output().unwrap())
        .says(0, &["warning: ", "MUSTER_COORDINATOR_LISTEM", "MUSTER_COORDINATOR_LISTEN", "sound"]);
    home.run(&["worker", "--data-dir", "w", "--gpus", "many", "--join", "127.0.0.1:1", "--check-config"])
        .says(1, &["hint: "]);
    assert!(!Path::new(&data).exists());
}

#[test]
fn contexts_are_listed_and_chosen() {
    let home = Home::new("contexts");
    std::fs::create_dir_all(home.0.join("config")).unwrap();
    home.file("config/contexts.toml", "current = \"a\"\n[contexts.a]\naddresses = [\"127.0.0.1:1\"]\ntoken = \"secret\"\n[contexts.b]\naddresses = [\"h:2\"]\n");
    assert_eq!(
        home.run(&["context", "list"]).out,
        "CURRENT  NAME  ADDRESSES\n*        a     127.0.0.1:1\n-        b     h:2\n"
    );
    home.run(&["context", "use", "c"]).says(1, &["there is no context `c`", "hint: there is a, b"]);
    home.run(&["context", "use", "b"]).says(0, &[]);
    let shown = home.run(&["context", "show"]);
    assert_eq!(shown.out, "b: h:2\n");
    let a = home.run(&["context", "show", "a", "--output", "json"]).out;
    assert!(!a.contains("secret"), "{a}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(home.0.join("config/contexts.toml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn completions_man_pages_and_the_schema_are_written() {
    let home = Home::new("meta");
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.run(&["completions", shell]).out.contains("muster"), "{shell}");
    }
    home.run(&["man", "man1"]).says(0, &[]);
    assert!(home.0.join("man1/muster-submit.1").exists());
    let schema: serde_json::Value = serde_json::from_str(&home.run(&["schema", "job"]).out).unwrap();
    assert!(schema["properties"]["tasks"].is_object());
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let home = Home::new("pipe");
    let mut child =
        home.command(&["schema", "job"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_commit_outside_of_a_task_has_nobody_to_ask() {
    let home = Home::new("commit");
    let ran = home.run(&["checkpoint", "commit", "x", "--step", "5"]);
    ran.says(
        3,
        &["error: there is no worker to ask: MUSTER_SOCKET is not set", "hint: run it inside a task"],
    );
    home.run(&["checkpoint", "commit", "x"]).says(2, &["--step"]);
    home.run(&["checkpoint", "commit", "x", "--step", "-1"]).says(2, &["--step"]);
}

#[test]
fn a_store_that_cannot_be_used_is_said_before_there_is_a_member() {
    let home = Home::new("store");
    let data = home.0.join("c1").display().to_string();
    let member = ["coordinator", "--data-dir", &data, "--listen", "127.0.0.1:0", "--bootstrap"];
    let with = |more: &[&str]| {
        let mut command = home.command(&[&member[..], more].concat());
        command.env("AWS_ACCESS_KEY_ID", "testing").env("AWS_SECRET_ACCESS_KEY", "a-secret");
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    };
    with(&["--store-url", "ftp://host/x", "--check-config"])
        .says(1, &["ftp://host/x", "hint: set store.url"]);
    with(&["--store-endpoint", "http://10.0.0.1:9", "--check-config"]).says(1, &["store.endpoint", "hint: "]);
    let sound = ["--store-url", "s3://bucket/p", "--store-path-style", "false", "--check-config"];
    with(&sound).says(0, &["the configuration is sound"]);
    // A port that was given and is closed again.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = with(&["--store-url", "s3://bucket/p", "--store-endpoint", &format!("http://{closed}")]);
    away.says(1, &["error: the store s3://bucket/p?endpoint=", "cannot be used", "hint: "]);
    assert!(!away.err.contains("a-secret"), "{}", away.err);
    assert!(!Path::new(&data).join("member.toml").exists(), "nothing half-done");
}
