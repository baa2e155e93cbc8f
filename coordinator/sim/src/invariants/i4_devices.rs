//! I4: a device is never granted to two tokens, and never used by two processes in truth. (Sums are `State::check`'s.)

use crate::world::World;
use muster_core::model::ids::{Token, WorkerId};

pub(crate) fn on_granted(world: &mut World, worker: WorkerId, token: Token, devices: &[u16]) {
    let taken =
        world.oracle.live.iter().find(|(_, (_, w, d))| *w == worker && d.iter().any(|d| devices.contains(d)));
    if let Some((other, _)) = taken {
        let what = format!(
            "I4: devices {devices:?} of worker {worker} went to token {token} while {other} has some of them"
        );
        world.violate(what);
    }
}

pub(crate) fn on_start(world: &mut World, w: usize, token: Token, devices: &[u16]) {
    let machine = &world.machines[w];
    let user = machine.processes.iter().find(|(_, p)| p.devices.iter().any(|d| devices.contains(d)));
    if let Some((other, _)) = user {
        let what = format!(
            "I4: token {token} starts on devices {devices:?} of w{w} while {other} uses some of them"
        );
        world.violate(what);
    }
}
