//! Without cgroups: everything below the shim, found through `/proc`.
//!
//! The shim is a subreaper and, with this backend, parents one attempt only, so each of its descendants belongs to that attempt
//! even after a double fork and `setsid`. Memory is limited per process (`RLIMIT_DATA`), which is weaker than a group's limit, and
//! an OOM kill can't be told from any other SIGKILL.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use super::{Backend, CgroupError, Group, Kind, Limits, Members};

/// Rounds of "stop what is new" before the kill: a fork bomb is usually still after two.
const STOP_ROUNDS: usize = 5;

/// The backend of last resort.
#[derive(Debug, Default)]
pub struct NoCgroup {
    next: u32,
}

impl Backend for NoCgroup {
    fn kind(&self) -> Kind {
        Kind::None
    }

    fn open(&mut self, limits: &Limits) -> Result<Group, CgroupError> {
        self.next += 1;
        Ok(Group {
            id: self.next,
            members: Arc::new(Members::Descendants),
            join: Vec::new(),
            into: None,
            data_limit: limits.memory_bytes,
            limits: limits.clone(),
            oom: None,
            oom_kills: 0,
            filter: None,
        })
    }

    fn close(&mut self, _group: Group) {}

    fn bases(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn denies_devices(&self) -> Result<(), String> {
        Err("there is no cgroup".to_owned())
    }

    fn remove(&mut self) {}
}

/// Every process below this one, children first.
#[must_use]
pub fn descendants() -> Vec<i32> {
    let mut below: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in processes() {
        if let Some(parent) =
            std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent_of)
        {
            below.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(pid) = open.pop() {
        if let Some(children) = below.remove(&pid) {
            found.extend_from_slice(&children);
            open.extend(children);
        }
    }
    found
}

/// Stops and then kills every process below this one.
pub fn kill_descendants() {
    let mut all = Vec::new();
    for _ in 0..STOP_ROUNDS {
        let now = descendants();
        let fresh: Vec<i32> = now.iter().copied().filter(|p| !all.contains(p)).collect();
        if fresh.is_empty() {
            break;
        }
        send(&fresh, Signal::STOP);
        all.extend(fresh);
    }
    send(&all, Signal::KILL);
}

/// Kills every process of this user whose environment holds all of `needles` (whole `NAME=value` strings). This finds what a dead
/// shim left behind where no cgroup does; a program that rewrites its environment escapes it. Returns how many were killed.
#[must_use]
pub fn kill_by_environment(needles: &[String]) -> usize {
    let mut hit = Vec::new();
    for pid in processes() {
        let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let has = |needle: &String| environ.split(|b| *b == 0).any(|entry| entry == needle.as_bytes());
        if needles.iter().all(has) {
            hit.push(pid);
        }
    }
    send(&hit, Signal::STOP);
    send(&hit, Signal::KILL);
    hit.len()
}

fn processes() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn send(pids: &[i32], signal: Signal) {
    for pid in pids.iter().copied().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The parent in a line of `/proc/PID/stat`; the name in parentheses may itself hold parentheses and spaces.
fn parent_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_past_a_name_with_parentheses() {
        assert_eq!(parent_of("17 (a) b (c) S 4 17 17 0"), Some(4));
        assert_eq!(parent_of("garbage"), None);
    }
}
