//! The numbers of a worker's devices. Seats name devices by number, and a driver numbers those that answer: when one has died and only the
//! agent is started again, those behind it move up. So while anything of the worker is granted, its devices keep the numbers they had.

use crate::model::worker::{Device, Link};
use std::collections::BTreeMap;

/// UUIDs of the GPUs that were there until now and are not named any more. An instance of MIG is not missed: those come and go by hand.
pub(super) fn vanished(old: &[Device], new: &[Device]) -> Vec<String> {
    let is_named = |device: &Device| new.iter().any(|other| other.uuid == device.uuid);
    let gone = old.iter().filter(|device| !device.absent && device.mig.is_none() && !is_named(device));
    gone.map(|device| device.uuid.clone()).collect()
}

/// Puts `new`, as the worker names its devices now, in the order of `old`: each device keeps its number, one that is not named any more is
/// `absent`, and new ones follow.
pub(super) fn keep_numbers(old: &[Device], new: &mut Vec<Device>) {
    if old.len() == new.len() && old.iter().zip(&*new).all(|(old, new)| old.uuid == new.uuid) {
        return;
    }
    let named: Vec<Device> = std::mem::take(new);
    let known = |uuid: &str| named.iter().find(|device| device.uuid == uuid).cloned();
    new.extend(old.iter().map(|device| {
        let absent = || Device { absent: true, links: Vec::new(), ..device.clone() };
        known(&device.uuid).unwrap_or_else(absent)
    }));
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
        assert_eq!(vanished(&old, &new), ["a"]);
        keep_numbers(&old, &mut new);
        let expected =
            [("a", true, vec![]), ("b", false, vec![2]), ("c", false, vec![1, 3]), ("d", false, vec![2])];
        assert_eq!(told(&new), expected);
        // Said again it is no news, and `a` may come back.
        let before = new.clone();
        let mut again = vec![device("b", &[1]), device("c", &[0, 2]), device("d", &[1])];
        assert!(vanished(&before, &again).is_empty());
        keep_numbers(&before, &mut again);
        assert_eq!(again, before);
        let mut back = vec![device("a", &[1]), device("b", &[0]), device("c", &[]), device("d", &[])];
        keep_numbers(&before, &mut back);
        assert_eq!(told(&back)[..2], [("a", false, vec![1]), ("b", false, vec![0])]);
    }

    #[test]
    fn the_same_devices_in_another_order_keep_their_numbers() {
        let old = [device("a", &[1]), device("b", &[0])];
        let mut new = vec![device("b", &[1]), device("a", &[0])];
        keep_numbers(&old, &mut new);
        assert_eq!(new, old);
    }
}
