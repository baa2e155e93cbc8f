//! Work that nobody waits for by the millisecond: on a thread of its own that others go before, on the cores as at the disk.
//!
//! Only for work that takes no lock which others wait for: whoever holds one at a low priority keeps them all waiting.

use std::io;

/// As `nice` counts: the lowest.
const NICE: libc::c_int = 19;
/// `ioprio_set`: of a thread, the class "best effort", the last in it.
const IO_OF_THREAD: libc::c_int = 1;
const IO_LAST: libc::c_int = 2 << 13 | 7;

/// Runs `work` on such a thread.
///
/// # Errors
/// No thread to be had.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        step_back();
        work();
    })?;
    Ok(())
}

/// Runs `work` on such a thread and returns what came of it.
///
/// # Errors
/// No thread to be had; its panic.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    spawn(name, move || drop(done.send(work())))?;
    result.await.map_err(|_| io::Error::other(format!("the thread {name} ended by a panic")))?
}

/// Only a matter of pace: where the kernel refuses, the work is done all the same.
fn step_back() {
    // SAFETY: both calls take numbers and change the calling thread alone (0 is the caller).
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, IO_OF_THREAD, 0, IO_LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> libc::c_int {
        // SAFETY: it takes numbers and changes nothing.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[tokio::test]
    async fn it_steps_back_alone_and_its_panic_is_an_error() {
        let before = nice();
        assert_eq!(run("quiet", || Ok(nice())).await.expect("runs"), NICE);
        assert_eq!(nice(), before, "the caller goes on as it was");
        let error = run::<()>("quiet", || panic!("on purpose")).await.expect_err("a panic");
        assert!(error.to_string().contains("thread quiet"), "{error}");
    }
}
