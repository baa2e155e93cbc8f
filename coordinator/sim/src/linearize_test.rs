//! Histories that are right, histories that are wrong, and many small ones against a search without any cleverness.

use crate::linearize::{Answered, Model, Operation, Verdict, check, check_key};
use crate::register::{JobAnswer, JobCall, JobRegister, out_of_order};
use crate::rng::Rng;
use muster_core::model::job::JobState;
use std::fmt::Debug;

type Call<Op, Output> = Operation<Op, Output>;

/// A call by `client` on key "k" in `invoked..answered`.
fn call<Op, Output>(client: u64, op: Op, invoked: u64, answered: Option<(u64, Output)>) -> Call<Op, Output> {
    let answered = answered.map(|(at, output)| Answered { at, output });
    Operation { client, key: "k".to_owned(), op, invoked, answered }
}

/// A number that can be written, read, and set if it is what one thinks.
#[derive(Debug)]
struct Number;

#[derive(Debug, Clone, Copy, PartialEq)]
enum On {
    Write(u8),
    Read,
    Swap(u8, u8),
}

impl Model for Number {
    type State = u8;
    type Op = On;
    type Output = u8;

    fn start() -> u8 {
        0
    }

    fn step(state: &u8, op: &On, output: Option<&u8>) -> Option<u8> {
        let told = |next: u8, told: u8| output.is_none_or(|o| *o == told).then_some(next);
        match op {
            On::Write(value) => Some(*value),
            On::Read => told(*state, *state),
            On::Swap(old, new) if old == state => told(*new, 1),
            On::Swap(..) => told(*state, 0),
        }
    }

    fn is_read(op: &On) -> bool {
        *op == On::Read
    }
}

fn is_linearizable<M: Model>(history: &[Call<M::Op, M::Output>]) -> bool
where
    M::Op: Debug,
    M::Output: Debug,
{
    let findings = check::<M>(history);
    assert!(findings.iter().all(|f| matches!(f.verdict, Verdict::Impossible { .. })), "{findings:?}");
    findings.is_empty()
}

#[test]
fn a_register_by_the_book() {
    let read = |client, value, from, to| call(client, On::Read, from, Some((to, value)));
    let write = |client, value, from, to| call(client, On::Write(value), from, Some((to, 0)));
    let cases = [
        ("reads what was written", vec![write(1, 7, 0, 5), read(2, 7, 6, 9)], true),
        ("a read beside the write sees either", vec![write(1, 7, 0, 9), read(2, 0, 3, 4)], true),
        ("a stale read", vec![write(1, 7, 0, 5), read(2, 0, 6, 9)], false),
        ("time travel: new, then old", vec![write(1, 7, 0, 9), read(2, 7, 1, 2), read(3, 0, 3, 4)], false),
        ("the same moment is concurrent", vec![write(1, 7, 0, 5), read(2, 0, 5, 9)], true),
        ("a write that nobody made", vec![write(1, 7, 0, 5), read(2, 8, 6, 9)], false),
        (
            "a lost write",
            vec![write(1, 7, 0, 5), write(1, 8, 6, 8), read(2, 7, 9, 10), read(2, 7, 11, 12)],
            false,
        ),
        ("unknown: it happened", vec![call(1, On::Write(7), 0, None), read(2, 7, 50, 60)], true),
        ("unknown: it did not", vec![call(1, On::Write(7), 0, None), read(2, 0, 50, 60)], true),
        (
            "unknown: late, between two reads",
            vec![call(1, On::Write(7), 0, None), read(2, 0, 50, 60), read(2, 7, 70, 80)],
            true,
        ),
        (
            "unknown: it cannot be undone",
            vec![call(1, On::Write(7), 0, None), read(2, 7, 50, 60), read(2, 0, 70, 80)],
            false,
        ),
        ("unknown: not before it was made", vec![call(1, On::Write(7), 50, None), read(2, 7, 10, 20)], false),
    ];
    for (what, history, good) in cases {
        assert_eq!(is_linearizable::<Number>(&history), good, "{what}");
    }
}

#[test]
fn a_job_by_the_book() {
    use JobAnswer::{Absent, Accepted, Job, Refused, Seen};
    use JobCall::{Cancel, Rerun, Status, Submit};
    use JobState::{Cancelled, Failed, Pending, Running, Succeeded};
    let told = |op, from, to, answer| call(1, op, from, Some((to, answer)));
    let sees = |state, from, to| told(Status, from, to, Seen { job: 42, state });
    let cases = [
        ("lives", vec![told(Submit, 0, 5, Job(42)), sees(Pending, 6, 7), sees(Succeeded, 8, 9)], true),
        ("asked twice, one job", vec![told(Submit, 0, 5, Job(42)), told(Submit, 2, 9, Job(42))], true),
        ("asked twice, two jobs", vec![told(Submit, 0, 5, Job(42)), told(Submit, 6, 9, Job(43))], false),
        (
            "an acknowledged submission is gone",
            vec![told(Submit, 0, 5, Job(42)), told(Status, 6, 7, Absent)],
            false,
        ),
        ("seen before it was asked for", vec![told(Submit, 5, 8, Job(42)), sees(Pending, 1, 2)], false),
        ("nobody heard, it is there", vec![call(1, Submit, 0, None), sees(Running, 6, 7)], true),
        (
            "nobody heard, it is there and then it is not",
            vec![call(1, Submit, 0, None), sees(Running, 6, 7), told(Status, 8, 9, Absent)],
            false,
        ),
        (
            "back to pending",
            vec![told(Submit, 0, 5, Job(42)), sees(Running, 6, 7), sees(Pending, 8, 9)],
            false,
        ),
        ("ends twice", vec![told(Submit, 0, 5, Job(42)), sees(Succeeded, 6, 7), sees(Failed, 8, 9)], false),
        ("cancelled, and nobody asked", vec![told(Submit, 0, 5, Job(42)), sees(Cancelled, 6, 7)], false),
        (
            "a cancel that was refused comes again, late",
            vec![
                told(Submit, 0, 5, Job(42)),
                told(Cancel, 6, 7, Refused),
                call(1, Cancel, 6, None),
                told(Rerun, 8, 9, Accepted),
                sees(Cancelled, 10, 11),
            ],
            true,
        ),
        (
            "a cancel wins",
            vec![
                told(Submit, 0, 5, Job(42)),
                told(Cancel, 6, 7, Accepted),
                sees(Running, 8, 9),
                sees(Cancelled, 10, 11),
            ],
            true,
        ),
        (
            "a success after an acknowledged cancel",
            vec![told(Submit, 0, 5, Job(42)), told(Cancel, 6, 7, Accepted), sees(Succeeded, 8, 9)],
            false,
        ),
        (
            "a cancel that nobody heard may come too late",
            vec![told(Submit, 0, 5, Job(42)), call(1, Cancel, 6, None), sees(Succeeded, 8, 9)],
            true,
        ),
        (
            "an end that only a refusal shows",
            vec![told(Submit, 0, 5, Job(42)), told(Cancel, 6, 7, Refused), sees(Running, 8, 9)],
            false,
        ),
        (
            "a rerun opens it",
            vec![
                told(Submit, 0, 5, Job(42)),
                told(Cancel, 6, 7, Accepted),
                sees(Cancelled, 8, 9),
                told(Rerun, 10, 11, Accepted),
                sees(Succeeded, 12, 13),
            ],
            true,
        ),
        (
            "nothing but a rerun opens it",
            vec![told(Submit, 0, 5, Job(42)), sees(Succeeded, 8, 9), sees(Running, 10, 11)],
            false,
        ),
    ];
    for (what, history, good) in cases {
        assert_eq!(is_linearizable::<JobRegister>(&history), good, "{what}");
    }
}

#[test]
fn ids_say_who_came_first() {
    let submit = |key: &str, from, answered: Option<(u64, u64)>| Operation {
        key: key.to_owned(),
        ..call(1, JobCall::Submit, from, answered.map(|(at, id)| (at, JobAnswer::Job(id))))
    };
    let cases = [
        ("in order", vec![submit("a", 0, Some((5, 1))), submit("b", 6, Some((9, 2)))], None),
        ("beside each other", vec![submit("a", 0, Some((8, 2))), submit("b", 6, Some((9, 1)))], None),
        ("against it", vec![submit("a", 0, Some((5, 2))), submit("b", 6, Some((9, 1)))], Some((0, 1))),
        (
            "asked again later, it hears the old id",
            vec![submit("a", 0, Some((5, 1))), submit("b", 6, Some((9, 2))), submit("a", 10, Some((11, 1)))],
            None,
        ),
        (
            "first asked early and answered late",
            vec![submit("b", 0, None), submit("a", 2, Some((5, 2))), submit("b", 6, Some((9, 1)))],
            None,
        ),
        ("one id for two", vec![submit("a", 0, Some((5, 1))), submit("b", 6, Some((9, 1)))], Some((0, 1))),
    ];
    for (what, history, wrong) in cases {
        assert_eq!(out_of_order(&history), wrong, "{what}");
    }
}

/// Every order of every choice of calls, without memo or window.
fn by_force<M: Model>(calls: &[Call<M::Op, M::Output>], done: &mut Vec<bool>, state: &M::State) -> bool {
    if (0..calls.len()).all(|i| done[i] || calls[i].answered.is_none()) {
        return true;
    }
    for i in 0..calls.len() {
        let comes_too_early = (0..calls.len())
            .any(|j| !done[j] && calls[j].answered.as_ref().is_some_and(|a| a.at < calls[i].invoked));
        if done[i] || comes_too_early {
            continue;
        }
        let output = calls[i].answered.as_ref().map(|a| &a.output);
        let Some(next) = M::step(state, &calls[i].op, output) else { continue };
        done[i] = true;
        let found = by_force::<M>(calls, done, &next);
        done[i] = false;
        if found {
            return true;
        }
    }
    false
}

/// Compares both on `rounds` random histories; both answers must come often, else the comparison says little.
fn compare<M: Model>(rounds: u64, draw: impl Fn(&mut Rng) -> (M::Op, M::Output))
where
    M::Op: Debug,
    M::Output: Debug,
{
    let mut rng = Rng::new(1, "histories");
    let mut good = 0;
    for round in 0..rounds {
        let count = rng.range(2, 6);
        let history: Vec<Call<M::Op, M::Output>> = (0..count)
            .map(|client| {
                let (op, output) = draw(&mut rng);
                let invoked = rng.below(10);
                let answered = rng.chance(800).then(|| (invoked + rng.below(6), output));
                call(client, op, invoked, answered)
            })
            .collect();
        let told = is_linearizable::<M>(&history);
        let truth = by_force::<M>(&history, &mut vec![false; history.len()], &M::start());
        assert_eq!(told, truth, "round {round}: {history:?}");
        good += u64::from(truth);
    }
    assert!(good > rounds / 20 && good < rounds * 19 / 20, "{good} of {rounds} were linearizable");
}

#[test]
fn it_agrees_with_a_search_of_all_orders() {
    compare::<Number>(20_000, |rng| {
        let value = |rng: &mut Rng| rng.below(3) as u8;
        match rng.below(4) {
            0 => (On::Write(value(rng)), 0),
            1 => (On::Swap(value(rng), value(rng)), rng.below(2) as u8),
            _ => (On::Read, value(rng)),
        }
    });
    compare::<JobRegister>(20_000, |rng| {
        let states = [JobState::Pending, JobState::Running, JobState::Succeeded, JobState::Cancelled];
        let verdict = [JobAnswer::Accepted, JobAnswer::Accepted, JobAnswer::Refused, JobAnswer::Absent];
        match rng.below(6) {
            0 | 1 => (JobCall::Submit, JobAnswer::Job(rng.range(1, 20) / 19)),
            2 => (JobCall::Cancel, rng.pick(&verdict)),
            3 => (JobCall::Rerun, rng.pick(&verdict)),
            _ => (JobCall::Status, JobAnswer::Seen { job: 0, state: rng.pick(&states) }),
        }
    });
}

#[test]
fn a_long_history_is_judged_and_a_hopeless_one_is_given_up() {
    // Twenty clients at a time, ten thousand calls, of which some hear nothing: as a true register would have answered.
    let mut rng = Rng::new(2, "long");
    let (mut value, mut history) = (0, Vec::new());
    for n in 0..10_000_u64 {
        let at = n * 10;
        let (invoked, heard) = (at.saturating_sub(rng.below(100)), at + rng.below(100));
        let is_read = rng.chance(500);
        let op = if is_read { On::Read } else { On::Write(rng.below(200) as u8) };
        let output = value;
        if let On::Write(new) = op {
            value = new;
        }
        history.push(call(n % 20, op, invoked, (is_read || rng.chance(999)).then_some((heard, output))));
    }
    let calls: Vec<_> = history.iter().collect();
    assert_eq!(check_key::<Number>(&calls, 5_000_000), Verdict::Linearizable);
    // Forty writes at once and a read of none of them: every order would have to be looked at.
    let mut hopeless: Vec<_> = (0..40).map(|n| call(n, On::Write(n as u8 + 1), 0, Some((10, 0)))).collect();
    hopeless.push(call(99, On::Read, 5, Some((10, 200))));
    let calls: Vec<_> = hopeless.iter().collect();
    assert!(matches!(check_key::<Number>(&calls, 10_000), Verdict::TooLarge { steps: 10_001.. }));
}

#[test]
fn what_is_wrong_is_said_in_words_and_keys_are_judged_apart() {
    let mut other = call(3, On::Read, 6, Some((9, 1)));
    other.key = "other".to_owned();
    let good = call(1, On::Write(7), 0, Some((5, 0)));
    let findings = check::<Number>(&[good, call(2, On::Read, 6, Some((9, 7))), other]);
    assert_eq!(findings.len(), 1);
    assert_eq!(
        findings[0].to_string(),
        "key \"other\" is not linearizable: no place for Read -> 1 by client 3 in 6..9"
    );
}

#[test]
fn a_history_is_kept_as_lines_of_json() {
    let line = r#"{"client":3,"key":"r17","op":"status","invoked":120,"answered":{"at":131,"output":{"seen":{"job":42,"state":"running"}}}}"#;
    let operation: Operation<JobCall, JobAnswer> = serde_json::from_str(line).expect("a line of a history");
    let state = JobState::Running;
    let answered = Answered { at: 131, output: JobAnswer::Seen { job: 42, state } };
    assert_eq!(operation.answered, Some(answered));
    assert_eq!(serde_json::to_string(&operation).expect("it can be written"), line);
}
