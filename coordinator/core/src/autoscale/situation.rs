//! What a decision is made of, and what it says.

use crate::model::fleet::{Fleet, PoolScale};
use crate::model::gang::Gang;
use crate::model::ids::{JobId, TaskNo, WorkerId};
use crate::model::resources::Resources;
use crate::model::time::Tick;
use crate::model::worker::WorkerSpec;
use crate::state::Used;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Everything that a decision looks at.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    pub now: Tick,
    pub fleet: &'a Fleet,
    pub scales: &'a BTreeMap<String, PoolScale>,
    pub machines: Vec<Machine<'a>>,
    /// In the order in which they are served: priority first, then age.
    pub waiting: Vec<Waiting<'a>>,
    /// What providers said last, by pool; of pools that are driven and have none nothing is known, and they are held as they are.
    pub groups: BTreeMap<String, GroupSeen>,
    /// How long machines took from the order to their first heartbeat, as seen since the last decision, by pool, ms.
    pub boots: BTreeMap<String, u64>,
    /// Pools whose provider refused or failed, and why.
    pub troubles: BTreeMap<String, String>,
}

/// Task indices that wait and ask for the same.
#[derive(Debug, Clone)]
pub struct Waiting<'a> {
    pub job: JobId,
    pub task: TaskNo,
    pub resources: &'a Resources,
    /// Those of `spot:` and of a deadline included.
    pub constraints: Cow<'a, [String]>,
    /// How many workers one index takes.
    pub gang: Option<&'a Gang>,
    /// How many indices may run at once now.
    pub count: u64,
    /// How long one is expected to run, ms; none: unknown.
    pub run_ms: Option<u64>,
    /// Since when the oldest of them waits.
    pub since: Tick,
}

/// A worker.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    pub id: WorkerId,
    /// Workers of one number are alike: [`super::kind`].
    pub kind: u64,
    pub spec: &'a WorkerSpec,
    pub used: &'a Used,
    pub state: MachineState,
    /// It leaves for a decision of before, and its machine is ended then.
    pub leaves: bool,
    /// Since when nothing lives on it; none: something does.
    pub idle_since: Option<Tick>,
    /// GPU-milliseconds (of a worker without GPUs: milliseconds) that are lost if what runs here is stopped now.
    pub at_risk_ms: u64,
    /// When what runs here is expected to be over; none: unknown, or nothing runs.
    pub free_at: Option<Tick>,
    /// When it joined.
    pub joined: Tick,
    /// What it was made from, if it or its provider says so: the oldest goes first.
    pub image: Option<&'a str>,
}

/// What a worker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachineState {
    /// It takes work.
    Ready,
    /// Registered a moment ago, or not heard just now: within a lease it takes work again, or is lost. It is counted on, and not ended.
    Unheard,
    /// Its breaker is open: it is there and takes nothing.
    Unusable,
    /// It goes, or its machine does: drained by somebody, reclaimed, or for a decision of before.
    Leaving,
}

/// A provider's group as its driver described it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupSeen {
    /// When, by the leader's tick; what is older than [`super::GROUP_STALE_MS`] is not known any more.
    pub at: Tick,
    pub desired: u32,
    pub min: u32,
    pub max: u32,
    pub instances: Vec<InstanceSeen>,
}

/// One machine of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSeen {
    pub id: String,
    /// The worker on it, if one has joined and says this id in its label `instance_id`.
    pub worker: Option<WorkerId>,
    /// Since when it is known.
    pub since: Tick,
    /// Since when its worker is lost: it may be cut off, and come again.
    pub lost: Option<Tick>,
    /// Asked for and not up.
    pub booting: bool,
    /// The provider is about to end it and waits for us.
    pub held: bool,
    /// It is being ended.
    pub going: bool,
    /// The provider does not choose it when it shrinks the group by itself.
    pub protected: bool,
    pub image: Option<String>,
}

/// What a provider says of a group, as the shell hands it on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupReport {
    pub desired: u32,
    pub min: u32,
    pub max: u32,
    pub instances: Vec<InstanceReport>,
}

/// One machine of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReport {
    pub id: String,
    pub phase: InstancePhase,
    pub protected: bool,
    pub image: Option<String>,
}

/// Where a machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstancePhase {
    Booting,
    InService,
    /// It is to be ended, and the provider waits for us.
    Held,
    Going,
}

/// What a provider is asked to do. Every order may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// So many machines in its group.
    SetDesired(u32),
    /// End this machine, and want one less.
    Terminate(String),
    /// Go on waiting for this machine.
    Hold(String),
    /// Nothing of ours is on it any more.
    Release(String),
    /// Do not choose these.
    Protect(Vec<String>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    pub pools: Vec<PoolDecision>,
    pub unmet: Vec<Unmet>,
}

/// About one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolDecision {
    pub pool: String,
    /// Workers that are there and stay.
    pub current: u32,
    /// Machines that were asked for and have not joined.
    pub booting: u32,
    pub desired: u32,
    /// Jobs for which more are wanted, by id.
    pub jobs: Vec<JobId>,
    /// How long what is asked for is needed, ms, and what it costs, millionths of a USD; none: unknown.
    pub for_ms: Option<u64>,
    pub worth_micro_usd: Option<u64>,
    pub reason: String,
    /// Why nothing is changed just now.
    pub hold: Option<String>,
    /// Task indices that wait and could run here, since when the oldest does, and thousandths of GPUs (of CPUs, in a pool without GPUs) that
    /// they ask for.
    pub waiting: u64,
    pub oldest: Option<Tick>,
    pub asked_milli: u64,
    /// Workers that are to go, the first one first: those that are on their way out already, then those chosen now.
    pub remove: Vec<WorkerId>,
    /// Of these, those chosen now, which are to be drained.
    pub chosen: Vec<WorkerId>,
    /// Machines that were asked for, are there, and never joined: to be ended as they are.
    pub stuck: Vec<String>,
    /// The scale as it is to be, if that is another than it was. Its generation is not its own: apply gives it.
    pub scale: Option<PoolScale>,
}

/// What waits and can be served by no pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    pub job: JobId,
    pub task: TaskNo,
    /// `42.train`; empty until somebody who knows the job fills it in.
    pub name: String,
    pub count: u64,
    pub reason: String,
}
