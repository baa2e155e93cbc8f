//! I4: no more of a device is granted than there is of it, and processes never use more of it in truth. (The other sums are
//! `State::check`'s.) Nothing is granted of a device in quarantine, and no event of a device is settled before it is durable. Which devices are
//! in quarantine is counted here from the commands alone.

use crate::world::World;
use muster_core::command::Command;
use muster_core::model::device_event::{Returns, Verdict};
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::placement::{Seat, Share, WHOLE};
use muster_core::model::worker::Incarnation;
use muster_core::reply::Reply;
use std::collections::BTreeMap;

/// Devices in quarantine, and who may return them; the last event of each worker's incarnation that is in the log.
#[derive(Debug, Default)]
pub struct Health {
    out: BTreeMap<String, Returns>,
    seen: BTreeMap<(WorkerId, Incarnation), u64>,
}

/// A command was applied and answered.
pub(crate) fn on_applied(world: &mut World, command: &Command, reply: &Reply) {
    let health = &mut world.oracle.health;
    match (command, reply) {
        (Command::DeviceEvents { worker, incarnation, events }, Reply::Done) => {
            let seen = health.seen.entry((*worker, incarnation.clone())).or_default();
            for judged in events {
                if judged.event.seq <= *seen {
                    continue;
                }
                *seen = judged.event.seq;
                let uuid = &judged.event.uuid;
                match judged.verdict {
                    Verdict::Quarantine { returns, .. } => {
                        let harder = health.out.get(uuid).copied().unwrap_or(returns).min(returns);
                        health.out.insert(uuid.clone(), harder);
                    }
                    Verdict::Recover if health.out.get(uuid) == Some(&Returns::Probe) => {
                        health.out.remove(uuid);
                    }
                    Verdict::Recover | Verdict::Note => {}
                }
            }
        }
        (Command::ReturnDevice { uuid, .. }, Reply::Changed { indices: 1 }) => {
            health.out.remove(uuid);
        }
        _ => {}
    }
}

/// A worker is told that events of its devices up to this one are durable.
pub(crate) fn on_settled(world: &mut World, w: usize, seq: u64) {
    let incarnation = world.machines[w].incarnation();
    let seen = world.oracle.health.seen.iter().find(|((_, i), _)| *i == incarnation).map_or(0, |(_, s)| *s);
    if seq > seen {
        world.violate(format!("I4: w{w} is told that event {seq} of its devices is durable, and {seen} is"));
    }
}

pub(crate) fn on_granted(world: &mut World, m: usize, token: Token, seats: &[Seat]) {
    for seat in seats {
        let worker = world.members[m].state.worker(seat.worker);
        let uuids = seat.devices.iter().filter_map(|s| worker?.spec.devices.get(usize::from(s.device)));
        let sick = uuids.map(|d| &d.uuid).find(|uuid| world.oracle.health.out.contains_key(*uuid)).cloned();
        if let Some(uuid) = sick {
            world.violate(format!("I4: device {uuid} went to token {token} while it is in quarantine"));
        }
    }
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
