//! muster: the one binary. Daemons, verbs of users and operators, and the shim.
//!
//! Code map: `args` what may be typed · `commands/<noun>/<verb>.rs` one file a verb · `client` calls with failover · `context` which cluster ·
//! `config` a daemon's settings from file, environment and flags · `job_input` job files and scripts · `output` tables and documents ·
//! `failure` errors, hints and exit codes, in one place.
//!
//! Architecture invariant: no decision of scheduling or state is taken here; what is checked locally is checked by the server's own code.

// Doc comments of the verbs are their `--help`: brackets and angles in them are text, not links.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

mod args;
mod client;
mod commands;
mod config;
mod context;
mod failure;
mod job_input;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    let raw: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // Before the first thread, as a test may end this process anywhere.
    match muster_failpoint::arm_from_environment() {
        Ok(None) => {}
        Ok(Some(spec)) => output::talk(&format!("warning: {} is set: {spec}", muster_failpoint::VARIABLE)),
        Err(error) => {
            output::talk(&format!("error: {}: {error}", muster_failpoint::VARIABLE));
            return ExitCode::from(failure::USAGE);
        }
    }
    // The shim must not meet a runtime, a thread or a parser: it forks.
    if raw.get(1).is_some_and(|verb| verb == "shim") {
        return commands::shim::run(raw.into_iter().skip(2));
    }
    if raw.get(1).is_some_and(|verb| verb == commands::daemon::death::VERB) {
        let mut raw = raw.into_iter();
        let name = raw.next().unwrap_or_default();
        return commands::daemon::death::stay_dead(name, raw.skip(1));
    }
    let json = output::json_wanted(&raw);
    end(match args::parse(raw, json).and_then(commands::run) {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    })
}

/// Ends the process without the destructors of C++: RocksDB's threads may be in the middle of something, and would find their locks gone
/// ("pthread lock: Invalid argument", and a clean stop that ends by SIGABRT). What had to be durable is.
fn end(code: u8) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: it ends the process; nothing of it runs afterwards.
    unsafe { libc::_exit(i32::from(code)) }
}
