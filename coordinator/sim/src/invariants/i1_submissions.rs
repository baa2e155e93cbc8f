//! I1: an acknowledged submission is never lost, and a request id gives one job. (That a second answer equals the first is looked at when
//! the client hears it.)

use crate::world::World;
use muster_core::model::ids::JobId;
use std::collections::BTreeSet;

/// A new job: of a request that some client made, and the first of it.
pub(crate) fn on_submitted(world: &mut World, m: usize, job: JobId) {
    let Some(request) = world.members[m].state.job(job).map(|j| j.request.clone()) else { return };
    if let Some(first) = world.oracle.by_request.insert(request.clone(), job) {
        world.violate(format!("I1: request {request} made job {first} and then job {job}"));
    }
}

/// At the end: every acknowledged job is there, under one id, as submitted.
pub(crate) fn check(world: &mut World) {
    let state = &world.members[world.most_applied()].state;
    let mut wrong = Vec::new();
    for (job, request) in &world.oracle.acknowledged {
        match state.job(*job) {
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
