//! What becomes of what a rank says that it has stored: one rule, for the log that decides and for the leader that answers from its view.
//! Steps only go forwards, whatever is said twice, late or in another order.

use super::attempt::Attempt;
use super::checkpoint::{Checkpoint, Part, Saved, Verdict};

/// The answer that is known already, of a live attempt of whose index `kept` is kept; none: it is news, and the log has to decide.
#[must_use]
pub fn known(attempt: &Attempt, kept: &[Checkpoint], rank: u32, saved: &Saved) -> Option<Verdict> {
    let step = saved.step;
    let refused = |why: String| Some(Verdict::Refused(why));
    let own = || kept.iter().filter(|c| c.token == attempt.token);
    // 1. It was committed, and the answer got lost.
    let manifest = |c: &Checkpoint| c.parts.get(rank as usize).map(|part| part.manifest);
    if own().any(|c| c.step == step && manifest(c) == Some(saved.part.manifest)) {
        return Some(Verdict::Committed { kept: kept.to_vec() });
    }
    // 2. Who speaks for whom. Once rank 0 has spoken for all, parts of others belong to nothing.
    let is_gang = attempt.seats.len() > 1;
    if saved.single && rank != 0 {
        return refused(format!("only rank 0 may commit for all ranks (--single), and this is rank {rank}"));
    }
    if is_gang && !saved.single && own().any(|c| c.parts.len() == 1) {
        return refused(
            "rank 0 has committed for all ranks of this attempt (--single): commit from there only"
                .to_owned(),
        );
    }
    // 3. Only forwards.
    if let Some(newest) = attempt.progress.committed.filter(|newest| step <= *newest) {
        return refused(if step == newest {
            format!("step {step} is committed already, with other content: commit this under a greater step")
        } else {
            format!("step {step} is not after step {newest}, which is committed: steps only grow")
        });
    }
    if let Some(from) = attempt.progress.resumed.filter(|from| step <= *from) {
        return refused(format!(
            "step {step} is not after step {from}, from which this attempt began: go on from $MUSTER_RESUME_FROM, at $MUSTER_RESUME_STEP"
        ));
    }
    is_gang.then(|| of_gang(attempt, rank, saved)).flatten()
}

/// The same, of a rank of a gang whose step is a new one.
fn of_gang(attempt: &Attempt, rank: u32, saved: &Saved) -> Option<Verdict> {
    let step = saved.step;
    if attempt.started.is_none() {
        // A rank may still be fetching what the attempt begins from.
        return Some(Verdict::Waits);
    }
    if saved.single {
        return None;
    }
    let offer =
        |rank: u32| attempt.progress.offers.iter().find(|(of, _)| *of == rank).map(|(_, saved)| saved);
    let gone = (0..)
        .zip(&attempt.ranks)
        .map(|(other, _)| other)
        .find(|other| attempt.has_ended(*other) && offer(*other).is_none_or(|offered| offered.step != step));
    if let Some(gone) = gone {
        return Some(Verdict::Refused(format!("rank {gone} has ended and did not commit step {step}")));
    }
    match offer(rank) {
        Some(own) if own.step > step => Some(Verdict::Refused(format!(
            "step {step} is not after step {}, which this rank has stored: steps only grow",
            own.step
        ))),
        Some(own) if own.step == step && own.part.manifest == saved.part.manifest => Some(Verdict::Waits),
        _ => None,
    }
}

/// The parts of the checkpoint that `saved` completes, by rank, and the longest upload of them in ms; none while other ranks have to give
/// the same step. What the rank says is among the offers.
#[must_use]
pub fn whole(attempt: &Attempt, saved: &Saved) -> Option<(Vec<Part>, u64)> {
    let ranks = attempt.seats.len();
    if saved.single || ranks == 1 {
        return Some((vec![saved.part], saved.took_ms));
    }
    let offers = &attempt.progress.offers;
    let all = offers.len() == ranks && offers.iter().all(|(_, offer)| offer.step == saved.step);
    let longest = offers.iter().map(|(_, offer)| offer.took_ms).max().unwrap_or_default();
    all.then(|| (offers.iter().map(|(_, offer)| offer.part).collect(), longest))
}
