//! cgroup v1: the controllers `freezer`, `memory`, `pids`, `cpu` and `devices`, each in its own hierarchy.
//!
//! Every group exists in the freezer, which is how its processes are listed and killed; in the others only when the attempt has a
//! limit there. v1 has no `cgroup.kill`: freeze, kill all, thaw (see [`super::members`]).

use std::path::PathBuf;
use std::sync::Arc;

use super::fs::{make_dir, open, open_dir, write};
use super::{Backend, CgroupError, Group, Kind, Limits, Members};

/// Idle groups kept. More are removed when their attempt ends.
const POOL_MAX: usize = 256;

/// Where each controller's hierarchy lets us make directories.
#[derive(Clone, Debug, Default)]
pub struct Parents {
    /// Needed.
    pub freezer: PathBuf,
    /// Memory limits and OOM.
    pub memory: Option<PathBuf>,
    /// Process count.
    pub pids: Option<PathBuf>,
    /// Processor shares.
    pub cpu: Option<PathBuf>,
    /// Which device nodes can be opened.
    pub devices: Option<PathBuf>,
}

impl Parents {
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        let others = [&self.memory, &self.pids, &self.cpu, &self.devices];
        std::iter::once(&self.freezer).chain(others.into_iter().flatten())
    }
}

/// The v1 backend.
#[derive(Debug)]
pub struct V1 {
    base: Parents,
    pool: Vec<Group>,
    next: u32,
}

impl V1 {
    /// Makes the directory `name` in each hierarchy.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn create(parents: &Parents, name: &str) -> Result<Self, CgroupError> {
        let below = |p: &PathBuf| p.join(name);
        let base = Parents {
            freezer: below(&parents.freezer),
            memory: parents.memory.as_ref().map(below),
            pids: parents.pids.as_ref().map(below),
            cpu: parents.cpu.as_ref().map(below),
            devices: parents.devices.as_ref().map(below),
        };
        for dir in base.all() {
            make_dir(dir)?;
        }
        if let Some(cpu) = &base.cpu {
            // Shares are relative to siblings: without this all attempts together would weigh as much as one other process.
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            write(&cpu.join("cpu.shares"), &(cores * 1024).min(262_144).to_string())?;
        }
        let mut v1 = Self { base, pool: Vec::new(), next: 0 };
        if v1.denies_devices().is_err()
            && let Some(unused) = v1.base.devices.take()
        {
            let _ = std::fs::remove_dir(unused);
        }
        Ok(v1)
    }

    /// The hierarchies that a group with these limits joins besides the freezer.
    fn wanted(&self, limits: &Limits) -> [Option<&PathBuf>; 4] {
        [
            self.base.memory.as_ref().filter(|_| limits.memory_bytes > 0),
            self.base.pids.as_ref().filter(|_| limits.pids > 0),
            self.base.cpu.as_ref().filter(|_| limits.cpu_millis > 0),
            self.base.devices.as_ref().filter(|_| !limits.denied.is_empty()),
        ]
    }

    fn make(&mut self, limits: &Limits) -> Result<Group, CgroupError> {
        let id = self.next;
        self.next += 1;
        let name = format!("g{id}");
        let freezer = self.base.freezer.join(&name);
        make_dir(&freezer)?;
        let members =
            Members::V1 { state: open(&freezer.join("freezer.state"), true)?, dir: open_dir(&freezer)? };
        let mut join = vec![open(&freezer.join("cgroup.procs"), true)?.into()];
        for base in self.wanted(limits).into_iter().flatten() {
            let dir = base.join(&name);
            make_dir(&dir)?;
            join.push(open(&dir.join("cgroup.procs"), true)?.into());
        }
        let oom = match &self.base.memory {
            Some(base) if limits.memory_bytes > 0 => {
                Some(open(&base.join(&name).join("memory.oom_control"), false)?)
            }
            _ => None,
        };
        let mut group = Group {
            id,
            members: Arc::new(members),
            join,
            into: None,
            data_limit: 0,
            limits: Limits::default(),
            oom,
            oom_kills: 0,
            filter: None,
        };
        self.limit(&mut group, limits)?;
        Ok(group)
    }

    /// Writes the limits that differ from those in force.
    fn limit(&self, group: &mut Group, limits: &Limits) -> Result<(), CgroupError> {
        let name = format!("g{}", group.id);
        let old = group.limits.clone();
        if let (Some(base), true) = (&self.base.memory, limits.memory_bytes != old.memory_bytes) {
            let dir = base.join(&name);
            let bytes = limits.memory_bytes.to_string();
            // Swap must never be allowed less than memory, so the order of the two depends on the direction.
            let (first, second) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
            let swap = dir.join(second).exists();
            let growing = old.memory_bytes != 0 && limits.memory_bytes > old.memory_bytes;
            if growing && swap {
                write(&dir.join(second), &bytes)?;
            }
            if write(&dir.join(first), &bytes).is_err() {
                // Page cache of the group's last use may still be charged.
                let _ = write(&dir.join("memory.force_empty"), "0");
                write(&dir.join(first), &bytes)?;
            }
            if !growing && swap {
                write(&dir.join(second), &bytes)?;
            }
        }
        if let (Some(base), true) = (&self.base.pids, limits.pids != old.pids) {
            write(&base.join(&name).join("pids.max"), &limits.pids.to_string())?;
        }
        if let (Some(base), true) = (&self.base.cpu, limits.cpu_millis > 0) {
            let dir = base.join(&name);
            if limits.cpu_millis != old.cpu_millis {
                write(&dir.join("cpu.shares"), &limits.shares().to_string())?;
            }
            if limits.quota_us() != old.quota_us() {
                let quota = limits.quota_us().map_or("-1".to_owned(), |us| us.to_string());
                write(&dir.join("cpu.cfs_quota_us"), &quota)?;
            }
        }
        if let (Some(base), true) = (&self.base.devices, limits.denied != old.denied) {
            let dir = base.join(&name);
            // A write takes one rule. What is denied to the last attempt and not to this one is given back first.
            for node in old.denied.iter().filter(|node| !limits.denied.contains(node)) {
                write(&dir.join("devices.allow"), &node.rule())?;
            }
            for node in limits.denied.iter().filter(|node| !old.denied.contains(node)) {
                write(&dir.join("devices.deny"), &node.rule())?;
            }
        }
        group.limits = limits.clone();
        Ok(())
    }

    fn remove_dirs(&self, id: u32) {
        for base in self.base.all() {
            let _ = std::fs::remove_dir(base.join(format!("g{id}")));
        }
    }
}

/// Two sets of limits are of one shape when they need the same controllers.
fn same_shape(a: &Limits, b: &Limits) -> bool {
    (a.memory_bytes > 0) == (b.memory_bytes > 0)
        && (a.pids > 0) == (b.pids > 0)
        && (a.cpu_millis > 0) == (b.cpu_millis > 0)
        && a.denied.is_empty() == b.denied.is_empty()
}

impl Backend for V1 {
    fn kind(&self) -> Kind {
        Kind::V1
    }

    fn open(&mut self, limits: &Limits) -> Result<Group, CgroupError> {
        let equal = self.pool.iter().rposition(|p| p.limits == *limits);
        if let Some(at) = equal.or_else(|| self.pool.iter().rposition(|p| same_shape(&p.limits, limits))) {
            let mut group = self.pool.swap_remove(at);
            if self.limit(&mut group, limits).is_ok() {
                return Ok(group);
            }
            self.remove_dirs(group.id);
        }
        self.make(limits)
    }

    fn close(&mut self, group: Group) {
        if self.pool.len() >= POOL_MAX {
            return self.remove_dirs(group.id);
        }
        self.pool.push(group);
    }

    fn bases(&self) -> Vec<PathBuf> {
        self.base.all().cloned().collect()
    }

    /// Where the worker's own group may not open everything, the kernel keeps a list of what is allowed, and a rule such as `195:*` in it
    /// can't be denied by single nodes.
    fn denies_devices(&self) -> Result<(), String> {
        let base = self.base.devices.as_ref().ok_or("the devices controller is not usable")?;
        let list = std::fs::read_to_string(base.join("devices.list")).unwrap_or_default();
        match list.lines().next() {
            Some(all) if all.trim() == "a *:* rwm" => Ok(()),
            _ => Err(format!("{} has a list of allowed devices already", base.display())),
        }
    }

    fn remove(&mut self) {
        for group in std::mem::take(&mut self.pool) {
            self.remove_dirs(group.id);
        }
        for base in self.base.all() {
            let _ = std::fs::remove_dir(base);
        }
    }
}
