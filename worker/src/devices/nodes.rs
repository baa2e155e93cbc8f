//! Which device nodes an attempt may not open: those of the GPUs that it was not given, and without any GPU the driver's own too.

use super::Device;
use crate::cgroup::devices::Node;
use std::collections::BTreeSet;
use std::path::Path;

/// NVIDIA's registered major number: `/dev/nvidia0` and on, and the control nodes at the upper end.
const NVIDIA: u32 = 195;
/// `/dev/nvidiactl` and `/dev/nvidia-modeset`.
const CONTROL: [u32; 2] = [255, 254];
/// `/dev/nvidia-uvm` and `/dev/nvidia-uvm-tools`.
const UVM: [u32; 2] = [0, 1];

/// The numbers that the kernel gave to the driver's other nodes when it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Majors {
    pub uvm: Option<u32>,
    /// Of `/dev/nvidia-caps`.
    pub caps: Option<u32>,
}

impl Majors {
    /// Of this machine.
    #[must_use]
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/devices").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let of = |name: &str| {
            let entry = |line: &str| {
                line.trim().split_once(' ').map(|(n, what)| (n.to_owned(), what.trim().to_owned()))
            };
            let (number, _) = text.lines().filter_map(entry).find(|(_, what)| what == name)?;
            number.parse().ok()
        };
        Self { uvm: of("nvidia-uvm"), caps: of("nvidia-caps") }
    }
}

/// What the processes of an attempt that was given the devices at `granted` may not open. Nothing on a machine without real devices.
#[must_use]
pub fn denied(all: &[Device], granted: &[usize], majors: Majors, dev: &Path) -> Vec<Node> {
    let real = || all.iter().filter(|device| !device.simulated);
    if real().next().is_none() {
        return Vec::new();
    }
    let given: Vec<&Device> = granted.iter().filter_map(|n| all.get(*n)).collect();
    let mine: BTreeSet<u32> = given.iter().filter_map(|device| device.minor).collect();
    // Nodes that exist and are not offered, such as a GPU that did not answer at the start, are nobody's either.
    let minors: BTreeSet<u32> = real().filter_map(|device| device.minor).chain(present(dev)).collect();
    let mut nodes: Vec<Node> =
        minors.difference(&mine).map(|minor| Node { major: NVIDIA, minor: *minor }).collect();
    if let Some(major) = majors.caps {
        let caps = |devices: &mut dyn Iterator<Item = &Device>| -> BTreeSet<u32> {
            devices.filter_map(|d| d.mig.as_ref()).flat_map(|mig| mig.caps.clone()).collect()
        };
        let (every, own) = (caps(&mut real()), caps(&mut given.iter().copied()));
        nodes.extend(every.difference(&own).map(|minor| Node { major, minor: *minor }));
    }
    if mine.is_empty() {
        nodes.extend(CONTROL.map(|minor| Node { major: NVIDIA, minor }));
        nodes.extend(majors.uvm.into_iter().flat_map(|major| UVM.map(|minor| Node { major, minor })));
    }
    nodes
}

/// The numbers of `nvidia0`, `nvidia1` … in a directory of nodes.
fn present(dev: &Path) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(dev).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok()).collect()
}

/// CPUs on which an attempt begins: those near its devices. Empty, which is all of them, where that is not known of each device, and
/// where the near ones are fewer than the attempt asked for.
#[must_use]
pub fn near(all: &[Device], granted: &[usize], cpu_millis: u32) -> Vec<u32> {
    let given: Vec<&Device> = granted.iter().filter_map(|n| all.get(*n)).collect();
    if given.is_empty() || given.iter().any(|device| device.cpus.is_empty()) {
        return Vec::new();
    }
    let cpus: BTreeSet<u32> = given.iter().flat_map(|device| device.cpus.iter().copied()).collect();
    let enough = cpus.len() as u64 * 1000 >= u64::from(cpu_millis);
    if enough { cpus.into_iter().collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Mig;

    fn gpus() -> Vec<Device> {
        let gpu =
            |n: u32| Device { index: n, minor: Some(n), cpus: vec![2 * n, 2 * n + 1], ..Device::default() };
        (0..3).map(gpu).collect()
    }

    fn numbers(nodes: &[Node]) -> Vec<(u32, u32)> {
        nodes.iter().map(|n| (n.major, n.minor)).collect()
    }

    #[test]
    fn a_task_with_gpus_may_not_open_those_of_others() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia7", "nvidiactl", "nvidia-uvm"] {
            std::fs::write(dev.path().join(name), "").unwrap();
        }
        let majors = Majors { uvm: Some(511), caps: None };
        let one = denied(&gpus(), &[1], majors, dev.path());
        assert_eq!(numbers(&one), [(195, 0), (195, 2), (195, 7)]);
        let none = denied(&gpus(), &[], majors, dev.path());
        let all = [(195, 0), (195, 1), (195, 2), (195, 7), (195, 255), (195, 254), (511, 0), (511, 1)];
        assert_eq!(numbers(&none), all);
    }

    #[test]
    fn an_instance_is_its_gpu_and_two_capabilities() {
        let instance = |n: u32, caps: Vec<u32>| Device {
            index: n,
            minor: Some(0),
            mig: Some(Mig { profile: "1g.10gb".into(), parent: "GPU-a".into(), caps }),
            ..Device::default()
        };
        let all = [instance(0, vec![3, 4]), instance(1, vec![12, 13])];
        let majors = Majors { uvm: None, caps: Some(237) };
        let first = denied(&all, &[0], majors, Path::new("/nonexistent"));
        assert_eq!(numbers(&first), [(237, 12), (237, 13)]);
    }

    #[test]
    fn simulated_devices_have_no_nodes() {
        let device = Device { simulated: true, ..Device::default() };
        assert_eq!(denied(&[device], &[], Majors::default(), Path::new("/dev")), []);
    }

    #[test]
    fn an_attempt_begins_near_all_its_devices_where_there_is_room() {
        assert_eq!(near(&gpus(), &[0, 2], 4000), [0, 1, 4, 5]);
        assert_eq!(near(&gpus(), &[0], 3000), [0; 0]);
        assert_eq!(near(&gpus(), &[], 1000), [0; 0]);
        let unknown = [Device::default()];
        assert_eq!(near(&unknown, &[0], 1000), [0; 0]);
    }

    #[test]
    fn the_kernel_names_its_majors() {
        let text =
            "Character devices:\n  1 mem\n195 nvidia\n237 nvidia-caps\n511 nvidia-uvm\n\nBlock devices:\n";
        assert_eq!(Majors::parse(text), Majors { uvm: Some(511), caps: Some(237) });
    }
}
