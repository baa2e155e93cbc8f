//! Each broken promise, planted, is found; a kept one is not.

use super::*;
use crate::chaos::jobs::Job;
use crate::chaos::task::Fail;

/// `a`, then `b`; both succeeded at their first attempt.
struct Story {
    record: Record,
    docs: BTreeMap<u64, JobDoc>,
    ledger: Vec<Line>,
}

impl Story {
    fn new(shape: Shape) -> Self {
        let task = |name: &str, parents: &[&str]| Task {
            name: name.into(),
            indices: 1,
            array: false,
            parents: parents.iter().map(|p| (*p).to_owned()).collect(),
            gpus: 0,
            sharers: 1,
            workers: 1,
            millis: 1,
            fail: Fail::Never,
            attempts: 2,
        };
        let job = Job { key: "k".into(), shape, tasks: vec![task("a", &[]), task("b", &["a"])] };
        let record = Record {
            job,
            ids: vec![7],
            refused: None,
            cancel: None,
            cancel_ns: 0,
            releases: 0,
            reruns: 0,
            state: None,
        };
        let of_doc = |name: &str, token: u64| TaskDoc {
            name: name.into(),
            state: "succeeded".into(),
            attempts: vec![attempt(1, token, "succeeded", None)],
            ..TaskDoc::default()
        };
        let doc = JobDoc {
            id: 7,
            state: "succeeded".into(),
            tasks: vec![of_doc("a", 10), of_doc("b", 20)],
            ..JobDoc::default()
        };
        let ledger = vec![
            line("a", 10, 100, What::Start),
            line("a", 10, 200, What::End { code: 0 }),
            line("b", 20, 300, What::Start),
            line("b", 20, 400, What::End { code: 0 }),
        ];
        Self { record, docs: BTreeMap::from([(7, doc)]), ledger }
    }

    fn doc(&mut self) -> &mut JobDoc {
        self.docs.get_mut(&7).unwrap()
    }

    fn found(&self) -> Vec<&'static str> {
        let found = judge(std::slice::from_ref(&self.record), &self.docs, &self.ledger);
        found.into_iter().map(|v| v.invariant).collect()
    }
}

fn attempt(number: u32, token: u64, state: &str, cause: Option<&str>) -> AttemptDoc {
    let cause = cause.map(str::to_owned);
    AttemptDoc { number, token, state: state.into(), cause, ..AttemptDoc::default() }
}

fn line(task: &str, token: u64, at_ns: u64, what: What) -> Line {
    Line { what, job: 7, task: task.into(), index: 0, attempt: 1, token, at_ns, worker: "w1".into() }
}

#[test]
fn a_kept_promise_is_no_violation() {
    assert_eq!(Story::new(Shape::Chain).found(), [""; 0]);
}

#[test]
fn a_lost_job_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.docs.clear();
    assert_eq!(story.found(), ["I1"]);
}

#[test]
fn one_request_id_that_is_two_jobs_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.record.ids.push(8);
    assert_eq!(story.found(), ["I1"]);
}

#[test]
fn two_submissions_that_are_one_job_are_found() {
    let story = Story::new(Shape::Chain);
    let mut other = story.record.clone();
    other.job.key = "l".into();
    let found = judge(&[story.record.clone(), other], &story.docs, &story.ledger);
    assert_eq!(found.iter().map(|v| v.invariant).collect::<Vec<_>>(), ["I1"]);
}

#[test]
fn two_accepted_successes_are_found() {
    let mut story = Story::new(Shape::Chain);
    story.doc().tasks[1].attempts.push(attempt(2, 30, "succeeded", None));
    let second = Line { attempt: 2, ..line("b", 30, 500, What::End { code: 0 }) };
    story.ledger.push(second);
    assert_eq!(story.found(), ["I2"]);
}

#[test]
fn a_success_that_no_process_wrote_down_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.ledger.pop();
    assert_eq!(story.found(), ["I2"]);
}

#[test]
fn a_success_under_another_token_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.doc().tasks[1].attempts[0].token = 21;
    assert_eq!(story.found(), ["I2"]);
}

#[test]
fn an_index_that_is_missing_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.doc().tasks[1].attempts.clear();
    assert_eq!(story.found(), ["I2"]);
}

#[test]
fn a_child_that_started_too_early_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.ledger[2].at_ns = 150;
    assert_eq!(story.found(), ["I5"]);
}

#[test]
fn a_cancel_that_did_not_win_is_found() {
    let mut story = Story::new(Shape::Cancel);
    (story.record.cancel, story.record.cancel_ns) = (Some(Answer::Heard(1)), 250);
    // The job succeeded, and the success of `b` was accepted after the cancel.
    assert_eq!(story.found(), ["I10", "I10"]);
    story.record.cancel = Some(Answer::Refused("WRONG_STATE".into()));
    assert_eq!(story.found(), [""; 0]);
}

#[test]
fn a_start_long_after_a_cancel_is_found() {
    let mut story = Story::new(Shape::Cancel);
    (story.record.cancel, story.record.cancel_ns) = (Some(Answer::Heard(1)), 450);
    story.doc().state = "cancelled".into();
    assert_eq!(story.found(), [""; 0]);
    story.ledger.push(line("b", 40, 451 + STARTS_AFTER_CANCEL_NS, What::Start));
    assert_eq!(story.found(), ["I10"]);
}

#[test]
fn a_cancel_that_nobody_made_is_found() {
    let mut story = Story::new(Shape::Chain);
    story.doc().state = "cancelled".into();
    assert_eq!(story.found(), ["I10"]);
}

#[test]
fn a_stuck_job_and_a_failed_one_are_found() {
    for state in ["running", "held", "failed"] {
        let mut story = Story::new(Shape::Chain);
        story.doc().state = state.into();
        assert_eq!(story.found(), ["I11"], "{state}");
    }
}

#[test]
fn retries_beyond_the_limit_are_found_and_platform_faults_are_not_counted() {
    let mut story = Story::new(Shape::Chain);
    for n in 0..2 {
        story.doc().tasks[0].attempts.push(attempt(n + 2, 11, "failed", Some("exit(7)")));
        story.doc().tasks[0].attempts.push(attempt(n + 4, 12, "lost", Some("lost(worker)")));
    }
    assert_eq!(story.found(), [""; 0]);
    story.doc().tasks[0].attempts.push(attempt(9, 13, "failed", Some("signal(9)")));
    assert_eq!(story.found(), ["I11"]);
}
