//! The binary under test, and what a run of it printed.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where the binary is: `MUSTER_BIN`, else `target/release/muster` of this checkout.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let given = std::env::var_os("MUSTER_BIN").map(PathBuf::from);
    let path =
        given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/muster"));
    assert!(path.exists(), "{} is not there: run `make build`, or set MUSTER_BIN", path.display());
    path
}

/// The command line of one user: one configuration directory.
#[derive(Debug, Clone)]
pub struct Cli {
    pub config_dir: PathBuf,
}

/// What a finished run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its standard output.
    ///
    /// # Panics
    /// Unless it exited with 0.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Cli {
    /// The command, with nothing of this process's own configuration in its environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MUSTER_") {
                command.env_remove(name);
            }
        }
        command.args(args).env("MUSTER_CONFIG_DIR", &self.config_dir).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        let output = self.command(args).output().expect("start the binary");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it with `--output json` and reads what it prints.
    ///
    /// # Errors
    /// What it said when it failed, or printed no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value, String> {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        let ran = self.run(&args);
        if ran.code != Some(0) {
            return Err(format!("{args:?} exited with {:?}: {}{}", ran.code, ran.stdout, ran.stderr));
        }
        serde_json::from_str(&ran.stdout)
            .map_err(|e| format!("{args:?} printed no JSON ({e}): {}", ran.stdout))
    }

    /// Starts a daemon whose output goes to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn daemon<S: AsRef<OsStr>>(&self, args: &[S], log: &Path) -> Child {
        self.daemon_with(args, log, &[])
    }

    /// Starts a daemon with more in its environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn daemon_with<S: AsRef<OsStr>>(&self, args: &[S], log: &Path, env: &[(&str, &str)]) -> Child {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("open the log");
        let copy = file.try_clone().expect("one more handle");
        self.command(args)
            .envs(env.iter().copied())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .expect("start the daemon")
    }
}
