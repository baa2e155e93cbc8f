//! I11: failures charged stay within the policy, and once nothing breaks any more every call is answered and every job ends.

use crate::world::World;
use muster_core::model::attempt::Cause;
use muster_core::model::ids::IndexRef;

pub(crate) fn on_ended(world: &mut World, at: IndexRef, cause: &Cause) {
    if !cause.is_charged() {
        return;
    }
    let charged = world.oracle.charged.entry(at).or_default();
    *charged += 1;
    let charged = *charged;
    let Some(spec) = world.oracle.reference.spec(at.job) else { return };
    let limit = spec.common(&spec.tasks[at.task.0 as usize]).retry.attempts;
    if charged > limit {
        world.violate(format!("I11: {at:?} was charged {charged} failures of {limit}"));
    }
}

/// Heartbeats within which the log has to know that something runs: every other report may get lost, three may arrive together after
/// their leader was stopped, and a proposal may wait for as long as four, one after the other (ten were too few in 1 of 100,000 seeds).
const KNOWN_WITHIN: u64 = 20;

/// Heartbeat `seq` of a session came back: what the worker said to run long before it, over the same session, is in the log. Else nobody
/// would ever end it for its timeout.
pub(crate) fn on_renewed(world: &mut World, session: u64, seq: u64) {
    let Some(open) = world.network.sessions.get(&session) else { return };
    let Some(m) = open.leader.filter(|m| world.members[*m].up) else { return };
    let machine = &world.machines[open.worker];
    let state = &world.members[m].state;
    let due = machine.told.iter().filter(|(_, (over, beat))| *over == session && beat + KNOWN_WITHIN <= seq);
    let unknown = due.map(|(token, _)| *token).find(|token| {
        // Of a gang, that this rank runs: others may still begin.
        let attempt = state.attempt(*token).zip(state.worker_named(&machine.spec.name));
        let seat = attempt.and_then(|(attempt, worker)| Some((attempt, attempt.seat_on(worker.id)?.0)));
        seat.is_some_and(|(attempt, rank)| !attempt.has_started(rank))
    });
    if let Some(token) = unknown {
        world.violate(format!("I11: token {token} runs, its worker says so, and the log does not know"));
    }
}

/// After the liveness phase.
pub(crate) fn check(world: &mut World) {
    if !world.violations.is_empty() {
        return;
    }
    let waiting: Vec<usize> =
        (0..world.clients.ops.len()).filter(|op| world.clients.ops[*op].reply.is_none()).collect();
    if !waiting.is_empty() {
        let first = format!("{:?}", world.clients.ops[waiting[0]].command);
        world.violate(format!("I11: {} calls are unanswered, the first is {first}", waiting.len()));
    }
    let state = &world.members[world.most_applied()].state;
    let mut stuck = Vec::new();
    for job in state.jobs().filter(|j| !j.state().is_terminal()) {
        let live: Vec<String> = state.live_of_job(job.id).map(|a| format!("{a:?}")).collect();
        let tasks: Vec<String> = job
            .tasks
            .iter()
            .map(|t| format!("{:?} held {} {:?} {:?}", t.phase, t.held, t.indices.runs(), t.parents))
            .collect();
        stuck.push(format!("I11: job {} is {:?} for ever: {tasks:?}; live {live:?}", job.id, job.state()));
    }
    let workers: Vec<String> =
        state.workers().map(|w| format!("{} {:?} {:?}", w.spec.name, w.state, state.used(w.id))).collect();
    if !stuck.is_empty() {
        stuck.push(format!("workers: {workers:?}"));
    }
    stuck.into_iter().for_each(|s| world.violate(s));
}
