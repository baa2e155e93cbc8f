//! Room on the disk: new jobs are refused before the disk is full, so that cancels, leases, reports and membership go on.
//!
//! A ballast file is kept beside the log. While it would be whole and as much again is free, and the disk is less full than the mark, jobs
//! are taken. Below that they are refused; when space is nearly gone the ballast is given back, and taken again when there is room.
//! Members tell the leader, which refuses too while a majority could not write much longer. Left out: what is refused (`api`).

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes kept back, where the disk is large.
pub const BALLAST: u64 = 256 << 20;
/// And never more than this part of it.
const BALLAST_SHARE: u64 = 16;
/// How full, in per cent, before new jobs are refused.
pub const FULL_AT: u8 = 95;
/// How often the disk is looked at. A disk that is written at 100 MB/s takes two and a half seconds for the ballast.
const EVERY: Duration = Duration::from_millis(500);
/// What a member said of itself counts this long.
const FRESH: Duration = Duration::from_secs(10);

/// What the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What files of ours may use and those of all use, bytes.
    pub total: u64,
    /// What is left to us.
    pub available: u64,
}

impl Space {
    /// Of the file system that holds `dir`.
    ///
    /// # Errors
    /// The disk's.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let StatVfs { f_frsize, f_blocks, f_bfree, f_bavail, .. } = statvfs(dir)?;
        // As df counts: blocks that only root may use are neither used nor available.
        Ok(Self { total: (f_blocks - f_bfree + f_bavail) * f_frsize, available: f_bavail * f_frsize })
    }

    fn used_percent(self) -> u64 {
        100 - (self.available * 100).checked_div(self.total).unwrap_or(0)
    }
}

/// What is decided from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    full: bool,
    /// The ballast is given back (`false`) or taken (`true`); none: as it is.
    ballast: Option<bool>,
}

/// Whether jobs are refused and what becomes of the ballast. `was_full`: jobs are taken again only with some room to spare, so that a
/// disk at the border does not flap.
fn judge(space: Space, ballast: u64, held: bool, full_at: u8, was_full: bool) -> Verdict {
    // Seen as if the ballast were whole.
    let missing = if held { 0 } else { ballast };
    let spare = Space { available: space.available.saturating_sub(missing), ..space };
    let (margin, percent) = if was_full { (ballast + ballast / 4, 1) } else { (ballast, 0) };
    let full = spare.available < margin || spare.used_percent() + percent > u64::from(full_at);
    let nearly_gone = space.available < ballast / 4;
    Verdict {
        full,
        ballast: match held {
            true if nearly_gone => Some(false),
            false if spare.available >= ballast / 2 => Some(true),
            _ => None,
        },
    }
}

/// Why a job is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskFull {
    #[error(
        "the disk of member {member} is full: {used} % of {total} used, {available} left; new jobs are refused at {full_at} % and below {margin}",
        total = human(*.total), available = human(*.available), margin = human(*.margin)
    )]
    Here { member: u64, used: u64, total: u64, available: u64, full_at: u8, margin: u64 },
    #[error("the disks of members {} are full: no majority of {voters} could write much longer", list(.members))]
    Majority { members: Vec<u64>, voters: usize },
}

/// As people read it: no more digits than matter.
fn human(bytes: u64) -> String {
    let (unit, size) = if bytes >= 10 << 30 { ("GiB", 1_u64 << 30) } else { ("MiB", 1 << 20) };
    format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size)
}

fn list(members: &[u64]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

#[derive(Debug)]
struct State {
    space: Space,
    full: bool,
    held: bool,
    /// What the others said: whether they are full, and when.
    others: BTreeMap<u64, (bool, Instant)>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    member: u64,
    ballast: u64,
    full_at: u8,
    state: Mutex<State>,
}

/// The room of a member. Clones are the same.
#[derive(Debug, Clone)]
pub struct Room(Arc<Inner>);

impl Room {
    /// Looks at the disk of `dir` and takes the ballast, at most a sixteenth of the disk.
    ///
    /// # Errors
    /// The disk cannot be asked.
    pub fn new(dir: &Path, member: u64, ballast: u64, full_at: u8) -> io::Result<Self> {
        let space = Space::of(dir)?;
        let ballast = ballast.min(space.total / BALLAST_SHARE);
        let held = std::fs::metadata(file(dir)).is_ok_and(|file| file.len() >= ballast);
        let state = State { space, full: false, held, others: BTreeMap::new() };
        let room =
            Self(Arc::new(Inner { dir: dir.to_owned(), member, ballast, full_at, state: Mutex::new(state) }));
        room.look()?;
        Ok(room)
    }

    /// Looks on until the last clone but this one is gone.
    pub async fn watch(self) {
        while Arc::strong_count(&self.0) > 1 {
            tokio::time::sleep(EVERY).await;
            let room = self.clone();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || room.look()).await {
                tracing::warn!(dir = %self.0.dir.display(), %error, "cannot ask the disk for its room");
            }
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// The disk cannot be asked.
    pub fn look(&self) -> io::Result<()> {
        let Inner { dir, member, ballast, full_at, state } = &*self.0;
        let space = Space::of(dir)?;
        let (held, was_full) = {
            let state = state.lock();
            (state.held, state.full)
        };
        let verdict = judge(space, *ballast, held, *full_at, was_full);
        // Outside the lock: a disk that is full is slow.
        let held = match verdict.ballast {
            Some(true) => match take(dir, *ballast) {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, "no room for the ballast yet");
                    false
                }
            },
            Some(false) => {
                tracing::warn!(
                    member,
                    available = space.available,
                    "the disk is all but full; the ballast is given back"
                );
                give_back(dir).is_err()
            }
            None => held,
        };
        let mut state = state.lock();
        if verdict.full != was_full {
            let used = space.used_percent();
            if verdict.full {
                tracing::warn!(
                    member,
                    used,
                    available = space.available,
                    "the disk is full: new jobs are refused"
                );
            } else {
                tracing::info!(
                    member,
                    used,
                    available = space.available,
                    "there is room again: new jobs are taken"
                );
            }
        }
        (state.space, state.full, state.held) = (space, verdict.full, held);
        Ok(())
    }

    /// Whether this member's own disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.state.lock().full
    }

    /// What another member says of its disk.
    pub fn told(&self, member: u64, full: bool) {
        self.0.state.lock().others.insert(member, (full, Instant::now()));
    }

    /// Whether a job may be taken by this member, which leads `voters`.
    ///
    /// # Errors
    /// Why not, with the numbers.
    pub fn admit(&self, voters: &[u64]) -> Result<(), DiskFull> {
        let Inner { member, ballast, full_at, state, .. } = &*self.0;
        let state = state.lock();
        if state.full {
            return Err(DiskFull::Here {
                member: *member,
                used: state.space.used_percent(),
                total: state.space.total,
                available: state.space.available,
                full_at: *full_at,
                margin: *ballast,
            });
        }
        let is_full =
            |id: &&u64| state.others.get(id).is_some_and(|(full, when)| *full && when.elapsed() < FRESH);
        let members: Vec<u64> = voters.iter().filter(is_full).copied().collect();
        if voters.len() - members.len() < voters.len() / 2 + 1 {
            return Err(DiskFull::Majority { members, voters: voters.len() });
        }
        Ok(())
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

/// Blocks are taken, not only a length.
fn take(dir: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(file(dir))?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => fill(file, bytes),
        taken => Ok(taken?),
    }
    .inspect_err(|_| drop(give_back(dir)))
}

fn fill(mut file: File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(1), bytes), &mut file)?;
    file.sync_all()
}

fn give_back(dir: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(file(dir))?.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_refused_before_the_disk_is_full_and_the_ballast_goes_last() {
        const M: u64 = 1 << 20;
        let space = |available| Space { total: 1_000 * M, available: available * M };
        let judged = |available, held, was_full| {
            let verdict = judge(space(available), 40 * M, held, 95, was_full);
            (verdict.full, verdict.ballast)
        };
        // Available (MiB), ballast held, was full: full now, what becomes of the ballast.
        for (available, held, was_full, full, ballast) in [
            (500, true, false, false, None),
            (500, false, false, false, Some(true)),
            (51, true, false, false, None),
            (49, true, false, true, None),
            // Back above the border, and with room to spare.
            (51, true, true, true, None),
            (61, true, true, false, None),
            (9, true, true, true, Some(false)),
            // What the ballast gave back is not room for jobs, nor for the ballast at once.
            (49, false, true, true, None),
            (61, false, true, true, Some(true)),
        ] {
            assert_eq!(judged(available, held, was_full), (full, ballast), "{available} {held} {was_full}");
        }
    }

    #[test]
    fn a_majority_of_full_disks_refuses_and_one_does_not() {
        let dir = tempfile::tempdir().expect("dir");
        let room = Room::new(dir.path(), 1, 1 << 20, 100).expect("room");
        let voters = [1, 2, 3];
        assert_eq!(std::fs::metadata(dir.path().join("ballast")).expect("ballast").len(), 1 << 20);
        room.told(2, true);
        assert_eq!(room.admit(&voters), Ok(()));
        room.told(3, true);
        assert_eq!(room.admit(&voters), Err(DiskFull::Majority { members: vec![2, 3], voters: 3 }));
        room.told(2, false);
        assert_eq!(room.admit(&voters), Ok(()));
        // One more than all of it, and nothing is enough.
        let full = Room::new(dir.path(), 1, 1 << 20, 0).expect("room");
        let refused = full.admit(&voters).expect_err("full");
        assert!(refused.to_string().starts_with("the disk of member 1 is full: "), "{refused}");
    }
}
