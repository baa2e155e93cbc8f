//! The machine a figure belongs to.

use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;

/// What a reader must know to compare figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub model: String,
    pub cores: usize,
    pub kernel: String,
    /// Type of the file system that holds the data directories, e.g. `ext4`.
    pub filesystem: String,
    /// Where they lie.
    pub directory: String,
    /// Load averages of 1, 5 and 15 minutes before the run.
    pub load: String,
}

impl Machine {
    /// Reads it; `dir` will hold the data directories.
    ///
    /// # Errors
    /// `dir` is not there.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = text("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
            })
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let dir = dir.canonicalize()?;
        Ok(Self {
            model,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: filesystem(&text("/proc/self/mounts"), &dir),
            directory: dir.display().to_string(),
            load: text("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        })
    }
}

/// The type of the mount that `dir` is on: the longest mount point above it, the last of equals.
fn filesystem(mounts: &str, dir: &Path) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.len() > 2 && dir.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len())
        .map_or_else(|| "unknown".to_owned(), |fields| fields[2].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/tmp/disk/x")), "xfs");
        assert_eq!(filesystem(mounts, Path::new("/tmp/diskette")), "tmpfs");
        assert_eq!(filesystem(mounts, Path::new("/srv")), "ext4");
    }
}
