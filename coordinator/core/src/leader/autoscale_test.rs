//! The leader beside a state and a group of machines that does what it is told, after a while.

use super::Input;
use super::leader_test::Rig;
use crate::autoscale::{GroupReport, InstancePhase, InstanceReport, Order};
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::Outcome;
use crate::model::fleet::{Fleet, PoolSpec};
use crate::model::ids::{Token, WorkerId};
use crate::model::resources::GpuAmount;
use crate::model::worker::{INSTANCE_LABEL, Incarnation, WorkerState};
use crate::state::test_state::{TestJob, at, worker_spec};
use std::collections::BTreeMap;

const POOL: &str = "h100";
/// From the order to the first heartbeat, ms.
const BOOT_MS: u64 = 60_000;

struct Machine {
    since: u64,
    phase: InstancePhase,
    /// Its worker, once it has joined, and whether it still beats.
    worker: Option<(u64, bool)>,
}

struct Cloud {
    rig: Rig,
    desired: u32,
    machines: BTreeMap<String, Machine>,
    made: u32,
    /// With a lifecycle hook: a machine that is ended waits for us.
    hook: bool,
    /// Its workers do not say on which machine they are.
    anonymous: bool,
    silent: bool,
    /// It takes orders and describes nothing.
    mute: bool,
    record: Vec<Order>,
}

impl Cloud {
    fn new(min: u32, max: u32) -> Self {
        let mut rig = Rig::new();
        rig.test.tick = 0;
        let mut template = worker_spec("template", 8, 8);
        template.pool = POOL.to_owned();
        let template = Some(Box::new(template));
        let spec = PoolSpec {
            min,
            max,
            driven: true,
            template,
            micro_usd_per_hour: Some(20_000_000),
            ..PoolSpec::default()
        };
        let fleet = Fleet { pools: BTreeMap::from([(POOL.to_owned(), spec)]), ..Fleet::default() };
        rig.open_of(1, 1, "a");
        rig.beat(1, &[]);
        rig.step(Input::Fleet(Box::new(fleet)));
        Self {
            rig,
            desired: 0,
            machines: BTreeMap::new(),
            made: 0,
            hook: false,
            anonymous: false,
            silent: false,
            mute: false,
            record: Vec::new(),
        }
    }

    fn second(&mut self) {
        self.rig.now += 1_000;
        self.rig.test.tick = self.rig.now;
        let now = self.rig.now;
        // Workers beat every two seconds; session numbers are worker ids.
        if now.is_multiple_of(2_000) {
            self.rig.beat(1, &[]);
            let alive: Vec<u64> =
                self.machines.values().filter_map(|m| m.worker).filter(|w| w.1).map(|w| w.0).collect();
            for worker in alive {
                let held: Vec<u64> =
                    self.rig.test.state.tokens_of(WorkerId(worker)).iter().map(|t| t.0).collect();
                self.rig.beat(worker, &held);
            }
        }
        let joining: Vec<String> = self
            .machines
            .iter()
            .filter(|(_, m)| m.phase == InstancePhase::Booting && now >= m.since + BOOT_MS)
            .map(|(id, _)| id.clone())
            .collect();
        for id in joining {
            self.join(&id);
        }
        if now.is_multiple_of(5_000) && !self.silent {
            let (pool, report) = (POOL.to_owned(), self.report());
            self.rig.step(if self.mute { Input::Unseen { pool } } else { Input::Group { pool, report } });
        }
        self.rig.settle();
        for (_, _, order) in std::mem::take(&mut self.rig.orders) {
            self.carry_out(&order);
            self.record.push(order);
        }
    }

    fn report(&self) -> GroupReport {
        let one = |(id, machine): (&String, &Machine)| InstanceReport {
            id: id.clone(),
            phase: machine.phase,
            protected: true,
            image: None,
        };
        GroupReport {
            desired: self.desired,
            min: 0,
            max: 64,
            instances: self.machines.iter().map(one).collect(),
        }
    }

    fn join(&mut self, id: &str) {
        let mut spec = worker_spec(id, 8, 8);
        spec.pool = POOL.to_owned();
        if !self.anonymous {
            spec.labels.insert(INSTANCE_LABEL.to_owned(), id.to_owned());
        }
        let incarnation = Incarnation("x".to_owned());
        self.rig.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
        let worker = self.rig.test.state.worker_named(id).expect("it registered").id.0;
        self.rig.open_of(worker, worker, "x");
        self.rig.beat(worker, &[]);
        let machine = self.machines.get_mut(id).expect("it is there");
        (machine.phase, machine.worker) = (InstancePhase::InService, Some((worker, true)));
    }

    fn carry_out(&mut self, order: &Order) {
        match order {
            Order::SetDesired(desired) => {
                let live = |m: &&Machine| !matches!(m.phase, InstancePhase::Going | InstancePhase::Held);
                let mut there = u32::try_from(self.machines.values().filter(live).count()).expect("few");
                while there < *desired {
                    self.made += 1;
                    let machine =
                        Machine { since: self.rig.now, phase: InstancePhase::Booting, worker: None };
                    self.machines.insert(format!("i-{}", self.made), machine);
                    there += 1;
                }
                // Fewer: only what has not joined.
                while there > *desired {
                    let booting = self
                        .machines
                        .iter()
                        .find(|(_, m)| m.phase == InstancePhase::Booting)
                        .map(|(id, _)| id.clone());
                    let Some(id) = booting else { panic!("it would choose a victim: {order:?}") };
                    self.machines.remove(&id);
                    there -= 1;
                }
                self.desired = *desired;
            }
            Order::Terminate(id) => {
                let machine = self.machines.get_mut(id).expect("it is there");
                if let Some((worker, _)) = machine.worker {
                    let state = &self.rig.test.state;
                    assert!(state.tokens_of(WorkerId(worker)).is_empty(), "I13: something lives on {id}");
                    let is = state.worker(WorkerId(worker)).expect("known").state;
                    assert!(matches!(is, WorkerState::Drained | WorkerState::Lost), "I13: {id} is {is:?}");
                }
                self.desired -= 1;
                if self.hook {
                    machine.phase = InstancePhase::Held;
                } else {
                    self.machines.remove(id);
                }
            }
            Order::Release(id) => {
                self.machines.remove(id);
            }
            Order::Hold(id) => assert_eq!(self.machines[id].phase, InstancePhase::Held),
            Order::Protect(_) => panic!("all are protected"),
        }
    }

    /// Seconds until it holds; the scene must come there.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> u64 {
        for second in 0..7_200 {
            if holds(self) {
                return second;
            }
            self.second();
        }
        panic!("{what}: not within two hours; {:?}", self.rig.signals.as_ref().map(|s| &s.decision))
    }

    fn live(&self, job: u64, index: u32) -> Option<u64> {
        self.rig.test.state.attempt_of(at(job, 0, index)).map(|attempt| attempt.token.0)
    }

    fn end(&mut self, worker: u64, token: u64, job: u64, index: u32, rank: u32) {
        let kind = ReportKind::Ended { outcome: Outcome::Exit(0), artifacts: Vec::new(), ran_ms: 1 };
        let report = Report { token: Token(token), rank, at: at(job, 0, index), kind };
        self.rig.step(Input::Reports { session: super::SessionId(worker), reports: vec![report] });
    }
}

#[test]
fn a_gang_is_bought_whole_runs_and_its_machines_go_one_by_one() {
    let mut cloud = Cloud::new(0, 8);
    cloud.hook = true;
    cloud.until("the provider is known", |cloud| {
        cloud.rig.signals.as_ref().is_some_and(|s| s.decision.pools[0].hold.is_none())
    });
    let gang = TestJob::new().task(&[]).amount(GpuAmount::Whole(8)).workers(2, 2);
    let job = cloud.rig.test.submit(&gang);
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Delta(state));

    cloud.until("two are asked for", |cloud| !cloud.record.is_empty());
    assert_eq!((cloud.record.clone(), cloud.desired), (vec![Order::SetDesired(2)], 2));
    let took = cloud.until("it runs", |cloud| cloud.live(job, 0).is_some());
    assert!(
        (60..75).contains(&took),
        "{took} {:?} {:?}",
        cloud.rig.test.state.attempt_of(at(job, 0, 0)),
        cloud.rig.now
    );
    assert_eq!(cloud.record.len(), 1, "asked for once");

    let token = cloud.live(job, 0).expect("it runs");
    let seats = cloud.rig.test.state.attempt(Token(token)).expect("live").seats.clone();
    (0..).zip(&seats).for_each(|(rank, seat)| cloud.end(seat.worker.0, token, job, 0, rank));
    // Five minutes idle; then each is drained, ended by its id, held by the provider and released.
    let idle = cloud.until("the first goes", |cloud| cloud.record.len() > 1);
    assert!(
        (300..320).contains(&idle),
        "{idle} {:?} {:?}",
        cloud.record,
        cloud.rig.signals.as_ref().map(|s| &s.decision)
    );
    cloud.until("both are gone", |cloud| cloud.machines.is_empty());
    let terminated: Vec<&Order> = cloud.record.iter().filter(|o| matches!(o, Order::Terminate(_))).collect();
    let released = cloud.record.iter().filter(|o| matches!(o, Order::Release(_))).count();
    assert_eq!((terminated.len(), released, cloud.desired), (2, 2, 0), "{:?}", cloud.record);
    // Their workers do not beat any more: lost, and then forgotten.
    cloud.until("they are forgotten", |cloud| cloud.rig.test.state.workers().count() == 1);
}

#[test]
fn a_new_leader_repeats_nothing() {
    let mut cloud = Cloud::new(0, 8);
    let job = TestJob::new().task(&[]).amount(GpuAmount::Whole(8)).array(3, None);
    cloud.rig.test.submit(&job);
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Delta(state));
    cloud.until("three are asked for", |cloud| cloud.desired == 3);
    let made = cloud.made;
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Elected { term: 2, state });
    for _ in 0..120 {
        cloud.second();
    }
    assert_eq!((cloud.made, cloud.machines.len()), (made, 3));
    let orders: Vec<&Order> = cloud.record.iter().filter(|o| !matches!(o, Order::SetDesired(3))).collect();
    assert_eq!(orders, Vec::<&Order>::new());
}

#[test]
fn a_provider_that_says_nothing_changes_nothing() {
    let mut cloud = Cloud::new(0, 8);
    cloud.silent = true;
    cloud.rig.test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Whole(8)));
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Delta(state));
    for _ in 0..300 {
        cloud.second();
    }
    assert_eq!((cloud.record.len(), cloud.made), (0, 0));
    let hold = cloud.rig.signals.as_ref().and_then(|s| s.decision.pools[0].hold.clone());
    assert_eq!(hold.as_deref(), Some("held as it is: the provider has not answered yet"));
}

#[test]
fn a_machine_that_the_provider_ends_is_held_until_nothing_lives_on_it() {
    let mut cloud = Cloud::new(1, 1);
    let job = cloud.rig.test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Whole(8)));
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Delta(state));
    cloud.until("it runs", |cloud| cloud.live(job, 0).is_some());
    let token = cloud.live(job, 0).expect("it runs");
    let (id, worker) =
        cloud.machines.iter().map(|(id, m)| (id.clone(), m.worker.expect("joined").0)).next().expect("one");
    cloud.machines.get_mut(&id).expect("there").phase = InstancePhase::Held;
    cloud.desired -= 1;
    let is_held = |order: &Order| matches!(order, Order::Hold(held) if *held == id);
    cloud.until("it is held", |cloud| cloud.record.iter().filter(|o| is_held(o)).count() >= 3);
    assert_eq!(cloud.rig.test.state.worker(WorkerId(worker)).map(|w| w.state), Some(WorkerState::Draining));
    assert!(!cloud.record.iter().any(|o| matches!(o, Order::Release(_))));

    cloud.end(worker, token, job, 0, 0);
    cloud.until("it is released", |cloud| cloud.record.iter().any(|o| *o == Order::Release(id.clone())));
}

#[test]
fn a_machine_is_not_released_where_a_worker_does_not_say_which_one_it_is_on() {
    let mut cloud = Cloud::new(1, 1);
    cloud.anonymous = true;
    let job = cloud.rig.test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Whole(8)));
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Delta(state));
    cloud.until("it runs", |cloud| cloud.live(job, 0).is_some());
    let machine = cloud.machines.values_mut().next().expect("one");
    machine.phase = InstancePhase::Held;
    for _ in 0..60 {
        cloud.second();
    }
    let ends = |order: &&Order| matches!(order, Order::Release(_) | Order::Terminate(_));
    assert_eq!(cloud.record.iter().find(ends), None);
}

/// A web hook that answers nothing: whoever is ended there is not bought again.
#[test]
fn a_provider_that_describes_nothing_is_told_each_number_once() {
    let mut cloud = Cloud::new(0, 8);
    cloud.mute = true;
    let job = cloud.rig.test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Whole(8)).array(2, None));
    let state = Box::new(cloud.rig.test.state.full_delta());
    cloud.rig.step(Input::Delta(state));
    cloud.until("both run", |cloud| cloud.live(job, 0).is_some() && cloud.live(job, 1).is_some());
    for index in 0..2 {
        let token = cloud.live(job, index).expect("it runs");
        let worker = cloud.rig.test.state.attempt(Token(token)).expect("live").first_worker().0;
        cloud.end(worker, token, job, index, 0);
    }
    cloud.until("both are ended", |cloud| cloud.machines.is_empty());
    (0..60).for_each(|_| cloud.second());
    let numbers: Vec<&Order> = cloud.record.iter().filter(|o| matches!(o, Order::SetDesired(_))).collect();
    assert!(numbers.iter().all(|order| **order == Order::SetDesired(2)), "{:?}", cloud.record);
    assert_eq!((cloud.made, cloud.desired), (2, 0));
}
