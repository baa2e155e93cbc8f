//! Kernel truth: two processes never held the same task or GPU, no grant started after a newer one, no child before its parents.

use super::Violation;
use crate::chaos::ledger::{Line, What};
use crate::chaos::world::Pause;
use std::collections::HashMap;

/// A worker that stood still together with its shim cannot have killed its tasks; after it goes on they die within a timer's tick (0.1 s
/// by `docs/src/leases.md`). On two cores that are busy with everything else it may take a little longer.
const AFTER_RESUME_NS: u64 = 1_000_000_000;

/// What the ledger shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    pub violations: Vec<Violation>,
    /// A lock that was still held by a process of a worker that stood still as a whole: allowed, since its results are fenced.
    pub overlaps: usize,
}

/// Judges a ledger.
#[must_use]
pub fn judge(ledger: &[Line], pauses: &[Pause]) -> Seen {
    let mut seen = Seen::default();
    let mut newest: HashMap<(u64, &str, u32), &Line> = HashMap::new();
    for line in ledger {
        match &line.what {
            What::Held { by_worker, .. } if stood_still(pauses, by_worker, line.at_ns) => seen.overlaps += 1,
            What::Held { lock, by_token, by_worker } => {
                let invariant = if lock.starts_with("GPU-") { "I4" } else { "I3" };
                let text = format!(
                    "{} (token {}, {}) started while token {by_token} on {by_worker} held {lock}",
                    line.name(),
                    line.token,
                    line.worker
                );
                seen.violations.push(Violation::new(invariant, text));
            }
            What::Early { parent } => {
                let text = format!("{} started before {parent} had succeeded", line.name());
                seen.violations.push(Violation::new("I5", text));
            }
            What::Start => {
                let unit = (line.job, line.task.as_str(), line.index);
                let before = newest.get(&unit);
                if let Some(before) = before.filter(|before| before.token >= line.token) {
                    if stood_still(pauses, &line.worker, line.at_ns) {
                        seen.overlaps += 1;
                    } else {
                        let text = format!(
                            "{} started with token {} on {} after {} had with token {} on {}",
                            line.name(),
                            line.token,
                            line.worker,
                            before.name(),
                            before.token,
                            before.worker
                        );
                        seen.violations.push(Violation::new("I3", text));
                    }
                    continue;
                }
                newest.insert(unit, line);
            }
            What::End { .. } => {}
        }
    }
    seen
}

fn stood_still(pauses: &[Pause], worker: &str, at_ns: u64) -> bool {
    pauses.iter().any(|pause| {
        let until = pause.to_ns.map_or(u64::MAX, |to| to + AFTER_RESUME_NS);
        pause.worker == worker && (pause.from_ns..=until).contains(&at_ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(attempt: u32, token: u64, at_ns: u64, what: What) -> Line {
        Line {
            what,
            job: 1,
            task: "t".into(),
            index: 0,
            attempt,
            token,
            at_ns,
            worker: format!("w{attempt}"),
        }
    }

    fn held(lock: &str) -> What {
        What::Held { lock: lock.into(), by_token: 5, by_worker: "w1".into() }
    }

    fn invariants(ledger: &[Line], pauses: &[Pause]) -> Vec<&'static str> {
        judge(ledger, pauses).violations.iter().map(|v| v.invariant).collect()
    }

    #[test]
    fn one_attempt_after_the_other_is_right() {
        let ledger =
            [line(1, 5, 10, What::Start), line(2, 9, 20, What::Start), line(2, 9, 30, What::End { code: 0 })];
        assert_eq!(judge(&ledger, &[]), Seen::default());
    }

    #[test]
    fn a_planted_double_lock_is_found() {
        assert_eq!(invariants(&[line(2, 9, 20, held("1.t.0"))], &[]), ["I3"]);
        assert_eq!(invariants(&[line(2, 9, 20, held("GPU-1"))], &[]), ["I4"]);
    }

    #[test]
    fn a_holder_that_stood_still_is_no_violation_for_as_long_as_it_did() {
        let pause = Pause { worker: "w1".into(), from_ns: 15, to_ns: Some(25) };
        let early = line(2, 9, 20, held("1.t.0"));
        assert_eq!(judge(&[early], std::slice::from_ref(&pause)), Seen { violations: vec![], overlaps: 1 });
        let late = line(2, 9, 26 + AFTER_RESUME_NS, held("1.t.0"));
        assert_eq!(invariants(&[late], &[pause]), ["I3"]);
        let other = Pause { worker: "w3".into(), from_ns: 15, to_ns: None };
        assert_eq!(invariants(&[line(2, 9, 20, held("1.t.0"))], &[other]), ["I3"]);
    }

    #[test]
    fn a_planted_late_start_of_an_old_grant_is_found() {
        assert_eq!(invariants(&[line(2, 9, 10, What::Start), line(1, 5, 20, What::Start)], &[]), ["I3"]);
        assert_eq!(invariants(&[line(1, 5, 10, What::Start), line(1, 5, 20, What::Start)], &[]), ["I3"]);
    }

    #[test]
    fn a_planted_early_child_is_found() {
        assert_eq!(invariants(&[line(1, 5, 10, What::Early { parent: "a[0]".into() })], &[]), ["I5"]);
    }
}
