//! What a run leaves when the kernel cannot take it away: cgroups, a directory, loop devices with a frozen file system. Named after the
//! process that made them, so that a later run can tell what is dead.

use super::sys;
use std::path::{Path, PathBuf};

const PREFIX: &str = "muster-chaos-";
/// Hierarchies in which nodes have groups: v1 by controller, and the unified one.
pub const HIERARCHIES: [&str; 6] = ["freezer", "blkio", "memory", "pids", "cpu", "unified"];

/// The directory of a run, short: sockets below it end at 108 bytes.
#[must_use]
pub fn run_dir(pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{pid}"))
}

/// The name of a run's cgroups.
#[must_use]
pub fn group_name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| PREFIX.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Removes what runs left whose process is no more.
pub fn sweep() {
    let mut pids: Vec<u32> = Vec::new();
    let hierarchies = HIERARCHIES.iter().map(|h| PathBuf::from("/sys/fs/cgroup").join(h));
    for parent in hierarchies.chain([std::env::temp_dir()]) {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.parse().ok());
            pids.extend(pid.filter(|p: &u32| !Path::new(&format!("/proc/{p}")).exists()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().for_each(remove);
}

/// Removes what the run of one process left. Its processes are dead, or die of the thaw.
pub fn remove(pid: u32) {
    let dir = run_dir(pid);
    thaw_all(&dir);
    for hierarchy in HIERARCHIES {
        remove_groups(&Path::new("/sys/fs/cgroup").join(hierarchy).join(group_name(&dir)));
    }
    release_loops(&dir);
    let _ = std::fs::remove_dir_all(&dir);
}

/// Thaws cgroups and file systems of a run.
pub fn thaw_all(dir: &Path) {
    thaw_groups(&Path::new("/sys/fs/cgroup/freezer").join(group_name(dir)));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = dir.display().to_string();
    for at in mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|at| at.starts_with(&below)) {
        let _ = sys::run("fsfreeze", &["--unfreeze", at]);
    }
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
}

/// Parents first: a child thaws only below a thawed parent.
fn thaw_groups(dir: &Path) {
    let state = dir.join("freezer.state");
    if state.exists() {
        let _ = std::fs::write(state, "THAWED");
    }
    children(dir).for_each(|child| thaw_groups(&child));
}

/// Children first. A group whose last process is just ending is busy for a moment: the next sweep takes it.
fn remove_groups(dir: &Path) {
    children(dir).for_each(|child| remove_groups(&child));
    let _ = std::fs::remove_dir(dir);
}

/// A loop device whose file system was frozen when its mount went away stays, and can be thawed only by mounting it again.
fn release_loops(dir: &Path) {
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if !Path::new(backing.trim().trim_end_matches(" (deleted)")).starts_with(dir) {
            continue;
        }
        let device = format!("/dev/{}", entry.file_name().to_string_lossy());
        let at = dir.join("thaw");
        let at_text = at.display().to_string();
        if std::fs::create_dir_all(&at).is_ok() && sys::run("mount", &[&device, &at_text]).is_ok() {
            let _ = sys::run("fsfreeze", &["--unfreeze", &at_text]);
            let _ = sys::run("umount", &[&at_text]);
        }
        let _ = sys::run("losetup", &["--detach", &device]);
    }
}
