//! Programs of the system (`ip`, `nft`, `mount` …) and small files of the kernel, with errors that say what was tried.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// It is not there, or it failed: with what it said.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    finish(Command::new(program).args(args).stdin(Stdio::null()), program, args)
}

/// The same, with a text on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, what: &str, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("{what} took no input"))?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{what} failed: {}\n{input}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn finish(command: &mut Command, program: &str, args: &[&str]) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed ({}): {}", args.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is in `PATH`.
#[must_use]
pub fn has(program: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs).any(|dir| dir.join(program).is_file())
}

/// Writes a small file of the kernel.
///
/// # Errors
/// The kernel refused it.
pub fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}

/// Nanoseconds since this program began, of a clock that nobody sets: for the history of calls, which is judged by what was before what.
#[must_use]
pub fn monotonic_ns() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970: the one clock of ledger and faults. Time namespaces do not touch it, and no fault sets it.
#[must_use]
pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}
