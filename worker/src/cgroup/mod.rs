//! Groups of processes: how the shim holds, limits and kills everything that one attempt started.
//!
//! One trait, [`Backend`], with three implementors: [`v2::V2`], [`v1::V1`] and [`none::NoCgroup`]. [`probe()`] picks one at start and
//! says why in words that `muster workers` prints. Groups are pooled by the backend, because making and removing the directories
//! of one group costs 0.2 ms on v1 (four controllers), a good part of what a short task costs in all.
//!
//! What it leaves out: when to kill (that is `shim::attempt`), and which devices are whose (`devices`).

pub mod devices;
mod fs;
mod limits;
pub mod members;
pub mod none;
pub mod probe;
pub mod sweep;
pub mod v1;
pub mod v2;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use fs::CgroupError;
pub use limits::Limits;
pub use members::Members;
pub use probe::{Kind, Probed, probe};

/// One group: the place where the processes of one attempt live. Given out by [`Backend::open`], taken back by [`Backend::close`].
#[derive(Debug)]
pub struct Group {
    /// Number of the group below the backend's own directory.
    pub id: u32,
    /// What is needed to see and kill the processes; shared with the watchdog thread of the shim.
    pub members: Arc<Members>,
    /// `cgroup.procs` files into which the child writes `0` before it executes the program.
    pub join: Vec<OwnedFd>,
    /// The group's directory for `CLONE_INTO_CGROUP` (v2 only): the child is born inside.
    pub into: Option<OwnedFd>,
    /// A limit of the data segment that the child sets on itself, for the backend without cgroups. Bytes; 0 is none.
    pub data_limit: u64,
    /// The limits now in force, so that a pooled group is written only where it differs.
    limits: Limits,
    /// The file that counts OOM kills, where the group has a memory limit.
    oom: Option<File>,
    /// The count at the last reading: a pooled group keeps counting.
    oom_kills: u64,
    /// What denies devices on v2; in force for as long as the group is.
    filter: Option<devices::Filter>,
}

impl Group {
    /// Did the kernel kill a process of this group for memory since the last call? To be asked once at the end of each use.
    pub fn oom_killed(&mut self) -> bool {
        let Some(file) = &self.oom else { return false };
        let now = fs::read_again(file).map_or(self.oom_kills, |text| fs::keyed(&text, "oom_kill"));
        std::mem::replace(&mut self.oom_kills, now) < now
    }
}

/// What holds attempts together on this machine.
pub trait Backend {
    /// Which implementor this is.
    fn kind(&self) -> Kind;

    /// An empty group with these limits, new or from the pool.
    fn open(&mut self, limits: &Limits) -> Result<Group, CgroupError>;

    /// Takes an empty group back, for the pool or to remove it.
    fn close(&mut self, group: Group);

    /// The directories below which its groups are, the one that lists processes first.
    fn bases(&self) -> Vec<PathBuf>;

    /// Whether it can deny devices, or why not.
    fn denies_devices(&self) -> Result<(), String>;

    /// Removes the backend's own directories at the orderly end of the shim. Best effort.
    fn remove(&mut self);
}

/// Builds the backend of `kind` for the shim that serves `dir`.
///
/// # Errors
/// When the directories of the backend cannot be made.
pub fn build(kind: Kind, dir: &Path) -> Result<Box<dyn Backend>, CgroupError> {
    // Of this process alone: a shim that outlives its directory, deleted and made again, must not take the groups of the next one with it.
    let name = format!("muster-{}-{}", fs::short_hash(dir), std::process::id());
    Ok(match kind {
        Kind::V2 => Box::new(v2::V2::create(&probe::v2_parent()?, &name)?),
        Kind::V1 => Box::new(v1::V1::create(&probe::v1_parents()?, &name)?),
        Kind::None => Box::new(none::NoCgroup::default()),
    })
}
