//! Which backend does this machine allow? Tried by making a directory, not guessed from names, and said with the reason.
//!
//! Order: v2 with its controllers, v1 with a freezer, v2 without controllers (kills, but limits nothing), none.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fs::{CgroupError, write};
use super::v1::Parents;
use super::v2::Controllers;

/// Name of the cgroup into which agent and shim move, out of the way of the groups of attempts.
const LEAF: &str = "muster-agent";

/// The three backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The unified hierarchy.
    V2,
    /// One hierarchy a controller.
    V1,
    /// Process groups, subreaper and rlimits.
    None,
}

impl Kind {
    /// `cgroup2`, `cgroup1` or `none`, as `muster workers` shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "cgroup2",
            Self::V1 => "cgroup1",
            Self::None => "none",
        }
    }

    /// Reads a name: `v2`, `cgroup2`, `v1`, `cgroup1`, `none`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "v2" | "cgroup2" => Some(Self::V2),
            "v1" | "cgroup1" => Some(Self::V1),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The backend to use.
    pub kind: Kind,
    /// Why, in words for people: what is limited and what is not.
    pub reason: String,
    /// Why tasks can open the devices of others; none: they can't. Known once the backend is built.
    pub devices_open: Option<String>,
}

impl Probed {
    /// Before the backend is built.
    #[must_use]
    pub fn new(kind: Kind, reason: String) -> Self {
        Self { kind, reason, devices_open: Some("there is no cgroup".to_owned()) }
    }
}

/// Picks the backend for this machine and this user.
#[must_use]
pub fn probe() -> Probed {
    let v2 = v2_parent().map(|parent| {
        let offered = std::fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        (Controllers::parse(&offered), parent)
    });
    if let Ok((controllers, parent)) = &v2
        && controllers.complete()
    {
        return Probed::new(Kind::V2, format!("memory, cpu and pids are limited below {}", parent.display()));
    }
    let v1 = v1_parents();
    match (v1, v2) {
        (Ok(parents), _) => {
            let limited = [("memory", &parents.memory), ("pids", &parents.pids), ("cpu", &parents.cpu)];
            let named = |on: bool| {
                let names: Vec<_> =
                    limited.iter().filter(|(_, p)| p.is_some() == on).map(|(n, _)| *n).collect();
                names.join(", ")
            };
            let mut reason = format!("v1 hierarchies; limited: {}", named(true));
            if limited.iter().any(|(_, p)| p.is_none()) {
                reason.push_str(&format!("; not limited: {}", named(false)));
            }
            Probed::new(Kind::V1, reason)
        }
        (Err(_), Ok((controllers, parent))) => {
            let has = controllers.enable().replace('+', "");
            let has = if has.is_empty() { "nothing" } else { &has };
            Probed::new(Kind::V2, format!("{} kills whole groups, but limits only: {has}", parent.display()))
        }
        (Err(v1), Err(v2)) => Probed::new(Kind::None, format!("no cgroup: {}; {}", chain(&v2), chain(&v1))),
    }
}

/// The directory below which the v2 backend may make its own.
///
/// # Errors
/// Why there is none.
pub fn v2_parent() -> Result<PathBuf, CgroupError> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = v2_mount(&mounts).ok_or(CgroupError::Unavailable("no cgroup v2 is mounted"))?;
    let own = own_path("", &std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let own = own.ok_or(CgroupError::Unavailable("this process is in no cgroup v2"))?;
    let own = below(&mount, &own);
    // Who has been moved into the leaf (below) asks for the place around it.
    let own = if own.ends_with(LEAF) { own.parent().map_or(mount.clone(), Path::to_owned) } else { own };
    hand_down(&own);
    // Our own cgroup when it is delegated to us; else, for root, the top of the hierarchy, which systemd gives the controllers.
    let enabled = |dir: &Path| {
        Controllers::parse(&std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default())
            .complete()
    };
    let own_works = can_make(&own);
    match own_works {
        Ok(()) if enabled(&own) => Ok(own),
        Ok(()) if own != mount && enabled(&mount) && can_make(&mount).is_ok() => Ok(mount),
        Ok(()) => Ok(own),
        Err(_) if can_make(&mount).is_ok() => Ok(mount),
        Err(e) => Err(e),
    }
}

/// The directories below which the v1 backend may make its own.
///
/// # Errors
/// Why the freezer, which it can't do without, is not usable.
pub fn v1_parents() -> Result<Parents, CgroupError> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let find = |controller: &str| -> Result<PathBuf, CgroupError> {
        let mount = v1_mount(&mounts, controller)
            .ok_or(CgroupError::Unavailable("no cgroup v1 freezer is mounted"))?;
        let path =
            own_path(controller, &own).ok_or(CgroupError::Unavailable("this process is in no cgroup v1"))?;
        let dir = below(&mount, &path);
        can_make(&dir).map(|()| dir)
    };
    Ok(Parents {
        freezer: find("freezer")?,
        memory: find("memory").ok(),
        pids: find("pids").ok(),
        cpu: find("cpu").ok(),
        devices: find("devices").ok(),
    })
}

/// Enables the controllers for children of a cgroup that is ours alone. The kernel wants it free of processes ("no internal
/// processes"), so they move into a leaf; done only when all of them are this process, its parent or its children.
fn hand_down(own: &Path) {
    let offered =
        Controllers::parse(&std::fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default());
    let enabled =
        Controllers::parse(&std::fs::read_to_string(own.join("cgroup.subtree_control")).unwrap_or_default());
    if offered == Controllers::default() || enabled == offered || own.join("cgroup.type").metadata().is_err()
    {
        return;
    }
    let pids: Vec<i32> = std::fs::read_to_string(own.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|l| l.parse().ok())
        .collect();
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let parent = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get());
    let family = super::none::descendants();
    if pids.iter().any(|p| *p != me && *p != parent && !family.contains(p)) {
        return;
    }
    let leaf = own.join(LEAF);
    let _ = std::fs::create_dir(&leaf);
    for pid in pids {
        let _ = write(&leaf.join("cgroup.procs"), &pid.to_string());
    }
    let _ = write(&own.join("cgroup.subtree_control"), &offered.enable());
}

fn can_make(dir: &Path) -> Result<(), CgroupError> {
    let trial = dir.join(format!("muster-probe-{}", rustix::process::getpid().as_raw_nonzero()));
    std::fs::create_dir(&trial).map_err(|e| CgroupError::file("cannot make", &trial, e))?;
    let _ = std::fs::remove_dir(&trial);
    Ok(())
}

fn below(mount: &Path, path: &str) -> PathBuf {
    let dir = mount.join(path.trim_start_matches('/'));
    // Inside a container the path is the host's, and the mount already is our part of it.
    if dir.is_dir() { dir } else { mount.to_owned() }
}

fn v2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().map(fields).find(|(_, kind, _)| *kind == "cgroup2").map(|(dir, ..)| dir)
}

fn v1_mount(mounts: &str, controller: &str) -> Option<PathBuf> {
    mounts
        .lines()
        .map(fields)
        .find(|(_, kind, options)| *kind == "cgroup" && options.split(',').any(|o| o == controller))
        .map(|(dir, ..)| dir)
}

/// Directory, type and options of a line of `/proc/self/mounts`; spaces in paths are written `\040` there.
fn fields(line: &str) -> (PathBuf, &str, &str) {
    let mut words = line.split(' ').skip(1);
    let dir = words.next().unwrap_or_default().replace("\\040", " ");
    (PathBuf::from(dir), words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// The path of this process in the hierarchy of `controller` (`""` for v2) from `/proc/self/cgroup`.
fn own_path(controller: &str, text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = if controller.is_empty() {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|c| c == controller)
        };
        // A process whose cgroup is going away is shown with this suffix.
        ours.then(|| path.trim_end_matches(" (deleted)").to_owned())
    })
}

fn chain(error: &CgroupError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/my\\040freezer cgroup rw,freezer 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";

    #[test]
    fn mounts_are_found_by_type_and_controller() {
        assert_eq!(v2_mount(MOUNTS), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(v1_mount(MOUNTS, "cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(v1_mount(MOUNTS, "freezer"), Some("/sys/fs/cgroup/my freezer".into()));
        assert_eq!(v1_mount(MOUNTS, "memory"), None);
    }

    #[test]
    fn the_own_path_is_that_of_the_controller() {
        let text = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/user.slice\n";
        assert_eq!(own_path("memory", text).as_deref(), Some("/a/b"));
        assert_eq!(own_path("cpu", text).as_deref(), Some("/c"));
        assert_eq!(own_path("", text).as_deref(), Some("/user.slice"));
        assert_eq!(own_path("pids", text), None);
    }
}
