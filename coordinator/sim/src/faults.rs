//! What breaks, when, and for how long: chosen by the seed, mended after a while, and all of it at the heal.

use crate::event::Event;
use crate::options::{MEMBERS, Options};
use crate::rng::Rng;
use crate::world::World;
use muster_core::command::Command;
use muster_core::model::device_event::DeviceEventKind;
use muster_core::model::lease::LEADER_LEASE_MS;

/// One thing that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillMember(usize),
    PauseMember(usize),
    CutMember(usize),
    CutMembers(usize, usize),
    Flap,
    KillAgent(usize),
    PauseAgent(usize),
    CrashMachine(usize),
    CutWorker(usize),
    CutWorkerFrom(usize, usize),
    /// A member and a worker, together, from the rest.
    CutTogether(usize, usize),
    /// A device of a worker: an even one falls off the bus until an operator returns it, an odd one gets hot.
    SickenDevice(usize, usize),
    /// A machine is reclaimed, or threatened with it.
    Reclaim(usize),
}

impl Fault {
    /// A number for the trace.
    #[must_use]
    pub fn number(self) -> u64 {
        let (kind, a, b) = match self {
            Self::KillMember(m) => (1, m, 0),
            Self::PauseMember(m) => (2, m, 0),
            Self::CutMember(m) => (3, m, 0),
            Self::CutMembers(a, b) => (4, a, b),
            Self::Flap => (5, 0, 0),
            Self::KillAgent(w) => (6, w, 0),
            Self::PauseAgent(w) => (7, w, 0),
            Self::CrashMachine(w) => (8, w, 0),
            Self::CutWorker(w) => (9, w, 0),
            Self::CutWorkerFrom(w, m) => (10, w, m),
            Self::CutTogether(m, w) => (11, m, w),
            Self::SickenDevice(w, d) => (12, w, d),
            Self::Reclaim(w) => (13, w, 0),
        };
        kind * 10_000 + a as u64 * 100 + b as u64
    }
}

/// What is broken now.
pub struct Faults {
    pub rng: Rng,
    every_ms: u64,
    active: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(options: &Options) -> Self {
        Self { rng: Rng::new(options.seed, "faults"), every_ms: options.fault_every_ms, active: Vec::new() }
    }
}

impl World {
    /// Breaks something and chooses when the next thing breaks.
    pub(crate) fn next_fault(&mut self) {
        if self.healed || self.faults.every_ms == 0 {
            return;
        }
        let every = self.faults.every_ms;
        let next = self.faults.rng.range(every / 4, every * 2);
        self.at(next, Event::NextFault);
        let (m, other) = (self.faults.rng.index(MEMBERS), self.faults.rng.index(MEMBERS));
        let w = self.faults.rng.index(self.machines.len());
        // The leader and the busy are those whose loss shows something.
        let busiest = (0..self.machines.len()).max_by_key(|w| self.machines[*w].processes.len());
        let w = busiest.filter(|_| self.faults.rng.chance(400)).unwrap_or(w);
        let m = self.cluster.leader.filter(|_| self.faults.rng.chance(400)).unwrap_or(m);
        let gpus = self.machines[w].spec.devices.len();
        let d = if gpus == 0 { 0 } else { self.faults.rng.index(gpus) };
        let fault = match self.faults.rng.below(22) {
            20.. => Fault::Reclaim(w),
            17.. if gpus > 0 => Fault::SickenDevice(w, d),
            0 | 1 => Fault::KillMember(m),
            2 => Fault::PauseMember(m),
            3 => Fault::CutMember(m),
            4 => Fault::CutMembers(m, other),
            5 => Fault::Flap,
            6 | 7 => Fault::KillAgent(w),
            8 | 9 => Fault::PauseAgent(w),
            10 => Fault::CrashMachine(w),
            11 => Fault::CutWorker(w),
            12 => Fault::CutWorkerFrom(w, m),
            _ => {
                let m = self.cluster.leader.unwrap_or(m);
                // One that works and speaks to it directly: it hears a leader that the others have replaced.
                let direct = |w: &usize| {
                    let session = self.machines[*w].session.and_then(|s| self.network.sessions.get(&s));
                    session.is_some_and(|s| s.via == m)
                };
                let directs = (0..self.machines.len()).filter(direct);
                let busiest = directs.max_by_key(|w| self.machines[*w].processes.len());
                Fault::CutTogether(m, busiest.unwrap_or(w))
            }
        };
        self.at(0, Event::Break(fault));
    }

    pub(crate) fn break_it(&mut self, fault: Fault) {
        if self.break_now(fault) && fault != Fault::Flap {
            let lasts = self.duration(fault);
            self.at(lasts, Event::Mend(fault));
        }
    }

    /// False if it is broken already.
    pub(crate) fn break_now(&mut self, fault: Fault) -> bool {
        if self.healed || self.faults.active.contains(&fault) {
            return false;
        }
        match fault {
            Fault::KillMember(m) | Fault::PauseMember(m) if !self.members[m].up => return false,
            Fault::KillMember(m) => self.kill_member(m),
            Fault::PauseMember(m) => self.members[m].paused = true,
            Fault::CutMember(m) => {
                for o in (0..MEMBERS).filter(|o| *o != m) {
                    self.network.cuts.insert((m.min(o), m.max(o)));
                }
            }
            Fault::CutMembers(a, b) => {
                self.network.cuts.insert((a.min(b), a.max(b)));
            }
            Fault::Flap => self.elect(),
            Fault::KillAgent(w) | Fault::PauseAgent(w) if self.machines[w].agent.is_none() => return false,
            Fault::KillAgent(w) => self.kill_agent(w),
            Fault::PauseAgent(w) => self.machines[w].paused = true,
            Fault::CrashMachine(w) if !self.machines[w].is_on => return false,
            Fault::CrashMachine(w) => self.crash_machine(w),
            Fault::CutWorker(w) => (0..MEMBERS).for_each(|m| {
                self.network.worker_cuts.insert((w, m));
            }),
            Fault::CutWorkerFrom(w, m) => {
                self.network.worker_cuts.insert((w, m));
            }
            Fault::Reclaim(w) if !self.reclaim(w) => return false,
            Fault::Reclaim(_) => {}
            Fault::SickenDevice(w, _) if self.machines[w].agent.is_none() => return false,
            Fault::SickenDevice(w, d) => {
                let uuid = self.machines[w].spec.devices[d].uuid.clone();
                self.machines[w].sick.insert(uuid.clone());
                let kind =
                    if d.is_multiple_of(2) { DeviceEventKind::Xid(79) } else { DeviceEventKind::Thermal };
                self.see(w, vec![uuid], &kind);
                // One that does not answer any more, and somebody who thinks that the agent is what hangs.
                if self.faults.rng.chance(300) {
                    self.kill_agent(w);
                }
            }
            Fault::CutTogether(m, w) => {
                for o in (0..MEMBERS).filter(|o| *o != m) {
                    self.network.cuts.insert((m.min(o), m.max(o)));
                    self.network.worker_cuts.insert((w, o));
                }
            }
        }
        self.stats.faults += 1;
        if fault != Fault::Flap {
            self.faults.active.push(fault);
        }
        self.break_cut_sessions();
        self.watch_election();
        true
    }

    /// How long it lasts, ms.
    fn duration(&mut self, fault: Fault) -> u64 {
        if let Fault::Reclaim(w) = fault {
            return self.lasts(w);
        }
        let often = if self.options.hostile { 40_000 } else { 4_000 };
        let longest = self.faults.rng.pick(&[1_000, often, 15_000, 40_000]);
        // What is soon back has leases that still count.
        let soon =
            matches!(fault, Fault::KillAgent(_) | Fault::CrashMachine(_)) && self.faults.rng.chance(500);
        let longest = if soon { 1_500 } else { longest };
        // Two sides that each go on for less than a lease never meet.
        let shortest = if matches!(fault, Fault::CutTogether(..)) { LEADER_LEASE_MS } else { 50 };
        self.faults.rng.range(shortest, longest.max(2 * shortest))
    }

    /// A rolling upgrade under load: one member after another hands over, goes down and comes back, then one agent after another. It
    /// waits for what is down, as an operator would, and does not wait for what is merely slow.
    pub(crate) fn roll(&mut self, step: usize) {
        if self.healed || step >= MEMBERS + self.machines.len() {
            return;
        }
        let all_up = self.members.iter().all(|m| m.up);
        let (fault, ready) = match step.checked_sub(MEMBERS) {
            None => (Fault::KillMember(step), all_up),
            Some(w) => (Fault::KillAgent(w), true),
        };
        if !ready {
            self.at(500, Event::Roll { step });
            return;
        }
        if step < MEMBERS {
            self.hand_over(step);
        }
        let lasts = self.faults.rng.range(200, 2_500);
        if self.break_now(fault) {
            self.at(lasts, Event::Mend(fault));
        }
        let pause = self.faults.rng.range(100, 3_000);
        self.at(lasts + pause, Event::Roll { step: step + 1 });
    }

    pub(crate) fn mend(&mut self, fault: Fault) {
        let Some(position) = self.faults.active.iter().position(|f| *f == fault) else { return };
        self.faults.active.remove(position);
        match fault {
            Fault::KillMember(m) => self.start_member(m),
            Fault::PauseMember(m) => {
                self.members[m].paused = false;
                let stalled = std::mem::take(&mut self.members[m].stalled);
                stalled.into_iter().for_each(|event| self.at(0, event));
            }
            Fault::CutMember(_) | Fault::CutMembers(..) => self.recount_cuts(),
            Fault::CutWorker(_) | Fault::CutWorkerFrom(..) | Fault::CutTogether(..) => self.recount_cuts(),
            Fault::Flap => {}
            Fault::KillAgent(w) => self.start_agent(w),
            Fault::PauseAgent(w) => {
                self.machines[w].paused = false;
                let stalled = std::mem::take(&mut self.machines[w].stalled);
                stalled.into_iter().for_each(|event| self.at(0, event));
                self.say(w);
            }
            Fault::Reclaim(w) => self.reclaimed(w),
            Fault::CrashMachine(w) => self.boot_machine(w),
            Fault::SickenDevice(w, d) => {
                self.start_agent(w);
                let uuid = self.machines[w].spec.devices[d].uuid.clone();
                self.machines[w].sick.remove(&uuid);
                if d.is_multiple_of(2) {
                    let request = self.clients.request();
                    let reason = "a new one".to_owned();
                    self.plan_op(100, Command::ReturnDevice { request, uuid, reason }, false);
                }
            }
        }
        (0..MEMBERS).for_each(|member| self.at(20, Event::CatchUp { member }));
        self.watch_election();
    }

    /// Two cuts may share an edge: what is cut is what an active fault says.
    fn recount_cuts(&mut self) {
        self.network.cuts.clear();
        self.network.worker_cuts.clear();
        for fault in &self.faults.active {
            match *fault {
                Fault::CutMember(m) => {
                    let others = (0..MEMBERS).filter(|o| *o != m).map(|o| (m.min(o), m.max(o)));
                    self.network.cuts.extend(others);
                }
                Fault::CutMembers(a, b) => {
                    self.network.cuts.insert((a.min(b), a.max(b)));
                }
                Fault::CutWorker(w) => self.network.worker_cuts.extend((0..MEMBERS).map(|m| (w, m))),
                Fault::CutWorkerFrom(w, m) => {
                    self.network.worker_cuts.insert((w, m));
                }
                Fault::CutTogether(m, w) => {
                    let others = || (0..MEMBERS).filter(move |o| *o != m);
                    self.network.cuts.extend(others().map(|o| (m.min(o), m.max(o))));
                    self.network.worker_cuts.extend(others().map(|o| (w, o)));
                }
                _ => {}
            }
        }
    }

    /// Everything is mended, nothing breaks any more, what is held is released again and again.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        for fault in self.faults.active.clone() {
            self.mend(fault);
        }
        self.network.loss_permille = 0;
        self.network.duplicate_permille = 0;
        self.network.late_permille = 0;
        self.cloud_heals();
        self.at(100, Event::ReleaseHeld);
    }
}
