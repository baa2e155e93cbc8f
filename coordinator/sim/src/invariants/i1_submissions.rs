//! I1: an acknowledged submission is never lost, and a request id gives one job. (That a second answer equals the first is looked at when
//! the client hears it.)

use crate::world::World;
use muster_core::model::ids::JobId;
use muster_core::model::job::JobState;
use std::collections::BTreeSet;

/// A new job: of a request that some client made, and the first of it.
pub(crate) fn on_submitted(world: &mut World, m: usize, job: JobId) {
    let Some(request) = world.members[m].state.job(job).map(|j| j.request.clone()) else { return };
    world.oracle.requests.insert(job, request.trim_start_matches("sim/").to_owned());
    if let Some(first) = world.oracle.by_request.insert(request.clone(), job) {
        world.violate(format!("I1: request {request} made job {first} and then job {job}"));
    }
}

/// Finished jobs are about to leave memory: what is not there afterwards and had not ended is lost.
pub(crate) fn before_retire(world: &World, m: usize) -> Vec<(JobId, JobState)> {
    world.members[m].state.jobs().map(|j| (j.id, j.state())).collect()
}

pub(crate) fn after_retire(world: &mut World, m: usize, index: u64, before: Vec<(JobId, JobState)>) {
    for (job, state) in
        before.into_iter().filter(|(id, _)| world.members[m].state.job(*id).is_none()).collect::<Vec<_>>()
    {
        let Some(request) = world.oracle.requests.get(&job).cloned() else { continue };
        if !state.is_terminal() {
            world.violate(format!("I1: job {job} of request {request} left memory while {}", state.as_str()));
        }
        world.oracle.retired.insert(request, (job, state, index));
    }
}

/// At the end: every acknowledged job is there, under one id, as submitted.
pub(crate) fn check(world: &mut World) {
    let state = &world.members[world.most_applied()].state;
    let mut wrong = Vec::new();
    for (job, request) in &world.oracle.acknowledged {
        match state.job(*job) {
            None if world.oracle.retired.contains_key(request) => {}
            None => wrong.push(format!("I1: job {job} of request {request} was acknowledged and is lost")),
            Some(found) if found.request != format!("sim/{request}") => {
                wrong.push(format!("I1: job {job} of request {request} belongs to {}", found.request));
            }
            Some(_) => {}
        }
    }
    let requests: BTreeSet<&str> = state.jobs().map(|j| j.request.as_str()).collect();
    if requests.len() != state.jobs().count() {
        wrong.push("I1: one request made two jobs".to_owned());
    }
    wrong.into_iter().for_each(|w| world.violate(w));
}
