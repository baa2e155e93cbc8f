//! The search: what may happen at an instant, what must hold at each, and how far stateright looks.

use crate::plants::{NO_DEPOSED, ONE_LIVE, ONE_RESULT, ONE_START, Plant, SETTLED};
use crate::protocol::Step;
use crate::state::{End, Ms, Owner, Runs, World};
use muster_core::model::lease::RENEW_MS;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::{Duration, Instant};

/// How much of the world is searched. Within it, everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Heartbeats are sent this far apart, ms; any may be lost, so a wider grid is a part of a finer one.
    pub grid: Ms,
    /// Faults happen before this instant, ms; from here on messages arrive and whoever is paused goes on.
    pub heal: Ms,
    /// The end, ms.
    pub end: Ms,
    /// Faults in one run: the leader replaced (once), a dead incarnation's registration that arrives (once), worker 1's agent stopped or
    /// killed, its machine paused, rebooted or gone.
    pub faults: u8,
}

impl Bounds {
    /// For every `make test`: seconds.
    pub const SMALL: Self = Self { grid: 5_000, heal: 15_000, end: 30_000, faults: 2 };
    /// For `make model`: minutes.
    pub const LARGE: Self = Self { grid: RENEW_MS, heal: 16_000, end: 30_000, faults: 3 };
}

/// The protocol within bounds, with a mistake or without.
#[derive(Debug, Clone)]
pub struct LeaseModel {
    pub bounds: Bounds,
    pub plant: Option<Plant>,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Tick,
    Confirm { received_late: bool },
    Renew,
    Order,
    Propose,
    Commit,
    Reconnect,
    Finish,
    Report,
    SecondEnds,
    ResumeMachine,
    AgentAgain,
    Elect { inherit: bool },
    StaleRegister,
    StopAgent,
    KillAgent,
    PauseMachine,
    Reboot,
    Die,
}

impl Act {
    fn is_fault(self) -> bool {
        use Act::{Die, Elect, KillAgent, PauseMachine, Reboot, StaleRegister, StopAgent};
        matches!(self, Elect { .. } | StaleRegister | StopAgent | KillAgent | PauseMachine | Reboot | Die)
    }
}

impl LeaseModel {
    /// What is on its way or due; after the faults it all happens before time goes on.
    fn due(&self, w: &World, acts: &mut Vec<Act>) {
        let open = w.log.owner == Owner::First;
        if w.machine.paused.is_some() {
            acts.push(Act::ResumeMachine);
        } else if matches!(w.machine.agent, Runs::Stopped | Runs::Dead) {
            acts.push(Act::AgentAgain);
        }
        if let Some(heartbeat) = w.heartbeat {
            acts.push(Act::Confirm { received_late: false });
            acts.extend((heartbeat.sent < w.now).then_some(Act::Confirm { received_late: true }));
        }
        if w.agent_runs() {
            acts.extend(w.renewed.map(|_| Act::Renew));
            acts.extend(w.start.map(|_| Act::Order));
            let displaced = w.machine.session != w.log.term || w.log.incarnation != w.machine.incarnation;
            acts.extend((open && displaced).then_some(Act::Reconnect));
            acts.extend(w.machine.end.filter(|_| open).map(|_| Act::Report));
        }
        acts.extend(self.step(&mut w.clone()).due().map(|_| Act::Propose));
        acts.extend(w.log.pending.map(|_| Act::Commit));
    }

    fn faults(&self, w: &World, acts: &mut Vec<Act>) {
        if w.faults == 0 || w.log.owner != Owner::First {
            return;
        }
        if w.log.term == 1 {
            acts.push(Act::Elect { inherit: true });
            acts.extend(w.log.pending.map(|_| Act::Elect { inherit: false }));
        }
        acts.extend(w.stale_register.then_some(Act::StaleRegister));
        if w.agent_runs() {
            acts.extend([Act::StopAgent, Act::KillAgent, Act::PauseMachine, Act::Reboot, Act::Die]);
        }
    }

    fn step<'a>(&self, w: &'a mut World) -> Step<'a> {
        Step { w, plant: self.plant, grid: self.bounds.grid, heal: self.bounds.heal }
    }
}

impl Model for LeaseModel {
    type State = World;
    type Action = Act;

    /// Fast and slow clocks on either side.
    fn init_states(&self) -> Vec<World> {
        let rates = [(99, 99), (99, 101), (101, 99), (101, 101)];
        rates.map(|rates| World::new(rates, self.bounds.faults)).into()
    }

    fn actions(&self, w: &World, acts: &mut Vec<Act>) {
        if w.now >= self.bounds.end || w.is_over() {
            return;
        }
        self.due(w, acts);
        let healed = w.now >= self.bounds.heal;
        if !healed {
            self.faults(w, acts);
        }
        if !healed || acts.is_empty() {
            acts.push(Act::Tick);
        }
        acts.extend(w.first_lives().then_some(Act::Finish));
        // A late or repeated result, and what it must not be taken for.
        if w.machine.end == Some(End::Well) && w.log.owner != Owner::First {
            acts.extend(w.agent_runs().then_some(Act::Report));
            acts.extend(w.second_lives().then_some(Act::SecondEnds));
        }
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let mut w = last.clone();
        w.faults -= u8::from(act.is_fault());
        let mut step = self.step(&mut w);
        match act {
            Act::Tick => step.tick(),
            Act::Confirm { received_late } => step.confirm(received_late),
            Act::Renew => step.renewed(),
            Act::Order => step.order(),
            Act::Propose => step.w.log.pending = step.due(),
            Act::Commit => step.commit(),
            Act::Reconnect => step.reconnect(),
            Act::Finish => step.ended(End::Well),
            Act::Report => step.report(),
            Act::SecondEnds => step.accept(),
            Act::ResumeMachine => step.resume(),
            Act::AgentAgain => step.agent_again(),
            Act::Elect { inherit } => step.elect(inherit),
            Act::StaleRegister => {
                step.w.stale_register = false;
                step.register(0);
            }
            Act::StopAgent => step.w.machine.agent = Runs::Stopped,
            Act::KillAgent => step.kill_agent(),
            Act::PauseMachine => step.w.machine.paused = Some(last.now),
            Act::Reboot => step.reboot(),
            Act::Die => step.die(),
        }
        w.seen.settled |= w.log.owner != Owner::First;
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_LIVE, |_, w: &World| {
                !(w.first_lives() && w.second_lives()) || w.machine.late
            }),
            Property::always(ONE_RESULT, |_, w: &World| w.log.accepted <= 1),
            Property::always(ONE_START, |_, w: &World| w.machine.started <= 1),
            Property::always(NO_DEPOSED, |_, w: &World| !w.seen.deposed_renewal),
            // What is asked for is kept in the state, so that paths that meet do not hide each other from stateright.
            Property::eventually(SETTLED, |_, w: &World| w.seen.settled),
            // The search is worth something only if it comes by what it is about.
            Property::sometimes("granted again while the agent is stopped", |_, w: &World| {
                w.second_lives() && w.machine.agent == Runs::Stopped
            }),
            Property::sometimes("renewed by the second leader", |_, w: &World| w.seen.renewed_by_second),
            Property::sometimes("a late result is refused", |_, w: &World| {
                w.seen.refused && w.log.accepted == 1
            }),
            Property::sometimes(
                "a resumed machine runs beside the successor, for a shim tick",
                |_, w: &World| w.first_lives() && w.second_lives() && w.machine.late,
            ),
        ]
    }
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    pub states: usize,
    pub depth: usize,
    pub took: Duration,
    /// Properties that fail, each with the shortest way there, one thing a line.
    pub broken: Vec<(&'static str, String)>,
    /// What should have been possible and was not.
    pub missing: Vec<&'static str>,
}

/// Searches, to the end or, with a plant, to the first failure.
#[must_use]
pub fn search(bounds: Bounds, plant: Option<Plant>) -> Found {
    let started = Instant::now();
    let model = LeaseModel { bounds, plant };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let until = if plant.is_some() { HasDiscoveries::AnyFailures } else { HasDiscoveries::All };
    let checker = model.checker().threads(threads).finish_when(until).spawn_bfs().join();
    let (mut broken, mut missing) = (Vec::new(), Vec::new());
    for property in checker.model().properties() {
        let path = checker.discovery(property.name);
        match property.expectation {
            stateright::Expectation::Sometimes => missing.extend(path.is_none().then_some(property.name)),
            _ => broken.extend(path.map(|path| (property.name, tell(&path.into_vec())))),
        }
    }
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    Found { states, depth, took: started.elapsed(), broken, missing }
}

fn tell(path: &[(World, Option<Act>)]) -> String {
    let line = |(world, act): &(World, Option<Act>)| {
        let act = act.map_or_else(|| format!("=> {world:?}"), |act| format!("{act:?}"));
        format!("  {:>6} ms  {act}", world.now)
    };
    path.iter().map(line).collect::<Vec<_>>().join("\n")
}
