//! The shim as a real process, with real tasks: what it promises when the agent is stopped, killed, or gone.
//!
//! This program is also the shim, the agent and the task of its cases; the first argument says which. A case that needs cgroups prints
//! why it is skipped where the machine has none. Nothing waits by the clock: each case waits for an event, a file or a process to go.

mod cases;
mod cost;
mod roles;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|role| role.to_str()) {
        Some("shim") => return roles::shim(args),
        Some("client") => return roles::client(args),
        Some("hold") => return roles::hold(args),
        Some("hog") => return roles::hog(),
        Some("escape") => return roles::escape(args),
        _ => {}
    }
    let args = libtest_mimic::Arguments::from_args();
    let mut trials = cases::all();
    trials.push(cost::trial());
    libtest_mimic::run(&args, trials).exit_code()
}
