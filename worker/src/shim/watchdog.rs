//! A second thread that kills groups whose lease ran out although the loop did nothing about it.
//!
//! The loop writes logs and exit records, and a stuck file system can hold it in `write` for ever. Control files of cgroups are not on that
//! file system, so this thread, which does nothing else, keeps the promise of the lease even then. It acts 100 ms after the loop should have.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::clock::boot_ms;
use super::plan::FENCE_KILL_MS;
use super::protocol::Token;
use crate::cgroup::Members;

/// How long after the loop's own time this thread acts, milliseconds.
const AFTER_MS: u64 = 100;

#[derive(Debug)]
struct Watched {
    deadline: u64,
    members: Arc<Members>,
}

#[derive(Debug, Default)]
struct Table {
    leases: HashMap<Token, Watched>,
    /// What the timer is set to.
    armed: u64,
}

/// The table that the loop keeps up to date.
#[derive(Debug)]
pub struct Watchdog {
    table: Arc<Mutex<Table>>,
    timer: Arc<OwnedFd>,
}

impl Watchdog {
    /// Starts the thread. To be called once signals are blocked, so that it takes none.
    ///
    /// # Errors
    /// When there is no timer or no thread to be had.
    pub fn start() -> io::Result<Self> {
        let timer = Arc::new(boot_timer(false)?);
        let table = Arc::new(Mutex::new(Table { armed: u64::MAX, ..Table::default() }));
        let mine = (Arc::clone(&timer), Arc::clone(&table));
        std::thread::Builder::new()
            .name("watchdog".into())
            .stack_size(64 << 10)
            .spawn(move || watch(&mine.0, &mine.1))?;
        Ok(Self { table, timer })
    }

    /// Watches an attempt.
    pub fn add(&self, token: Token, deadline: u64, members: &Arc<Members>) {
        let mut table = lock(&self.table);
        table.leases.insert(token, Watched { deadline, members: Arc::clone(members) });
        let due = due(deadline);
        if due < table.armed {
            table.armed = due;
            let _ = arm(&self.timer, due);
        }
    }

    /// Its group is empty: it is not watched any more, and will not be killed by a late look at an old deadline.
    pub fn remove(&self, token: Token) {
        lock(&self.table).leases.remove(&token);
    }

    /// Deadlines that moved.
    pub fn renew(&self, moved: impl Iterator<Item = (Token, u64)>) {
        let mut table = lock(&self.table);
        for (token, deadline) in moved {
            if let Some(lease) = table.leases.get_mut(&token) {
                lease.deadline = deadline;
            }
        }
    }
}

fn due(deadline: u64) -> u64 {
    deadline.saturating_sub(FENCE_KILL_MS) + AFTER_MS
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(timer: &OwnedFd, table: &Mutex<Table>) {
    loop {
        let mut fired = [0u8; 8];
        if let Err(e) = rustix::io::read(timer, &mut fired)
            && e != rustix::io::Errno::INTR
        {
            return;
        }
        let now = boot_ms();
        let mut table = lock(table);
        let mut next = u64::MAX;
        for lease in table.leases.values() {
            let at = due(lease.deadline);
            if at <= now {
                // The loop reports the end; here it only has to happen.
                let _ = lease.members.kill();
                next = next.min(now + AFTER_MS);
            } else {
                next = next.min(at);
            }
        }
        table.armed = next;
        if next != u64::MAX {
            let _ = arm(timer, next);
        }
    }
}

/// A timer of the boot-time clock: it fires at once on resume when its time passed in suspend.
///
/// # Errors
/// As `timerfd_create`.
pub fn boot_timer(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags =
        if nonblocking { TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK } else { TimerfdFlags::CLOEXEC };
    Ok(timerfd_create(TimerfdClockId::Boottime, flags)?)
}

/// Sets a timer to a boot time in milliseconds.
///
/// # Errors
/// As `timerfd_settime`.
pub fn arm(timer: &OwnedFd, boot_ms: u64) -> io::Result<()> {
    let at = Timespec {
        tv_sec: i64::try_from(boot_ms / 1_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(boot_ms % 1_000).unwrap_or(0) * 1_000_000 + 1,
    };
    let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &spec)?;
    Ok(())
}
