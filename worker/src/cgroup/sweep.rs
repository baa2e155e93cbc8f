//! What dead shims left: found by the directories that they wrote down, killed, and removed.
//!
//! The place of our groups follows from the cgroup in which the worker was started, and that may be another one after a restart from
//! another terminal. So a shim writes the directories that it uses into `DIR/cgroups` before it uses them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fs::{numbered, open, open_dir, short_hash};
use super::{CgroupError, Kind, Members};

/// Name of the file in the worker's directory: a line a backend, its name and its directories between tabs.
const RECORD: &str = "cgroups";

/// Empties and removes everything that is written down for `dir`, and what older shims of it left beside `bases`, which are written down
/// for the next time. Returns how many groups had processes in them.
///
/// # Errors
/// [`CgroupError::Unkillable`] when something is still there after `patience`; the record then stays as it was.
pub fn sweep(dir: &Path, kind: Kind, bases: &[PathBuf], patience: Duration) -> Result<u32, CgroupError> {
    let until = Instant::now() + patience;
    let path = dir.join(RECORD);
    let mut swept = 0;
    for (kind, old) in parse(&std::fs::read_to_string(&path).unwrap_or_default()) {
        swept += sweep_bases(kind, &old, until)?;
        remove(old.iter().filter(|base| !bases.contains(base)));
    }
    for (at, base) in bases.iter().enumerate() {
        let old = older(dir, base);
        // On v1 only the first lists processes.
        if at == 0 {
            for base in &old {
                swept += sweep_bases(kind, std::slice::from_ref(base), until)?;
            }
        }
        old.iter().flat_map(|base| numbered(base)).for_each(|(_, group)| {
            let _ = std::fs::remove_dir(group);
        });
        remove(old.iter());
    }
    swept += sweep_bases(kind, bases, until)?;
    std::fs::write(&path, line(kind, bases)).map_err(|e| CgroupError::file("cannot write", &path, e))?;
    Ok(swept)
}

/// Directories beside `base` of the same name but for the process, of shims whose record is gone with their directory.
fn older(dir: &Path, base: &Path) -> Vec<PathBuf> {
    let prefix = format!("muster-{}", short_hash(dir));
    let siblings = base.parent().and_then(|parent| std::fs::read_dir(parent).ok()).into_iter().flatten();
    let ours = siblings.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|entry| entry.path()).filter(|path| path != base).collect()
}

/// Empty ones; another shim may still be using one that is not.
fn remove<'a>(bases: impl Iterator<Item = &'a PathBuf>) {
    bases.for_each(|base| {
        let _ = std::fs::remove_dir(base);
    });
}

/// The first directory is the one whose groups list their processes; on v1 the others belong to the other controllers.
fn sweep_bases(kind: Kind, bases: &[PathBuf], until: Instant) -> Result<u32, CgroupError> {
    let mut swept = 0;
    for (_, group) in bases.first().map(|base| numbered(base)).unwrap_or_default() {
        let members = match kind {
            Kind::V2 => super::v2::members(&group)?,
            Kind::V1 => {
                Members::V1 { state: open(&group.join("freezer.state"), true)?, dir: open_dir(&group)? }
            }
            Kind::None => continue,
        };
        swept += u32::from(empty(&members, &group, until)?);
    }
    for base in bases {
        for (_, group) in numbered(base) {
            let _ = std::fs::remove_dir(group);
        }
    }
    Ok(swept)
}

/// Kills until nothing is left. True when there was something.
fn empty(members: &Members, path: &Path, until: Instant) -> Result<bool, CgroupError> {
    let mut killed = false;
    let mut pause = Duration::from_millis(1);
    loop {
        if members.is_empty().map_err(|e| CgroupError::file("cannot read", path, e))? {
            return Ok(killed);
        }
        killed = true;
        members.kill().map_err(|e| CgroupError::file("cannot kill in", path, e))?;
        if Instant::now() > until {
            let left = members.list();
            let first = left.first().copied().unwrap_or(0);
            return Err(CgroupError::Unkillable { path: path.to_owned(), count: left.len(), first });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn line(kind: Kind, bases: &[PathBuf]) -> String {
    let mut line = kind.name().to_owned();
    for base in bases {
        line.push('\t');
        line.push_str(&base.to_string_lossy());
    }
    line.push('\n');
    line
}

fn parse(text: &str) -> Vec<(Kind, Vec<PathBuf>)> {
    let one = |line: &str| {
        let mut parts = line.split('\t');
        let kind = Kind::parse(parts.next()?)?;
        Some((kind, parts.map(PathBuf::from).collect()))
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_back() {
        let bases =
            vec![PathBuf::from("/sys/fs/cgroup/freezer/muster-1"), PathBuf::from("/sys/fs/cgroup/my memory")];
        assert_eq!(parse(&line(Kind::V1, &bases)), [(Kind::V1, bases)]);
        assert_eq!(parse("cgroup9\t/x\n"), []);
    }
}
