//! I1: an acknowledged submission is never lost, and a request id gives one job. (That a second answer equals the first is looked at when
//! the client hears it.)

use crate::world::World;
use std::collections::BTreeSet;

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
