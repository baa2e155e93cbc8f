//! The numbers of a worker's devices. Seats name devices by number, and a driver numbers those that answer: when one has died and only the
//! agent is started again, those behind it move up. So while anything of the worker is granted, its devices keep the numbers they had.

use crate::model::worker::{Device, Link};
use std::collections::BTreeMap;

/// Puts `new`, as the worker names its devices now, in the order of `old`: each device keeps its number, one that is not named any more is
/// `absent`, and new ones follow. Returns the UUIDs of those that were there until now.
pub(super) fn keep_numbers(old: &[Device], new: &mut Vec<Device>) -> Vec<String> {
    if old.len() == new.len() && old.iter().zip(&*new).all(|(old, new)| old.uuid == new.uuid) {
        return Vec::new();
    }
    let named: Vec<Device> = std::mem::take(new);
    let known = |uuid: &str| named.iter().find(|device| device.uuid == uuid);
    let mut gone = Vec::new();
    for device in old {
        match known(&device.uuid) {
            Some(device) => new.push(device.clone()),
            None => {
                if !device.absent {
                    gone.push(device.uuid.clone());
                }
                new.push(Device { absent: true, links: Vec::new(), ..device.clone() });
            }
        }
    }
    new.extend(named.iter().filter(|device| old.iter().all(|o| o.uuid != device.uuid)).cloned());
    // Links name their peers by the numbers that these have at the worker.
    let numbers: BTreeMap<&str, u16> = (0..).zip(&*new).map(|(n, d)| (d.uuid.as_str(), n)).collect();
    let moved: Vec<u16> =
        named.iter().map(|device| numbers.get(device.uuid.as_str()).copied().unwrap_or(u16::MAX)).collect();
    for device in new.iter_mut().filter(|device| !device.absent) {
        let peers = device.links.iter().filter_map(|link| {
            let peer = *moved.get(usize::from(link.peer))?;
            Some(Link { peer, ..*link })
        });
        device.links = peers.collect();
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::worker::LinkClass;

    fn device(uuid: &str, peers: &[u16]) -> Device {
        let link = |peer: &u16| Link { peer: *peer, class: LinkClass::Nvlink, lanes: 4 };
        Device { uuid: uuid.to_owned(), links: peers.iter().map(link).collect(), ..Device::default() }
    }

    fn told(devices: &[Device]) -> Vec<(&str, bool, Vec<u16>)> {
        let peers = |device: &Device| device.links.iter().map(|link| link.peer).collect();
        devices.iter().map(|d| (d.uuid.as_str(), d.absent, peers(d))).collect()
    }

    #[test]
    fn a_device_keeps_its_number_when_one_before_it_has_died() {
        let old = [device("a", &[1]), device("b", &[0, 2]), device("c", &[1])];
        // `a` does not answer any more; the driver numbers the others from 0, and there is a new one.
        let mut new = vec![device("b", &[1]), device("c", &[0, 2]), device("d", &[1])];
        assert_eq!(keep_numbers(&old, &mut new), ["a"]);
        let expected =
            [("a", true, vec![]), ("b", false, vec![2]), ("c", false, vec![1, 3]), ("d", false, vec![2])];
        assert_eq!(told(&new), expected);
        // Said again it is no news, and `a` may come back.
        let before = new.clone();
        let mut again = vec![device("b", &[1]), device("c", &[0, 2]), device("d", &[1])];
        assert!(keep_numbers(&before, &mut again).is_empty());
        assert_eq!(again, before);
        let mut back = vec![device("a", &[1]), device("b", &[0]), device("c", &[]), device("d", &[])];
        assert!(keep_numbers(&before, &mut back).is_empty());
        assert_eq!(told(&back)[..2], [("a", false, vec![1]), ("b", false, vec![0])]);
    }

    #[test]
    fn the_same_devices_in_another_order_keep_their_numbers() {
        let old = [device("a", &[1]), device("b", &[0])];
        let mut new = vec![device("b", &[1]), device("a", &[0])];
        assert!(keep_numbers(&old, &mut new).is_empty());
        assert_eq!(new, old);
    }
}
