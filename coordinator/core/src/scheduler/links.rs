//! Which devices of a worker are close enough to each other for `link:`.

use crate::model::resources::GpuLink;
use crate::model::worker::{Device, LinkClass};

/// Steps of the search for devices that are all joined. A machine has at most 16 of them, mostly all to all, where the first try fits;
/// the bound is for a fingerprint that makes no sense.
const STEPS_MAX: usize = 20_000;

/// `count` of the `free` device numbers that are linked as asked, ascending; none when there are no such.
pub(super) fn linked(link: GpuLink, devices: &[Device], free: &[u16], count: usize) -> Option<Vec<u16>> {
    if free.len() < count {
        return None;
    }
    match link {
        _ if count <= 1 => Some(free[..count].to_vec()),
        // Whoever does not ask gets the best that there is all the same: it costs nobody anything.
        GpuLink::Any => {
            let has_links = devices.iter().any(|device| !device.links.is_empty());
            let near = || linked(GpuLink::Nvlink, devices, free, count);
            let near = has_links.then(near).flatten().or_else(|| same_numa(devices, free, count));
            Some(near.unwrap_or_else(|| free[..count].to_vec()))
        }
        GpuLink::SameNuma => same_numa(devices, free, count),
        GpuLink::Nvlink => {
            let mut steps = STEPS_MAX;
            joined(devices, &mut Vec::new(), free, count, &mut steps)
        }
    }
}

/// All on one node: the fullest node that has enough, so that the others keep more.
fn same_numa(devices: &[Device], free: &[u16], count: usize) -> Option<Vec<u16>> {
    let node = |number: u16| devices.get(usize::from(number)).and_then(|d| d.numa);
    let mut nodes: Vec<u16> = free.iter().filter_map(|n| node(*n)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let on = |wanted: u16| free.iter().copied().filter(move |n| node(*n) == Some(wanted));
    let best = nodes.into_iter().filter(|n| on(*n).count() >= count).min_by_key(|n| (on(*n).count(), *n))?;
    Some(on(best).take(count).collect())
}

/// Devices each of which has an `NVLink` to every other.
fn joined(
    devices: &[Device],
    chosen: &mut Vec<u16>,
    candidates: &[u16],
    count: usize,
    steps: &mut usize,
) -> Option<Vec<u16>> {
    if chosen.len() == count {
        return Some(chosen.clone());
    }
    for (i, candidate) in candidates.iter().enumerate() {
        if candidates.len() - i < count - chosen.len() || *steps == 0 {
            return None;
        }
        *steps -= 1;
        let peers: Vec<u16> =
            candidates[i + 1..].iter().copied().filter(|n| is_joined(devices, *candidate, *n)).collect();
        chosen.push(*candidate);
        if let Some(found) = joined(devices, chosen, &peers, count, steps) {
            return Some(found);
        }
        chosen.pop();
    }
    None
}

fn is_joined(devices: &[Device], a: u16, b: u16) -> bool {
    let has = |from: u16, to: u16| {
        devices
            .get(usize::from(from))
            .is_some_and(|d| d.links.iter().any(|l| l.peer == to && l.class == LinkClass::Nvlink))
    };
    has(a, b) || has(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::worker::Link;

    /// Devices of one node each four, with NVLinks between these pairs.
    fn machine(count: u16, pairs: &[(u16, u16)]) -> Vec<Device> {
        let device = |n: u16| Device {
            numa: Some(n / 4),
            links: pairs
                .iter()
                .filter(|(a, _)| *a == n)
                .map(|(_, b)| Link { peer: *b, class: LinkClass::Nvlink, lanes: 4 })
                .collect(),
            ..Device::default()
        };
        (0..count).map(device).collect()
    }

    #[test]
    fn devices_are_on_one_node_or_joined_each_to_each() {
        let pairs = [(0, 1), (2, 3), (3, 4), (2, 4), (5, 6)];
        let eight = machine(8, &pairs);
        let all: Vec<u16> = (0..8).collect();
        for (link, free, count, picked) in [
            (GpuLink::Any, &all[..], 5, Some(vec![0, 1, 2, 3, 4])),
            (GpuLink::SameNuma, &all[1..], 3, Some(vec![1, 2, 3])),
            (GpuLink::SameNuma, &all[1..], 4, Some(vec![4, 5, 6, 7])),
            (GpuLink::SameNuma, &all, 5, None),
            (GpuLink::Nvlink, &all, 2, Some(vec![0, 1])),
            (GpuLink::Nvlink, &all, 3, Some(vec![2, 3, 4])),
            (GpuLink::Nvlink, &all, 4, None),
            (GpuLink::Nvlink, &all[7..], 1, Some(vec![7])),
        ] {
            assert_eq!(linked(link, &eight, free, count), picked, "{link:?} {count} of {free:?}");
        }
    }
}
