//! What is near what: NVLinks, the PCIe tree, NUMA nodes, CPUs.

use super::inventory::Found;
use crate::devices::{Link, LinkClass};
use nvml_wrapper::enum_wrappers::device::TopologyLevel;
use nvml_wrapper::{Device as Handle, Nvml};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most NVLinks of a GPU, as NVML numbers them.
pub const LINKS_MAX: u32 = 18;
/// Words of a CPU mask: machines of 4,096 CPUs.
const MASK_WORDS: usize = 64;
const WORD_BITS: u32 = u64::BITS;

/// Fills in the links of all whole GPUs. Instances have none: peer access does not reach into a divided GPU.
pub fn link(nvml: &Nvml, found: &mut [Found<'_>]) {
    let whole: Vec<usize> = (0..found.len()).filter(|n| found[*n].parent.is_none()).collect();
    let ports: Vec<Ports> = whole.iter().map(|n| ports(&found[*n].handle)).collect();
    let gpus: BTreeSet<String> = whole.iter().map(|n| found[*n].device.pci.clone()).collect();
    for (a, at) in whole.iter().enumerate() {
        let mut links = Vec::new();
        for (b, other) in whole.iter().enumerate().filter(|(b, _)| *b != a) {
            let ends = (found[*at].device.pci.as_str(), found[*other].device.pci.as_str());
            let lanes = lanes((&ports[a], &ports[b]), ends, &gpus);
            let peer = found[*other].device.index;
            if lanes > 0 {
                links.push(Link { peer, class: LinkClass::Nvlink, lanes });
            } else if let Some(class) = ancestor(nvml, &found[*at].handle, &found[*other].handle) {
                links.push(Link { peer, class, lanes: 0 });
            }
        }
        found[*at].device.links = links;
    }
}

/// The far ends of a GPU's active NVLinks, by PCI id, with how many lead there.
type Ports = BTreeMap<String, u32>;

fn ports(handle: &Handle<'_>) -> Ports {
    let mut ports = Ports::new();
    for number in 0..LINKS_MAX {
        let link = handle.link_wrapper_for(number);
        if link.is_active().unwrap_or(false)
            && let Ok(far) = link.remote_pci_info()
        {
            *ports.entry(super::inventory::short_pci(&far.bus_id)).or_default() += 1;
        }
    }
    ports
}

/// Direct links, or, when both lead to the same switches, what the narrower end has there. A third GPU is no switch.
fn lanes((a, b): (&Ports, &Ports), (pci_a, pci_b): (&str, &str), gpus: &BTreeSet<String>) -> u32 {
    if let Some(direct) = a.get(pci_b).or_else(|| b.get(pci_a)) {
        return *direct;
    }
    let switches = a.iter().filter(|(end, _)| !gpus.contains(*end));
    switches.filter_map(|(switch, n)| b.get(switch).map(|m| *n.min(m))).sum()
}

fn ancestor(nvml: &Nvml, a: &Handle<'_>, b: &Handle<'_>) -> Option<LinkClass> {
    // The call takes its second device by value.
    // SAFETY: the handle is a live one of the same library.
    let b = unsafe { Handle::new(b.handle(), nvml) };
    Some(match a.topology_common_ancestor(b).ok()? {
        TopologyLevel::Internal => LinkClass::Board,
        TopologyLevel::Single => LinkClass::Switch,
        TopologyLevel::Multiple => LinkClass::Switches,
        TopologyLevel::HostBridge => LinkClass::HostBridge,
        TopologyLevel::Node => LinkClass::Node,
        TopologyLevel::System => LinkClass::System,
    })
}

/// CPUs near a GPU, as its driver says; empty when it does not.
pub fn near_cpus(handle: &Handle<'_>) -> Vec<u32> {
    let mask = handle.cpu_affinity(MASK_WORDS).unwrap_or_default();
    let words = (0u32..).zip(mask);
    words
        .flat_map(|(n, word)| {
            (0..WORD_BITS).filter(move |b| word >> b & 1 == 1).map(move |b| n * WORD_BITS + b)
        })
        .collect()
}

/// The NUMA node of the slot, else of the nearest CPU. NVML's own number is another one: that of a GPU whose memory is a node itself.
pub fn numa_node(sys: &Path, pci: &str, cpus: &[u32]) -> Option<u32> {
    let slot = std::fs::read_to_string(sys.join("bus/pci/devices").join(pci).join("numa_node")).ok();
    // −1 in a slot of which the firmware does not tell.
    if let Some(node) = slot.and_then(|text| text.trim().parse().ok()) {
        return Some(node);
    }
    let first = cpus.first()?;
    let entries = std::fs::read_dir(sys.join(format!("devices/system/cpu/cpu{first}"))).ok()?;
    entries.flatten().find_map(|e| e.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports_of(ends: &[(&str, u32)]) -> Ports {
        ends.iter().map(|(end, n)| ((*end).to_owned(), *n)).collect()
    }

    #[test]
    fn links_are_direct_or_meet_in_switches() {
        let gpus = ["a", "b", "c"].map(str::to_owned).into();
        let between = |a: &Ports, b: &Ports| lanes((a, b), ("a", "b"), &gpus);
        assert_eq!(between(&ports_of(&[("b", 2)]), &ports_of(&[("a", 2)])), 2);
        let (a, b) = (ports_of(&[("s1", 3), ("s2", 3)]), ports_of(&[("s1", 3), ("s2", 2)]));
        assert_eq!(between(&a, &b), 5);
        assert_eq!(between(&ports_of(&[("c", 4)]), &ports_of(&[("c", 4)])), 0);
    }

    #[test]
    fn the_node_is_that_of_the_slot_else_of_the_nearest_cpu() {
        let sys = tempfile::tempdir().unwrap();
        let slot = |id: &str, node: &str| {
            let dir = sys.path().join("bus/pci/devices").join(id);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("numa_node"), node).unwrap();
        };
        slot("0000:07:00.0", "1\n");
        slot("0000:08:00.0", "-1\n");
        std::fs::create_dir_all(sys.path().join("devices/system/cpu/cpu3/node2")).unwrap();
        assert_eq!(numa_node(sys.path(), "0000:07:00.0", &[3]), Some(1));
        assert_eq!(numa_node(sys.path(), "0000:08:00.0", &[3]), Some(2));
        assert_eq!(numa_node(sys.path(), "0000:09:00.0", &[]), None);
    }
}
