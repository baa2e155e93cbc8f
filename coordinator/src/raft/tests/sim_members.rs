//! The operator of the simulated members: adds, removes and replaces them while everything else breaks, and pulls disks out.
//!
//! At most one voter is beyond repair at a time (its disk died, or lost the end of its log, so that it must refuse to start); a second
//! would be a loss that no three-member cluster promises to survive.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, ChangeMembers, RaftMetrics, ServerState};
use parking_lot::Mutex;

use super::sim_plants::Plant;
use super::sim_world::{C, Life, SimRaft, World, draw};

/// Voters, at least and at most.
const VOTERS: (usize, usize) = (3, 5);
/// An operator waits this long for a change of members before it goes on to something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the operator knows.
#[derive(Default)]
pub struct Members {
    /// Taken out, or beyond repair: never started again.
    gone: Mutex<BTreeSet<u64>>,
    /// Beyond repair and perhaps still a voter.
    lost: Mutex<Option<u64>>,
    /// What was done, for the report of a run.
    pub done: Mutex<BTreeMap<&'static str, usize>>,
}

impl Members {
    /// Whether this one may start again.
    pub fn may_start(&self, id: u64) -> bool {
        !self.gone.lock().contains(&id)
    }

    fn count(&self, what: &'static str) {
        *self.done.lock().entry(what).or_default() += 1;
    }
}

/// The one that leads, as far as it knows, in the newest term.
pub fn leader(world: &World) -> Option<Arc<Life>> {
    let leads = |life: &Arc<Life>| {
        let metrics = life.raft.metrics().borrow_watched().clone();
        (metrics.state == ServerState::Leader).then_some(metrics.vote.leader_id.term)
    };
    let lives: Vec<Arc<Life>> = world.members.lock().values().cloned().collect();
    lives.into_iter().filter_map(|l| leads(&l).map(|t| (t, l))).max_by_key(|(t, _)| *t).map(|(_, l)| l)
}

/// Voters and learners, if what this member knows of them is committed and no change of them is under way.
fn settled(metrics: &RaftMetrics<C>) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
    let stored = &metrics.membership_config;
    let membership = stored.membership();
    let committed = stored.log_id().as_ref().map(|id| id.index) <= metrics.last_applied.map(|id| id.index);
    let uniform = membership.get_joint_config().len() == 1;
    (committed && uniform).then(|| {
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let learners = membership.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id)).collect();
        (voters, learners)
    })
}

/// Who runs and what each believes, for the message of a run that fails.
pub fn shape(world: &World) -> Vec<String> {
    let lives: Vec<(u64, Arc<Life>)> = world.members.lock().iter().map(|(id, l)| (*id, l.clone())).collect();
    let words = |(id, life): (u64, Arc<Life>)| {
        let metrics = life.raft.metrics().borrow_watched().clone();
        let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
        let (state, term) = (metrics.state, metrics.vote.leader_id.term);
        format!("{id}: {state:?} term {term} log {:?} voters {voters:?}", metrics.last_log_index)
    };
    lives.into_iter().map(words).collect()
}

/// The members as the leader has them.
pub fn members(world: &World) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
    settled(&leader(world)?.raft.metrics().borrow_watched())
}

/// Asks leader after leader until the members are as wanted.
async fn until<F: Future<Output = ()> + Send>(
    world: &Arc<World>,
    patience: Duration,
    wanted: impl Fn(&BTreeSet<u64>, &BTreeSet<u64>) -> bool,
    ask: impl Fn(SimRaft) -> F,
) -> bool {
    let deadline = C::now() + patience;
    while C::now() < deadline {
        if let Some(life) = leader(world) {
            let now = settled(&life.raft.metrics().borrow_watched());
            if now.is_some_and(|(voters, learners)| wanted(&voters, &learners)) {
                return true;
            }
            let _ = C::timeout(Duration::from_secs(3), ask(life.raft.clone())).await;
        }
        C::sleep(Duration::from_millis(20 + draw(200))).await;
    }
    false
}

/// A new member: learner first, voter once it has caught up. Returns its id.
async fn add(world: &Arc<World>, known: &Members, patience: Duration) -> Option<u64> {
    let id = world.start_new().await;
    let node = BasicNode::new(id.to_string());
    let learns = until(
        world,
        patience,
        |voters, learners| voters.contains(&id) || learners.contains(&id),
        |raft| {
            let node = node.clone();
            async move {
                let _ = raft.add_learner(id, node, false).await;
            }
        },
    );
    if !learns.await {
        return None;
    }
    // A voter that is far behind would only cost the majority its speed: it catches up first, by snapshot if it must.
    let deadline = C::now() + patience;
    loop {
        let index = |life: &Arc<Life>| life.raft.metrics().borrow_watched().last_applied.map(|id| id.index);
        let ahead = leader(world).map(|life| index(&life));
        if ahead.is_some_and(|ahead| world.member(id).is_some_and(|life| index(&life) >= ahead)) {
            break;
        }
        if C::now() >= deadline {
            return None;
        }
        C::sleep(Duration::from_millis(20)).await;
    }
    let votes = until(
        world,
        patience,
        |voters, _| voters.contains(&id),
        |raft| async move {
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
            let _ = raft.change_membership(change, false).await;
        },
    );
    if votes.await {
        known.count("added");
        return Some(id);
    }
    None
}

/// Takes a member out, alive or not, and stops it.
async fn remove(world: &Arc<World>, known: &Members, id: u64, patience: Duration) -> bool {
    let out = until(
        world,
        patience,
        |voters, learners| !voters.contains(&id) && !learners.contains(&id),
        |raft| {
            let votes = members(world).is_none_or(|(voters, _)| voters.contains(&id));
            async move {
                let one = BTreeSet::from([id]);
                let change =
                    if votes { ChangeMembers::RemoveVoters(one) } else { ChangeMembers::RemoveNodes(one) };
                let _ = raft.change_membership(change, false).await;
            }
        },
    );
    if !out.await {
        return false;
    }
    known.gone.lock().insert(id);
    known.count("removed");
    // It may not have heard of it, and goes on asking for votes for a while.
    C::sleep(Duration::from_millis(draw(3_000))).await;
    world.crash(id).await;
    true
}

/// A voter is beyond repair; the operator puts another in its place.
async fn replace(world: &Arc<World>, known: &Members, patience: Duration) -> bool {
    let Some(dead) = *known.lost.lock() else { return true };
    if let Some(plant @ (Plant::ReusesId | Plant::BootstrapsAgain)) = world.plant {
        if world.member(dead).is_none() {
            known.lost.lock().take();
            known.gone.lock().remove(&dead);
            world.start_empty(dead).await;
            if plant == Plant::BootstrapsAgain
                && let Some(life) = world.member(dead)
            {
                let alone = BTreeMap::from([(dead, BasicNode::new(dead.to_string()))]);
                let _ = life.raft.initialize(alone).await;
            }
        }
        return true;
    }
    // Another comes first where the cluster would else shrink to two voters, of which neither may die.
    let deadline = C::now() + patience;
    let voters = loop {
        if let Some((voters, _)) = members(world) {
            break voters;
        }
        if C::now() >= deadline {
            return false;
        }
        C::sleep(Duration::from_millis(20)).await;
    };
    let is_short = voters.contains(&dead) && voters.len() <= VOTERS.0;
    if is_short && add(world, known, patience).await.is_none() {
        return false;
    }
    if !remove(world, known, dead, patience).await {
        return false;
    }
    known.lost.lock().take();
    known.count("replaced");
    true
}

/// A disk dies with its member, or the member loses power and its disk the end of the log. The second must refuse to start.
async fn lose_disk(world: &Arc<World>, known: &Members, id: u64) {
    let Some(mut left) = world.crash(id).await else { return };
    *known.lost.lock() = Some(id);
    known.gone.lock().insert(id);
    if draw(2) == 0 {
        known.count("disks dead");
        return;
    }
    left.lose_tail(1 + draw(8), world.plant);
    C::sleep(Duration::from_millis(draw(1_000))).await;
    match world.restart(id, left).await {
        Err(_) => known.count("refused"),
        Ok(()) => {
            // Nothing of what it lost was promised, or its state holds it; else its promise is forgotten.
            known.count("tails lost");
            known.lost.lock().take();
            known.gone.lock().remove(&id);
        }
    }
}

/// A few changes, one after another.
pub async fn operate(world: &Arc<World>, known: &Members) {
    for _ in 0..4 {
        C::sleep(Duration::from_millis(200 + draw(2_500))).await;
        let Some((voters, _)) = members(world) else { continue };
        let up: Vec<u64> = world.running().into_iter().filter(|id| voters.contains(id)).collect();
        let Some(one) = up.get(usize::try_from(draw(up.len().max(1) as u64)).expect("small")).copied() else {
            continue;
        };
        match draw(5) {
            0 if voters.len() < VOTERS.1 => {
                add(world, known, PATIENCE).await;
            }
            1 if voters.len() > VOTERS.0 => {
                remove(world, known, one, PATIENCE).await;
            }
            _ if known.lost.lock().is_none() && voters.len() >= VOTERS.0 => {
                lose_disk(world, known, one).await;
                C::sleep(Duration::from_millis(draw(1_500))).await;
                replace(world, known, PATIENCE).await;
            }
            _ => {
                replace(world, known, PATIENCE).await;
            }
        }
    }
}

/// In peace: what is beyond repair is replaced, and who was never let in is stopped.
pub async fn tidy(world: &Arc<World>, known: &Members) {
    assert!(
        replace(world, known, Duration::from_secs(60)).await,
        "a dead member cannot be replaced in peace"
    );
    let deadline = C::now() + Duration::from_secs(60);
    let (voters, learners) = loop {
        if let Some(found) = members(world) {
            break found;
        }
        assert!(C::now() < deadline, "no leader knows the members after a minute of peace");
        C::sleep(Duration::from_millis(50)).await;
    };
    for stranger in world.running().into_iter().filter(|id| !voters.contains(id) && !learners.contains(id)) {
        known.gone.lock().insert(stranger);
        world.crash(stranger).await;
    }
}
