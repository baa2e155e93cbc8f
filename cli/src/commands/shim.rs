//! `muster shim`: hidden; agents start it. Called before anything else of this program.

use std::ffi::OsString;
use std::process::ExitCode;

/// Becomes the shim of a worker.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome =
        muster_worker::shim::Options::parse(args).and_then(|options| muster_worker::shim::run(&options));
    outcome.unwrap_or_else(|error| {
        crate::output::talk(&format!("error: {error}"));
        ExitCode::from(crate::failure::REFUSED)
    })
}
