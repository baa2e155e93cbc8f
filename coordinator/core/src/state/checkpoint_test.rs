//! What is committed, what is kept, and where the next attempt begins, at the level of the state.

use super::test_state::{TestJob, TestState, at, stored, whole};
use crate::command::Command;
use crate::model::attempt::{Cause, Outcome, StopReason};
use crate::model::checkpoint::{Saved, Verdict};
use crate::model::ids::{IndexRef, JobId, TaskNo, Token};
use crate::model::job::IndexState;
use crate::model::saving::known;
use crate::model::time::Tick;
use crate::reply::Reply;

const AT: IndexRef = IndexRef { job: JobId(1), task: TaskNo(0), index: 0 };

/// One task of job 1 that keeps two, tried once; and its first attempt.
fn one() -> (TestState, u64) {
    let mut test = TestState::with_worker(0);
    test.submit(&TestJob::new().task(&[]).keep(2));
    let token = test.place(AT, &[]).expect("placed");
    (test, token)
}

/// A gang of two, running on workers 1 and 2.
fn gang() -> (TestState, u64) {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    test.submit(&TestJob::new().task(&[]).workers(2, 2).keep(2));
    let token = test.gang(AT, &[1, 2]).expect("placed");
    (test, token)
}

fn run_gang(test: &mut TestState, token: u64) {
    for (worker, rank) in [(1, 0), (2, 1)] {
        let kind = crate::command::ReportKind::Running;
        test.report(worker, crate::command::Report { token: Token(token), rank, at: AT, kind });
    }
}

fn progress(test: &TestState, token: u64) -> (Option<u64>, Option<u64>, usize) {
    let progress = &test.state.attempt(Token(token)).expect("lives").progress;
    (progress.resumed, progress.committed, progress.offers.len())
}

/// What a rank that says this again would be answered: a word, or the reason.
fn answer(test: &TestState, token: u64, rank: u32, saved: Saved) -> String {
    let attempt = test.state.attempt(Token(token)).expect("lives");
    match known(attempt, test.state.checkpoints(AT), rank, &saved) {
        None => "news".to_owned(),
        Some(Verdict::Committed { kept }) => format!("committed, {} kept", kept.len()),
        Some(Verdict::Waits) => "waits".to_owned(),
        Some(Verdict::Refused(why)) => why,
    }
}

fn reason(test: &TestState) -> String {
    let run = test.state.job(JobId(1)).expect("there").task(TaskNo(0));
    run.reason.as_deref().unwrap_or_default().to_owned()
}

#[test]
fn steps_only_go_forwards_and_what_is_said_again_changes_nothing() {
    let (mut test, token) = one();
    assert!(test.save(1, token, 0, AT, stored(10, 1)));
    assert!(test.save(1, token, 0, AT, stored(20, 2)));
    let before = test.state.digest();
    for saved in [stored(10, 1), stored(20, 2), stored(20, 3), stored(5, 4)] {
        assert!(!test.save(1, token, 0, AT, saved), "{saved:?}");
    }
    assert_eq!(test.state.digest(), before);
    assert_eq!(answer(&test, token, 0, stored(10, 1)), "committed, 2 kept");
    assert_eq!(answer(&test, token, 0, stored(20, 2)), "committed, 2 kept");
    let other = answer(&test, token, 0, stored(20, 3));
    assert!(other.starts_with("step 20 is committed already, with other content"), "{other}");
    assert_eq!(
        answer(&test, token, 0, stored(5, 4)),
        "step 5 is not after step 20, which is committed: steps only grow"
    );
    assert_eq!(answer(&test, token, 0, stored(21, 5)), "news");
}

#[test]
fn the_newest_are_kept_with_what_is_known_of_them() {
    let (mut test, token) = one();
    for step in [10, 20, 30] {
        test.tick = step;
        assert!(test.save(1, token, 0, AT, stored(step, 1)));
    }
    assert_eq!(test.kept(AT), [20, 30]);
    assert_eq!(progress(&test, token), (None, Some(30), 0));
    let newest = &test.state.checkpoints(AT)[1];
    assert_eq!((newest.token, newest.attempt, newest.took_ms), (Token(token), 1, 30));
    assert_eq!((newest.committed.tick, &newest.parts[..]), (Tick(30), &[stored(30, 1).part][..]));
}

#[test]
fn only_the_current_token_from_its_own_seat_commits() {
    let (mut test, first) = one();
    test.register("w2", 0, "a", &[]);
    assert!(!test.save(2, first, 0, AT, stored(10, 1)), "another worker");
    assert!(!test.save(1, first, 1, AT, stored(10, 1)), "a rank that it has not");
    assert!(!test.save(1, first, 0, at(1, 0, 1), stored(10, 1)), "another index");
    assert!(!test.save(1, first + 7, 0, AT, stored(10, 1)), "a token that was never granted");
    test.lose("a");
    assert!(!test.save(1, first, 0, AT, stored(10, 1)), "it is over");
    let second = test.place_on(2, AT, &[]).expect("placed");
    assert!(!test.save(1, first, 0, AT, stored(10, 1)), "another attempt runs");
    assert_eq!(test.kept(AT), [0_u64; 0]);
    assert!(test.save(2, second, 0, AT, stored(10, 1)));
}

#[test]
fn what_is_committed_in_the_grace_counts_and_the_next_attempt_begins_there() {
    let (mut test, token) = one();
    test.save(1, token, 0, AT, stored(10, 1));
    test.apply(Command::Stop { tokens: vec![Token(token)], reason: StopReason::Drain });
    assert!(test.save(1, token, 0, AT, stored(20, 2)));
    let cause = test.end(token, AT, Outcome::Signal(15)).expect("ended");
    assert_eq!((cause.to_string().as_str(), test.index_state(AT)), ("evicted(drain)", IndexState::Pending));

    let next = test.place(AT, &[]).expect("placed at once");
    assert_eq!(progress(&test, next), (Some(20), None, 0));
    // It ignores where it should begin: nothing is lost by that.
    assert!(!test.save(1, next, 0, AT, stored(20, 2)));
    let why = answer(&test, next, 0, stored(1, 2));
    assert!(why.starts_with("step 1 is not after step 20, from which this attempt began"), "{why}");
    assert!(test.save(1, next, 0, AT, stored(30, 3)));
    let kept: Vec<u64> = test.state.checkpoints(AT).iter().map(|c| c.token.0).collect();
    assert_eq!((kept, test.kept(AT)), (vec![token, next], vec![20, 30]));
}

#[test]
fn an_end_tells_history_where_it_began_and_how_far_it_came() {
    let (mut test, token) = one();
    test.save(1, token, 0, AT, stored(10, 1));
    test.lose("a");
    test.register("w1", 0, "b", &[]);
    let next = test.place(AT, &[]).expect("placed");
    let kind = crate::command::ReportKind::Ended { outcome: Outcome::Exit(0), artifacts: vec![], ran_ms: 1 };
    let applied = test.report(1, crate::command::Report { token: Token(next), rank: 0, at: AT, kind });
    let row = &applied.changes.history[0];
    assert_eq!((row.resumed, row.committed), (Some(10), None));
    assert_eq!(test.kept(AT), [10], "what is kept outlives a success");
}

#[test]
fn exit_85_after_a_new_checkpoint_is_no_failure_and_without_one_it_is() {
    let (mut test, mut token) = one();
    for step in [10, 20, 30, 40] {
        assert!(test.save(1, token, 0, AT, stored(step, 1)));
        let cause = test.end(token, AT, Outcome::Exit(85)).expect("ended");
        assert_eq!((cause.end_state(), cause.to_string().as_str()), ("evicted", "exit(85)"));
        assert!(!cause.is_charged());
        token = test.place(AT, &[]).expect("at once, however often");
    }
    // Nothing new: the one try that it has is spent.
    assert_eq!(test.end(token, AT, Outcome::Exit(85)), Some(Cause::Exit(85)));
    assert_eq!(test.index_state(AT), IndexState::Failed);
    // Whoever runs it again goes on where it was.
    let request = test.request();
    test.apply(Command::Rerun { request, target: whole(1) });
    let again = test.place(AT, &[]).expect("placed");
    assert_eq!(progress(&test, again), (Some(40), None, 0));
}

#[test]
fn three_losses_hold_a_task_only_when_it_does_not_get_on() {
    let mut test = TestState::with_worker(0);
    test.submit(&TestJob::new().task(&[]));
    let lose = |test: &mut TestState, step: Option<u64>| {
        let token = test.place(AT, &[]).expect("placed");
        if let Some(step) = step {
            assert!(test.save(1, token, 0, AT, stored(step, 1)));
        }
        test.lose("a");
        test.register("w1", 0, "a", &[]);
        // Its breaker closes again.
        test.tick += 3_600_000;
        test.index_state(AT)
    };
    for step in [None, None, Some(10), None, None, Some(20), Some(30), None, None] {
        assert_eq!(lose(&mut test, step), IndexState::Pending, "{step:?}");
    }
    assert_eq!(lose(&mut test, None), IndexState::Held);
    assert!(
        reason(&test).starts_with("3 attempts in a row ended lost without progress"),
        "{}",
        reason(&test)
    );
}

#[test]
fn a_checkpoint_that_cannot_be_used_makes_way_for_the_one_before() {
    let (mut test, token) = one();
    test.save(1, token, 0, AT, stored(10, 1));
    test.save(1, token, 0, AT, stored(20, 2));
    test.end(token, AT, Outcome::Launch("no cgroup".to_owned()));
    let bad = |step| Outcome::BadCheckpoint { step, reason: "w.bin is gone".to_owned() };
    let begin = |test: &mut TestState| {
        test.tick += 60_000;
        test.place(AT, &[]).expect("placed")
    };

    // Of another step than it began from nobody believes it.
    let other = begin(&mut test);
    let cause = test.end(other, AT, bad(10)).expect("ended");
    assert_eq!(cause, Cause::Launch("checkpoint of step 10: w.bin is gone".to_owned()));
    assert_eq!(test.kept(AT), [10, 20]);

    for (step, left, then) in
        [(20, vec![10], "it goes on from step 10"), (10, vec![], "none is left, so it begins anew")]
    {
        let token = begin(&mut test);
        assert_eq!(progress(&test, token), (Some(step), None, 0));
        let cause = test.end(token, AT, bad(step)).expect("ended");
        assert_eq!(cause.to_string(), format!("launch(checkpoint of step {step}: w.bin is gone)"));
        assert_eq!((cause.end_state(), cause.is_charged()), ("failed", false));
        assert_eq!((test.index_state(AT), test.kept(AT)), (IndexState::Pending, left));
        let said = format!("the checkpoint of step {step} cannot be used (w.bin is gone): {then}");
        assert_eq!(reason(&test), said);
    }
    let last = begin(&mut test);
    assert_eq!(progress(&test, last), (None, None, 0));
    assert!(test.save(1, last, 0, AT, stored(1, 1)), "anew is anew");
}

#[test]
fn a_gang_commits_when_every_rank_has_given_the_same_step() {
    let (mut test, token) = gang();
    assert!(!test.save(1, token, 0, AT, stored(10, 1)), "not all of them run");
    assert_eq!(answer(&test, token, 0, stored(10, 1)), "waits");
    run_gang(&mut test, token);

    assert!(!test.save(1, token, 0, AT, stored(10, 1)));
    assert_eq!((answer(&test, token, 0, stored(10, 1)).as_str(), test.kept(AT).len()), ("waits", 0));
    assert!(!test.save(2, token, 1, AT, stored(20, 2)), "another step");
    // The newer offer of a rank replaces its older one, and an older one nothing.
    assert!(!test.save(2, token, 1, AT, stored(10, 3)));
    let back = answer(&test, token, 1, stored(10, 3));
    assert_eq!(back, "step 10 is not after step 20, which this rank has stored: steps only grow");
    assert!(test.save(1, token, 0, AT, stored(20, 4)));

    let newest = test.state.checkpoints(AT).last().expect("committed").clone();
    assert_eq!(newest.parts, [stored(20, 4).part, stored(20, 2).part]);
    assert_eq!(progress(&test, token), (None, Some(20), 0));
    for (rank, manifest) in [(0, 4), (1, 2)] {
        assert_eq!(answer(&test, token, rank, stored(20, manifest)), "committed, 1 kept");
    }
}

#[test]
fn rank_0_may_speak_for_all_and_then_nobody_else_does() {
    let (mut test, token) = gang();
    run_gang(&mut test, token);
    let single = |step, manifest| Saved { single: true, ..stored(step, manifest) };
    assert!(!test.save(2, token, 1, AT, single(10, 1)));
    let why = answer(&test, token, 1, single(10, 1));
    assert_eq!(why, "only rank 0 may commit for all ranks (--single), and this is rank 1");
    assert!(!test.save(2, token, 1, AT, stored(30, 1)));
    assert!(test.save(1, token, 0, AT, single(10, 2)));
    assert_eq!(progress(&test, token), (None, Some(10), 0));
    for (worker, rank) in [(1, 0), (2, 1)] {
        assert!(!test.save(worker, token, rank, AT, stored(30, 1)), "rank {rank}");
    }
    assert!(answer(&test, token, 1, stored(30, 1)).starts_with("rank 0 has committed for all ranks"));
    assert!(test.save(1, token, 0, AT, single(20, 3)));
    assert_eq!(test.state.checkpoints(AT)[1].part_of(1), Some((0, &stored(20, 3).part)));
}

#[test]
fn a_rank_that_has_ended_gives_no_more_and_the_others_hear_it() {
    let (mut test, token) = gang();
    run_gang(&mut test, token);
    test.save(2, token, 1, AT, stored(10, 1));
    test.end_rank(2, token, 1, AT, Outcome::Exit(0));
    // What it had given counts.
    assert!(test.save(1, token, 0, AT, stored(10, 2)));
    assert!(!test.save(1, token, 0, AT, stored(20, 3)));
    assert_eq!(answer(&test, token, 0, stored(20, 3)), "rank 1 has ended and did not commit step 20");
}

#[test]
fn of_a_gang_any_rank_finds_out_that_a_checkpoint_is_bad() {
    let (mut test, first) = gang();
    run_gang(&mut test, first);
    test.save(1, first, 0, AT, stored(10, 1));
    test.save(2, first, 1, AT, stored(10, 2));
    test.end_rank(1, first, 0, AT, Outcome::Signal(9));
    test.end_rank(2, first, 1, AT, Outcome::Signal(9));
    let request = test.request();
    test.apply(Command::Rerun { request, target: whole(1) });
    let second = test.gang(AT, &[1, 2]).expect("placed");
    let bad = || Outcome::BadCheckpoint { step: 10, reason: "torn".to_owned() };
    assert_eq!(test.end_rank(2, second, 1, AT, bad()), None);
    assert_eq!(test.kept(AT), [0_u64; 0]);
    let cause = test.end_rank(1, second, 0, AT, bad());
    assert_eq!(cause, Some(Cause::BadCheckpoint { step: 10, reason: "torn".to_owned() }));
    let third = test.gang(AT, &[1, 2]).expect("placed at once");
    assert_eq!(progress(&test, third).0, None);
}

#[test]
fn checkpoints_leave_with_their_job() {
    let (mut test, token) = one();
    test.save(1, token, 0, AT, stored(10, 1));
    test.end(token, AT, Outcome::Exit(0));
    test.tick = 10;
    let retired = test.apply(Command::Retire { before: Tick(10) });
    assert_eq!(retired.reply, Reply::Changed { indices: 1 });
    assert!(retired.changes.keys.contains(&super::Key::Checkpoints(AT)));
    assert_eq!(test.state.checkpoints(AT), []);
}

#[test]
fn a_restored_cluster_goes_on_from_what_its_backup_has() {
    let (mut test, token) = one();
    test.save(1, token, 0, AT, stored(10, 1));
    test.apply(Command::Restored);
    assert!(!test.save(1, token, 0, AT, stored(20, 2)), "the old cluster's attempt");
    test.register("w1", 0, "b", &[]);
    let next = test.place(AT, &[]).expect("placed");
    assert_eq!(progress(&test, next).0, Some(10));
    assert!(test.save(1, next, 0, AT, stored(20, 2)));
}
