//! The bare counterpart of dispatch: threads that spawn a program and wait for it, nothing else.

use anyhow::{Result, bail};
use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// What it took.
#[derive(Debug, Clone, Copy)]
pub struct Bare {
    pub seconds: f64,
    /// CPU of the children and of the threads that spawned them, ms.
    pub cpu_ms: f64,
}

/// Spawns `/bin/true` `count` times from `threads` threads with `posix_spawn`, one after the other in each, and waits for each.
///
/// # Errors
/// A spawn that failed.
pub fn spawn_and_wait(count: u32, threads: usize) -> Result<Bare> {
    let before = cpu_ms();
    let started = Instant::now();
    let next = AtomicU32::new(0);
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    if !one() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    match failed.into_inner() {
        0 => Ok(Bare { seconds, cpu_ms: cpu_ms() - before }),
        n => bail!("{n} of {count} spawns of /bin/true failed"),
    }
}

fn one() -> bool {
    let Ok(program) = CString::new("/bin/true") else { return false };
    let argv = [program.as_ptr().cast_mut(), ptr::null_mut()];
    let envp = [ptr::null_mut()];
    let mut pid = 0;
    let mut status = 0;
    // SAFETY: all pointers are to live, null-terminated data; the child is this thread's own and waited for once.
    unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            ptr::null(),
            ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        ) == 0
            && libc::waitpid(pid, &raw mut status, 0) == pid
            && status == 0
    }
}

/// CPU of this process and of its waited children, ms.
fn cpu_ms() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(|usage| {
            (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1000.0
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_child_is_spawned_and_waited_for() {
        assert!(spawn_and_wait(20, 2).is_ok_and(|bare| bare.seconds > 0.0 && bare.cpu_ms > 0.0));
    }
}
