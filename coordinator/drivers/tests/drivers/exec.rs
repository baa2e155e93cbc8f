//! `exec` with small shell scripts.

use crate::open;
use muster_drivers::{Driver, DriverError, Group, Instance, Phase};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A script, and where it leaves traces (`$dir`).
struct Rig {
    driver: Arc<dyn Driver>,
    dir: TempDir,
}

impl Rig {
    fn new(script: &str) -> Self {
        Self::within("60s", script)
    }

    fn within(timeout: &str, script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        std::fs::write(&path, format!("dir='{}'\n{script}\n", dir.path().display())).unwrap();
        // The shell is run and not the script: a file that was written a moment ago may still be open in a child of another test.
        let toml = format!(
            "kind = \"exec\"\ncommand = [\"/bin/sh\", {:?}, \"first\"]\ntimeout = {timeout:?}",
            path.to_str().unwrap()
        );
        Self { driver: open(&toml).unwrap(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

/// Until it is there: the script writes it whole and renames it.
async fn appears(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return text,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Until no such process runs (one that nobody has waited for is dead too).
async fn dies(process: &str) {
    let stat = format!("/proc/{}/stat", process.trim());
    while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_gets_words_json_and_a_clean_environment() {
    let rig = Rig::new(r#"echo "$@" > "$dir/args"; cat > "$dir/stdin"; env > "$dir/env""#);

    rig.driver.set_desired(3, 41).await.unwrap();

    assert_eq!(rig.text("args"), "first set_desired 3\n");
    let mut order: Value = serde_json::from_str(&rig.text("stdin")).unwrap();
    let sent = order["sent"].take();
    assert!(sent.as_str().is_some_and(|text| text.ends_with('Z')), "{sent}");
    assert_eq!(
        order,
        json!({"pool": "spot", "action": "set_desired", "desired": 3, "generation": 41, "sent": null})
    );
    let env = rig.text("env");
    let mut names: Vec<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // What the shell adds by itself, and what we may lack ourselves.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_", "HOME", "LANG"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["MUSTER_ACTION", "MUSTER_GENERATION", "MUSTER_POOL", "PATH"]);
    assert!(env.contains("MUSTER_GENERATION=41\n") && env.contains("MUSTER_POOL=spot\n"), "{env}");
}

#[tokio::test]
async fn every_verb_reaches_the_program() {
    let rig = Rig::new(r#"shift; echo "$@" >> "$dir/args"; cat >> "$dir/stdin"; echo >> "$dir/stdin""#);

    rig.driver.terminate("i-1", 7).await.unwrap();
    rig.driver.hold("i-2").await.unwrap();
    rig.driver.release("i-2").await.unwrap();
    rig.driver.protect(&["i-3".to_owned(), "i-4".to_owned()], false).await.unwrap();

    assert_eq!(rig.text("args"), "terminate i-1\nhold i-2\nrelease i-2\nprotect off\n");
    let last: Value = serde_json::from_str(rig.text("stdin").lines().last().unwrap()).unwrap();
    assert_eq!((&last["instances"], &last["on"]), (&json!(["i-3", "i-4"]), &json!(false)));
}

#[tokio::test]
async fn a_group_is_what_it_prints() {
    let rig = Rig::new(r#"echo '{"desired": 1, "max": 4, "instances": [{"id": "a", "phase": "booting"}]}'"#);
    let instances = vec![Instance { id: "a".into(), phase: Phase::Booting, protected: false, image: None }];
    assert_eq!(
        rig.driver.describe().await,
        Ok(Some(Group { desired: 1, min: 0, max: 4, instances, ..Group::default() }))
    );

    assert_eq!(Rig::new("true").driver.describe().await, Ok(None));

    let error = Rig::new("echo it is well").driver.describe().await.unwrap_err();
    assert!(matches!(error, DriverError::Garbled { .. }), "{error}");
}

#[tokio::test]
async fn exit_codes_say_what_to_do() {
    let what = || "driver exec of pool spot: set_desired".to_owned();
    for (code, expected) in [
        (0, Ok(())),
        (75, Err(DriverError::Unavailable { what: what(), reason: "not today".into() })),
        (77, Err(DriverError::Denied { what: what(), reason: "not today".into() })),
        (1, Err(DriverError::Refused { what: what(), reason: "not today".into() })),
    ] {
        let rig = Rig::new(&format!("echo >&2; echo not today >&2; echo more >&2; exit {code}"));
        assert_eq!(rig.driver.set_desired(1, 1).await, expected);
    }
    let silent = Rig::new("exit 3").driver.set_desired(1, 1).await.unwrap_err();
    assert!(silent.to_string().ends_with("exit code 3, and nothing on stderr"), "{silent}");
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_with_its_children() {
    let rig = Rig::within(
        "100ms",
        r#"trap 'echo > "$dir/asked"' TERM
           sh -c 'trap "" TERM; while :; do sleep 0.1; done' & echo $! > "$dir/new"; mv "$dir/new" "$dir/child"
           echo $$ > "$dir/leader"
           while :; do sleep 0.1; done"#,
    );

    let error = rig.driver.set_desired(1, 1).await.unwrap_err();

    assert_eq!(
        error,
        DriverError::TimedOut { what: "driver exec of pool spot: set_desired".into(), seconds: 1 }
    );
    assert!(rig.path("asked").exists(), "SIGTERM comes before SIGKILL");
    dies(&rig.text("leader")).await;
    dies(&rig.text("child")).await;
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_process() {
    let rig = Rig::new(r#"echo $$ > "$dir/new"; mv "$dir/new" "$dir/leader"; while :; do sleep 0.1; done"#);
    let path = rig.path("leader");

    let leader = tokio::select! {
        done = rig.driver.set_desired(1, 1) => panic!("{done:?}"),
        leader = appears(&path) => leader,
    };

    dies(&leader).await;
}

#[tokio::test]
async fn a_flood_is_cut_off_and_what_is_left_in_the_background_is_not_waited_for() {
    let rig = Rig::new(
        r#"echo $$ > "$dir/leader"; while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done"#,
    );
    let error = rig.driver.describe().await.unwrap_err();
    assert!(matches!(&error, DriverError::Garbled { reason, .. } if reason.contains("1048576")), "{error}");
    dies(&rig.text("leader")).await;

    // Its background process keeps the pipes; it lives on, and ends by itself when nobody reads.
    let rig =
        Rig::new(r#"(while echo tick 2>/dev/null; do sleep 0.1; done) & echo $! > "$dir/child"; exit 0"#);
    assert_eq!(rig.driver.set_desired(1, 1).await, Ok(()));
    dies(&rig.text("child")).await;

    // A flood on stderr blocks nobody.
    let rig = Rig::new("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 75");
    let error = rig.driver.set_desired(1, 1).await.unwrap_err();
    assert!(matches!(&error, DriverError::Unavailable { reason, .. } if reason.len() < 1000), "{error}");
}

#[tokio::test]
async fn an_id_that_would_be_an_option_is_never_passed_on() {
    let rig = Rig::new(r#"echo called > "$dir/called""#);
    for id in ["--all", "", "a b"] {
        let error = rig.driver.terminate(id, 1).await.unwrap_err();
        assert!(matches!(error, DriverError::Refused { .. }), "{error}");
    }
    assert!(!rig.path("called").exists());
}

#[test]
fn what_is_not_there_is_said_before_the_first_call() {
    for (command, words) in [
        (r#"[]"#, "command is empty"),
        (r#"["scale.sh"]"#, "not a whole path"),
        (r#"["/nowhere/scale.sh"]"#, "is not there, or is no program"),
        (r#"["/etc/passwd"]"#, "is not there, or is no program"),
    ] {
        let error = open(&format!("kind = \"exec\"\ncommand = {command}")).unwrap_err();
        assert!(
            matches!(error, DriverError::Unusable { .. }) && error.to_string().contains(words),
            "{error}"
        );
    }
}
