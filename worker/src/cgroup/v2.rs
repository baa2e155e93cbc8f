//! cgroup v2: one subtree that was delegated to us (`Delegate=yes`), or that root may make.
//!
//! Children are born inside their group (`CLONE_INTO_CGROUP`), which spares the migration lock that a write to `cgroup.procs` takes.
//! Controllers that the parent does not offer are left out, and the probe says so: killing and emptiness need none of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::devices::{Filter, Node};
use super::fs::{make_dir, open, open_dir, write};
use super::{Backend, CgroupError, Group, Kind, Limits, Members};

/// Idle groups kept. More are removed when their attempt ends.
const POOL_MAX: usize = 256;

/// The v2 backend.
#[derive(Debug)]
pub struct V2 {
    base: PathBuf,
    controllers: Controllers,
    /// Whether the kernel lets us deny devices.
    filters: bool,
    pool: Vec<Group>,
    next: u32,
}

/// Which controllers our groups have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    /// `memory`
    pub memory: bool,
    /// `cpu`
    pub cpu: bool,
    /// `pids`
    pub pids: bool,
}

impl Controllers {
    /// Reads a line such as `cpuset cpu io memory pids`.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let has = |name| line.split_whitespace().any(|word| word == name);
        Self { memory: has("memory"), cpu: has("cpu"), pids: has("pids") }
    }

    /// `+cpu +memory +pids`, what `cgroup.subtree_control` takes.
    #[must_use]
    pub fn enable(self) -> String {
        let names = [("+cpu", self.cpu), ("+memory", self.memory), ("+pids", self.pids)];
        names.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }

    /// All that limits need.
    #[must_use]
    pub fn complete(self) -> bool {
        self.memory && self.cpu && self.pids
    }
}

impl V2 {
    /// Makes the directory `name` below `parent` and hands the parent's controllers down to it.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn create(parent: &Path, name: &str) -> Result<Self, CgroupError> {
        let offered = std::fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        let controllers = Controllers::parse(&offered);
        let base = parent.join(name);
        make_dir(&base)?;
        if controllers != Controllers::default() {
            write(&base.join("cgroup.subtree_control"), &controllers.enable())?;
        }
        let filters = Filter::load(&[]).is_ok();
        Ok(Self { base, controllers, filters, pool: Vec::new(), next: 0 })
    }

    fn dir(&self, id: u32) -> PathBuf {
        self.base.join(format!("g{id}"))
    }

    fn make(&mut self, limits: &Limits) -> Result<Group, CgroupError> {
        let id = self.next;
        self.next += 1;
        let dir = self.dir(id);
        make_dir(&dir)?;
        if self.controllers.memory {
            // An OOM ends the attempt as a whole, not one process of it at random.
            let _ = write(&dir.join("memory.oom.group"), "1");
        }
        let oom = if self.controllers.memory { Some(open(&dir.join("memory.events"), false)?) } else { None };
        let group = Group {
            id,
            members: Arc::new(members(&dir)?),
            join: Vec::new(),
            into: Some(open_dir(&dir)?),
            data_limit: 0,
            limits: Limits::default(),
            oom,
            oom_kills: 0,
            filter: None,
        };
        self.limited(group, limits)
    }

    fn limited(&self, mut group: Group, limits: &Limits) -> Result<Group, CgroupError> {
        let dir = self.dir(group.id);
        for (file, value) in changed(self.controllers, &group.limits, limits) {
            // Machines without swap accounting lack this one file.
            if file == "memory.swap.max" && !dir.join(file).exists() {
                continue;
            }
            write(&dir.join(file), &value)?;
        }
        if self.filters && group.limits.denied != limits.denied {
            deny(&mut group, &limits.denied)
                .map_err(|e| CgroupError::file("cannot deny devices in", &dir, e))?;
        }
        group.limits = limits.clone();
        Ok(group)
    }
}

/// The new filter is in force before the old one is not any more.
fn deny(group: &mut Group, denied: &[Node]) -> std::io::Result<()> {
    let Some(into) = &group.into else { return Ok(()) };
    let fresh = if denied.is_empty() { None } else { Some(Filter::load(denied)?) };
    if let Some(filter) = &fresh {
        filter.attach(into)?;
    }
    if let Some(old) = std::mem::replace(&mut group.filter, fresh) {
        old.detach(into)?;
    }
    Ok(())
}

/// The control files to write, with their values, to go from one set of limits to another.
fn changed(has: Controllers, old: &Limits, new: &Limits) -> Vec<(&'static str, String)> {
    let or_max = |n: u64| if n == 0 { "max".to_owned() } else { n.to_string() };
    let mut files = Vec::new();
    if has.memory && old.memory_bytes != new.memory_bytes {
        files.push(("memory.max", or_max(new.memory_bytes)));
        // With swap left open a limit would only move the memory to disk.
        files
            .push(("memory.swap.max", if new.memory_bytes == 0 { "max".to_owned() } else { "0".to_owned() }));
    }
    if has.pids && old.pids != new.pids {
        files.push(("pids.max", or_max(u64::from(new.pids))));
    }
    if has.cpu && old.cpu_millis != new.cpu_millis {
        files.push((
            "cpu.weight",
            if new.cpu_millis == 0 { "100".to_owned() } else { new.weight().to_string() },
        ));
    }
    if has.cpu && old.quota_us() != new.quota_us() {
        files.push((
            "cpu.max",
            format!("{} 100000", new.quota_us().map_or("max".to_owned(), |us| us.to_string())),
        ));
    }
    files
}

pub(super) fn members(dir: &Path) -> Result<Members, CgroupError> {
    Ok(Members::V2 {
        kill: open(&dir.join("cgroup.kill"), true).ok(),
        freeze: open(&dir.join("cgroup.freeze"), true)?,
        procs: open(&dir.join("cgroup.procs"), false)?,
        events: open(&dir.join("cgroup.events"), false)?,
        spent: false.into(),
    })
}

impl Backend for V2 {
    fn kind(&self) -> Kind {
        Kind::V2
    }

    fn open(&mut self, limits: &Limits) -> Result<Group, CgroupError> {
        let equal = self.pool.iter().rposition(|g| g.limits == *limits);
        if let Some(at) = equal.or(self.pool.len().checked_sub(1)) {
            let group = self.pool.swap_remove(at);
            let id = group.id;
            if let Ok(group) = self.limited(group, limits) {
                return Ok(group);
            }
            let _ = std::fs::remove_dir(self.dir(id));
        }
        self.make(limits)
    }

    fn close(&mut self, group: Group) {
        if self.pool.len() < POOL_MAX && !group.members.spent() {
            self.pool.push(group);
        } else {
            let _ = std::fs::remove_dir(self.dir(group.id));
        }
    }

    fn bases(&self) -> Vec<PathBuf> {
        vec![self.base.clone()]
    }

    fn denies_devices(&self) -> Result<(), String> {
        Filter::load(&[]).map(|_| ()).map_err(|e| format!("the kernel takes no device filter: {e}"))
    }

    fn remove(&mut self) {
        for group in std::mem::take(&mut self.pool) {
            let _ = std::fs::remove_dir(self.dir(group.id));
        }
        let _ = std::fs::remove_dir(&self.base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Controllers = Controllers { memory: true, cpu: true, pids: true };

    #[test]
    fn controllers_are_read_and_handed_down() {
        assert_eq!(Controllers::parse("cpuset cpu io memory hugetlb pids rdma"), ALL);
        assert_eq!(ALL.enable(), "+cpu +memory +pids");
        assert_eq!(Controllers::parse("cpuset io").enable(), "");
    }

    #[test]
    fn limits_become_control_files() {
        let limits =
            Limits { cpu_millis: 1500, cpu_quota: true, memory_bytes: 4096, pids: 64, ..Limits::default() };
        let files = changed(ALL, &Limits::default(), &limits);
        let expected = [
            ("memory.max", "4096"),
            ("memory.swap.max", "0"),
            ("pids.max", "64"),
            ("cpu.weight", "150"),
            ("cpu.max", "150000 100000"),
        ];
        assert_eq!(files, expected.map(|(f, v)| (f, v.to_owned())));
    }

    #[test]
    fn a_pooled_group_is_written_only_where_it_differs() {
        let limits = Limits { cpu_millis: 1000, memory_bytes: 4096, pids: 64, ..Limits::default() };
        assert_eq!(changed(ALL, &limits, &limits), []);
        let freed = changed(ALL, &limits, &Limits { memory_bytes: 0, ..limits.clone() });
        assert_eq!(freed, [("memory.max", "max".to_owned()), ("memory.swap.max", "max".to_owned())]);
    }

    #[test]
    fn a_missing_controller_is_left_out() {
        let limits = Limits { cpu_millis: 1000, memory_bytes: 4096, pids: 64, ..Limits::default() };
        assert_eq!(
            changed(Controllers { pids: true, ..Controllers::default() }, &Limits::default(), &limits),
            [("pids.max", "64".to_owned())]
        );
    }
}
