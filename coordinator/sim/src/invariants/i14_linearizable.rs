//! I14: what all clients were told of a job, by whichever member, has one order that explains it, and job ids say who came first.
//! Looked at once, at the end: the history is what the clients heard and when, nothing else.

use crate::linearize::{Answered, Finding, Operation, Verdict, check};
use crate::register::{JobAnswer, JobCall, JobRegister, out_of_order, refused_may_come_again};
use crate::world::World;
use muster_core::command::{Command, Target};
use muster_core::reply::{Rejection, Reply};

type Told = Operation<JobCall, JobAnswer>;

/// At the end.
pub(crate) fn check_all(world: &mut World) {
    let history = history(world);
    for Finding { verdict, words, key } in check::<JobRegister>(&history) {
        let what = match verdict {
            Verdict::TooLarge { steps } => format!("undecided after {steps} steps"),
            _ => words.join("; "),
        };
        world.violate(format!("I14: request {key} has no order: {what}"));
        let now = world.now;
        for told in history.iter().filter(|t| t.key == key) {
            world.trace.note(now, "history", told.invoked, told.client, || format!("{told:?}"));
        }
    }
    if let Some((first, second)) = out_of_order(&history) {
        let what = format!("I14: ids against the order: {:?}, then {:?}", history[first], history[second]);
        world.violate(what);
    }
}

/// Every call of every client on a job, by the request id of the job.
fn history(world: &World) -> Vec<Told> {
    let mut all = Vec::with_capacity(world.clients.ops.len() + world.reads.all.len());
    for (client, op) in world.clients.ops.iter().enumerate().filter(|(_, op)| !op.reuses && op.tries > 0) {
        let Some((call, key)) = call_of(world, &op.command) else { continue };
        let answer = match &op.reply {
            None => None,
            Some(reply) => match answer_of(reply) {
                Some(answer) => Some(answer),
                None => continue,
            },
        };
        // A job that left memory is `NoJob` to whoever would change it.
        if answer == Some(JobAnswer::Absent) && world.oracle.retired.contains_key(&key) {
            continue;
        }
        let answered = answer.map(|output| Answered { at: op.answered, output });
        let told = Told { client: client as u64, key, op: call, invoked: op.invoked, answered };
        all.extend(refused_may_come_again(&told));
        all.push(told);
    }
    for (client, read) in world.reads.all.iter().enumerate().filter(|(_, read)| read.tries > 0) {
        all.push(Told {
            client: 1_000_000 + client as u64,
            key: read.request.clone(),
            op: JobCall::Status,
            invoked: read.invoked,
            answered: read.answered.map(|(at, output)| Answered { at, output }),
        });
    }
    all
}

fn call_of(world: &World, command: &Command) -> Option<(JobCall, String)> {
    let of = |call, target: &Target| Some((call, world.oracle.requests.get(&target.job)?.clone()));
    match command {
        Command::Submit { request, .. } => Some((JobCall::Submit, request.id.clone())),
        Command::Cancel { target, .. } if target.task.is_none() => of(JobCall::Cancel, target),
        Command::Cancel { target, .. } => of(JobCall::CancelPart, target),
        Command::Rerun { target, .. } => of(JobCall::Rerun, target),
        Command::Hold { target, .. } => of(JobCall::Hold, target),
        Command::Release { target, .. } => of(JobCall::Release, target),
        _ => None,
    }
}

/// None: an answer that says nothing of the job (it names a task that is not there).
fn answer_of(reply: &Reply) -> Option<JobAnswer> {
    match reply {
        Reply::Submitted { job, .. } => Some(JobAnswer::Job(job.0)),
        Reply::Rejected(Rejection::WrongState { .. }) => Some(JobAnswer::Refused),
        Reply::Rejected(Rejection::NoJob(_)) => Some(JobAnswer::Absent),
        Reply::Rejected(_) => None,
        _ => Some(JobAnswer::Accepted),
    }
}
