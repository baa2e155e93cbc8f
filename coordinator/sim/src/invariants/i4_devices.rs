//! I4: no more of a device is granted than there is of it, and processes never use more of it in truth. (The other sums are
//! `State::check`'s.)

use crate::world::World;
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::placement::{Seat, Share, WHOLE};

pub(crate) fn on_granted(world: &mut World, token: Token, seats: &[Seat]) {
    for seat in seats {
        let live = world.oracle.live.values().flat_map(|(_, seats)| seats);
        let others = live.filter(|s| s.worker == seat.worker).flat_map(|s| &s.devices);
        if let Some((device, taken)) = too_much(&seat.devices, others) {
            let worker: WorkerId = seat.worker;
            let what = format!(
                "I4: device {device} of worker {worker} went to token {token} while {taken} thousandths of it were taken"
            );
            world.violate(what);
        }
    }
}

pub(crate) fn on_start(world: &mut World, w: usize, token: Token, devices: &[Share]) {
    let others = world.machines[w].processes.values().flat_map(|p| &p.devices);
    if let Some((device, taken)) = too_much(devices, others) {
        let what = format!(
            "I4: token {token} starts on device {device} of w{w} while {taken} thousandths of it are in use"
        );
        world.violate(what);
    }
}

/// The first device of which there is not so much left, and what others have of it.
fn too_much<'a>(wanted: &[Share], others: impl Iterator<Item = &'a Share> + Clone) -> Option<(u16, u32)> {
    wanted.iter().find_map(|share| {
        let taken = others.clone().filter(|o| o.device == share.device).map(|o| u32::from(o.milli)).sum();
        (taken + u32::from(share.milli) > u32::from(WHOLE)).then_some((share.device, taken))
    })
}
