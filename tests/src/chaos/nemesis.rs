//! Does what the schedule says, heals it in time, and starts again what died without being killed: that is a violation of its own.

use super::faults::{Heal, Kind, On, Target};
use super::node::Role;
use super::schedule::Planned;
use super::sys::now_ns;
use super::world::World;
use muster_sim::Rng;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One thing that happened, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    pub at_ns: u64,
    pub kind: String,
    pub node: String,
    pub what: What,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Injected,
    Healed,
    /// Nobody could be struck, or the kernel refused.
    Failed,
    /// Healing failed.
    Stuck,
    /// A daemon ended by itself.
    Died,
}

/// What the faults came to.
#[derive(Debug, Default)]
pub struct Done {
    pub events: Vec<Event>,
}

impl Done {
    /// Faults that took effect.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.events.iter().filter(|e| e.what == What::Injected).count()
    }

    /// By kind.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for event in self.events.iter().filter(|e| e.what == What::Injected) {
            *counts.entry(event.kind.as_str()).or_default() += 1;
        }
        counts
    }
}

/// Counters for the line of progress.
#[derive(Debug, Default)]
pub struct Progress {
    pub faults: AtomicU64,
    pub in_force: AtomicU64,
}

struct InForce {
    until: Instant,
    kind: &'static Kind,
    nodes: Vec<String>,
    heal: Heal,
    work: Option<JoinHandle<anyhow::Result<()>>>,
}

impl InForce {
    fn is_over(&self, now: Instant) -> bool {
        self.until <= now && self.work.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn heal(self, world: &World) -> anyhow::Result<()> {
        (self.heal)(world)?;
        self.work.map_or(Ok(()), |work| work.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))))
    }
}

/// How often the daemons are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a fault waits for somebody whom it can strike.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the whole schedule; returns when `duration` is over or `stop` is set, with everything healed.
#[must_use]
pub fn run(
    world: &Arc<World>,
    schedule: &[Planned],
    duration: Duration,
    stop: &AtomicBool,
    progress: &Progress,
) -> Done {
    let start = Instant::now();
    let mut done = Done::default();
    let mut in_force: Vec<InForce> = Vec::new();
    let mut waiting: VecDeque<Planned> = schedule.iter().cloned().collect();
    while start.elapsed() < duration && !stop.load(Ordering::Relaxed) {
        in_force = heal_due(world, in_force, Some(Instant::now()), &mut done);
        while waiting.front().is_some_and(|p| start.elapsed() >= Duration::from_millis(p.at_ms)) {
            let Some(planned) = waiting.pop_front() else { break };
            match choose(world, planned.kind.on, planned.draw) {
                Some(nodes) => in_force.extend(strike(world, &planned, nodes, &mut done)),
                // What is healed just now is still taken: the others behind it wait too, so that their order stays.
                None if start.elapsed() < Duration::from_millis(planned.at_ms) + PATIENCE => {
                    waiting.push_front(planned);
                    break;
                }
                None => {
                    let why = "everybody it could strike is struck already";
                    note(&mut done, planned.kind.name, "", What::Failed, why);
                }
            }
        }
        progress.faults.store(done.faults() as u64, Ordering::Relaxed);
        progress.in_force.store(in_force.len() as u64, Ordering::Relaxed);
        revive(world, &mut done);
        std::thread::sleep(LOOK);
    }
    if stop.load(Ordering::Relaxed) {
        // Nobody waits for what an operator would finish: all ends with the run.
        in_force.retain(|fault| fault.work.is_none());
    }
    heal_due(world, in_force, None, &mut done);
    progress.in_force.store(0, Ordering::Relaxed);
    revive(world, &mut done);
    done
}

fn note(done: &mut Done, kind: &str, node: &str, what: What, detail: impl Into<String>) {
    let event =
        Event { at_ns: now_ns(), kind: kind.to_owned(), node: node.to_owned(), what, detail: detail.into() };
    done.events.push(event);
}

fn strike(world: &Arc<World>, planned: &Planned, nodes: Vec<String>, done: &mut Done) -> Option<InForce> {
    let kind = planned.kind;
    nodes.iter().for_each(|name| {
        world.take(name);
    });
    let node =
        if kind.on == On::Members { String::new() } else { nodes.first().cloned().unwrap_or_default() };
    let mut target =
        Target { node: node.clone(), rng: Rng::new(planned.draw, kind.name), millis: planned.for_ms };
    match (kind.inject)(world, &mut target) {
        Ok(injected) => {
            note(done, kind.name, &node, What::Injected, injected.detail);
            let until = Instant::now() + Duration::from_millis(planned.for_ms);
            Some(InForce { until, kind, nodes, heal: injected.heal, work: injected.work })
        }
        Err(error) => {
            note(done, kind.name, &node, What::Failed, format!("{error:#}"));
            nodes.iter().for_each(|name| world.give_back(name));
            None
        }
    }
}

/// Who is struck: among those that run and that no other fault has.
fn choose(world: &World, on: On, draw: u64) -> Option<Vec<String>> {
    let free = |role| {
        let names = world.names(role).into_iter();
        names.filter(|n| !world.is_taken(n) && world.node(n).is_running()).collect::<Vec<_>>()
    };
    let one = |names: Vec<String>| {
        let position = usize::try_from(draw % names.len().max(1) as u64).unwrap_or(0);
        names.into_iter().nth(position).map(|name| vec![name])
    };
    let leader = world.leader();
    match on {
        On::Nothing => Some(Vec::new()),
        On::Worker => one(free(Role::Worker)),
        On::Member => one(free(Role::Member)),
        On::Leader => {
            let free = free(Role::Member);
            match leader.filter(|leader| free.contains(leader)) {
                Some(leader) => Some(vec![leader]),
                None => one(free),
            }
        }
        On::Follower => one(free(Role::Member).into_iter().filter(|n| Some(n) != leader.as_ref()).collect()),
        On::Members => {
            let free = free(Role::Member);
            (free.len() == world.names(Role::Member).len()).then_some(free)
        }
    }
}

/// Heals what is due by `now`; everything without one, and what somebody still works at last: it may need the others healed.
fn heal_due(world: &World, in_force: Vec<InForce>, now: Option<Instant>, done: &mut Done) -> Vec<InForce> {
    let (mut due, rest): (Vec<_>, Vec<_>) =
        in_force.into_iter().partition(|fault| now.is_none_or(|now| fault.is_over(now)));
    due.sort_by_key(|fault| fault.work.is_some());
    for fault in due {
        let (kind, nodes) = (fault.kind.name, fault.nodes.clone());
        let node = nodes.first().cloned().unwrap_or_default();
        match fault.heal(world) {
            Ok(()) => note(done, kind, &node, What::Healed, ""),
            Err(error) => note(done, kind, &node, What::Stuck, format!("{error:#}")),
        }
        nodes.iter().for_each(|name| world.give_back(name));
    }
    rest
}

/// Starts what ended by itself. What a fault has is its own business until it is healed.
fn revive(world: &World, done: &mut Done) {
    for name in world.names(Role::Member).into_iter().chain(world.names(Role::Worker)) {
        if world.is_taken(&name) {
            continue;
        }
        let mut node = world.node(&name);
        if let Some(status) = node.ended() {
            note(
                done,
                "",
                &name,
                What::Died,
                format!("ended by itself: {status}; see {}", node.log().display()),
            );
        }
        if !node.is_running()
            && let Err(error) = node.start()
        {
            note(done, "", &name, What::Stuck, format!("{error:#}"));
        }
    }
}
