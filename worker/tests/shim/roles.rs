//! What this program is when a case starts it as something else than the test.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use muster_worker::executor::ShimClient;
use muster_worker::shim::{self, Options};

use crate::support::{Shims, exe, launch};

/// `shim --dir DIR …`: the real one.
pub fn shim(args: impl Iterator<Item = OsString>) -> ExitCode {
    let run = Options::parse(args).and_then(|options| shim::run(&options));
    run.unwrap_or_else(|error| {
        let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "{error}{source}");
        ExitCode::FAILURE
    })
}

/// `client DIR KIND TOKEN LEASE_MS CMD…`: an agent that launches one attempt and then does nothing.
pub fn client(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.into_string().unwrap()).collect();
    let [dir, kind, token, lease, command @ ..] = &args[..] else { return ExitCode::FAILURE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Shims::config(dir.as_ref(), muster_worker::cgroup::Kind::parse(kind).unwrap());
        let (client, _, mut events) = ShimClient::start(config).await.unwrap();
        let mut one = launch(dir.as_ref(), token.parse().unwrap(), &[]);
        one.argv = command.to_vec();
        one.deadline_boot_ms = shim::clock::boot_ms() + lease.parse::<u64>().unwrap();
        client.launch(vec![one]);
        while let Some(event) = events.recv().await {
            let _ = writeln!(std::io::stdout(), "{event:?}");
        }
    });
    ExitCode::SUCCESS
}

/// `hold FILE [MARK]`: takes the file's lock, writes its process id into MARK, ignores SIGTERM, and never ends.
pub fn hold(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(args.next().unwrap()).unwrap();
    // SAFETY: ignoring a signal has no preconditions.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return ExitCode::from(99);
    }
    if let Some(mark) = args.next() {
        std::fs::write(mark, std::process::id().to_string()).unwrap();
    }
    loop {
        std::thread::park();
    }
}

/// `hog`: takes memory until somebody stops it.
pub fn hog() -> ExitCode {
    let mut all = Vec::new();
    loop {
        all.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&all);
    }
}

/// `escape FILE MARK`: a double fork with `setsid` that holds the file's lock, and a parent that waits for it to have begun.
pub fn escape(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    // SAFETY: one thread; the child only forks again, and the grandchild executes a program.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                libc::setsid();
                use std::os::unix::process::CommandExt;
                let _ = std::process::Command::new(exe()).arg("hold").args(&args).exec();
            }
            libc::_exit(0);
        }
    }
    while std::fs::read_to_string(&args[1]).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    ExitCode::from(7)
}
