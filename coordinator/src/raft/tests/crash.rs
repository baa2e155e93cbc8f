//! A member is killed at every step of persistence, started again, and must hold all that it acknowledged (fault matrix, row 3).
//!
//! Real processes on a real disk; each named failpoint is hit once, with `MUSTER_SCALE=full` 25 times, each time later in the run.
//! A point that no scenario passes fails its test: it would prove nothing. Whole coordinators, workers and shims die in
//! `tests/tests/cluster/crash.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use muster_failpoint::{Place, Point};

use super::crash_child::{Orders, Process, Seen, copy, free};

/// Writes before a crash, and after it.
const WRITES: u64 = 120;
/// Writes in which a point must be passed.
const LOAD: u64 = 2_000;

pub(super) fn hits() -> u64 {
    if std::env::var("MUSTER_SCALE").is_ok_and(|scale| scale == "full") { 25 } else { 1 }
}

pub(super) fn alone(dir: &Path, life: u64, writes: u64) -> Orders {
    Orders { dir: dir.to_owned(), member: 1, addresses: vec![free()], bootstrap: true, life, writes }
}

/// A member that wrote, made snapshots, purged its log and ended well; what it acknowledged.
fn base(dir: &Path) -> BTreeSet<(u64, u64)> {
    let process = Process::start(&alone(dir, 1, WRITES), "");
    assert!(process.acknowledges(WRITES as usize));
    process.stop()
}

/// Starts the member after its death: it must serve, hold all of `acknowledged`, and take more.
fn recovers(what: &str, dir: &Path, acknowledged: &BTreeSet<(u64, u64)>) {
    let mut process = Process::start(&alone(dir, 9, 8), "");
    assert!(process.acknowledges(8), "{what}: it does not serve again: {}", process.ended().1);
    let seen = process.state().expect("it runs");
    let lost: Vec<_> = acknowledged.difference(&seen.writes).collect();
    assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}");
    process.stop();
}

/// Runs a member on `dir` with `failpoint` until it dies of it. What it acknowledged.
fn dies(point: Point, orders: &Orders, failpoint: &str) -> BTreeSet<(u64, u64)> {
    let (code, said, acknowledged) = Process::start(orders, failpoint).ended_or_done(orders.writes as usize);
    assert_eq!(code, None, "{failpoint}: {} was not passed ({said})", point.name());
    acknowledged
}

impl Process {
    /// Waits for its death, or for its last write: then it is stopped, and the point it was to die at was not passed.
    fn ended_or_done(self, writes: usize) -> (Option<i32>, String, BTreeSet<(u64, u64)>) {
        if self.acknowledges(writes) {
            let acknowledged = self.stop();
            return (Some(0), "it made all its writes".to_owned(), acknowledged);
        }
        self.ended()
    }
}

#[test]
fn a_first_start_that_dies_anywhere_is_begun_again() {
    for point in Point::of(Place::FirstStart) {
        let dir = tempfile::tempdir().expect("dir");
        let failpoint = format!("{}=abort", point.name());
        dies(point, &alone(dir.path(), 1, WRITES), &failpoint);
        recovers(&failpoint, dir.path(), &BTreeSet::new());
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_death_at_any_step() {
    let top = tempfile::tempdir().expect("dir");
    let origin = top.path().join("base");
    let acknowledged = base(&origin);
    for point in Point::of(Place::Load) {
        let rare =
            [Point::StateOpen, Point::VoteBefore, Point::VoteWritten, Point::VoteSaved].contains(&point);
        for round in 0..hits() {
            // Later and later in the run, where the point is passed more than once.
            let skip = if rare || round == 0 { 0 } else { round % 5 };
            let action = if point == Point::PromisedWrite {
                format!("torn({})", 7 + 3 * round)
            } else {
                "abort".into()
            };
            let failpoint = format!("{}={action}@{skip}", point.name());
            let dir = top.path().join("now");
            copy(&origin, &dir);
            let mut all = acknowledged.clone();
            all.extend(dies(point, &alone(&dir, 2 + round, LOAD), &failpoint));
            recovers(&failpoint, &dir, &all);
            std::fs::remove_dir_all(&dir).expect("remove");
        }
    }
}

#[test]
fn a_member_whose_disk_fails_ends_and_acknowledges_nothing_afterwards() {
    let top = tempfile::tempdir().expect("dir");
    let origin = top.path().join("base");
    let acknowledged = base(&origin);
    // Those at which an operation of the disk itself fails.
    let points = [
        (Point::LogWriteBefore, "enospc"),
        (Point::LogSyncBefore, "eio"),
        (Point::PromisedWritten, "eio"),
        (Point::StateWriteBefore, "enospc"),
        (Point::StateSyncBefore, "eio"),
    ];
    for (point, error) in points {
        for round in 0..hits() {
            let dir = top.path().join("now");
            copy(&origin, &dir);
            let failpoint = format!("{}=error({error})*1@{}", point.name(), 3 + round % 4);
            let process = Process::start(&alone(&dir, 2 + round, 100_000), &failpoint);
            let (code, said, acks) = process.ended();
            assert_eq!(code, Some(4), "{failpoint}: {said}");
            assert!(said.starts_with("stopped"), "{failpoint}: {said}");
            let mut all = acknowledged.clone();
            all.extend(acks);
            recovers(&failpoint, &dir, &all);
            std::fs::remove_dir_all(&dir).expect("remove");
        }
    }
}

/// Three members in processes.
struct Trio {
    orders: Vec<Orders>,
    running: Vec<Option<Process>>,
    acknowledged: BTreeSet<(u64, u64)>,
}

impl Trio {
    fn new(dir: &Path) -> Self {
        let addresses = vec![free(), free(), free()];
        let orders = (1..=3).map(|member| Orders {
            dir: dir.join(member.to_string()),
            member,
            addresses: addresses.clone(),
            bootstrap: member == 1,
            life: 10 * member,
            writes: 0,
        });
        Self { orders: orders.collect(), running: vec![None, None, None], acknowledged: BTreeSet::new() }
    }

    fn start(&mut self, at: usize, writes: u64, failpoints: &str) {
        self.orders[at].life += 1;
        self.orders[at].writes = writes;
        self.running[at] = Some(Process::start(&self.orders[at], failpoints));
    }

    fn process(&mut self, at: usize) -> &mut Process {
        self.running[at].as_mut().expect("it runs")
    }

    /// Which of them leads, of those that run.
    fn leader(&mut self, among: &[usize]) -> usize {
        loop {
            for at in among {
                if self.process(*at).state().is_some_and(|seen| seen.leads) {
                    return *at;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn stop(&mut self, at: usize) {
        let process = self.running[at].take().expect("it runs");
        self.acknowledged.extend(process.stop());
    }

    /// Waits for the end of a process by its failpoint.
    fn died(&mut self, at: usize, what: &str) {
        let (code, said, acknowledged) = self.running[at].take().expect("it runs").ended();
        assert_eq!(code, None, "{what}: {said}");
        self.acknowledged.extend(acknowledged);
    }

    /// All three run: they agree, and hold everything.
    fn agree(&mut self, what: &str) {
        for process in self.running.iter().flatten() {
            self.acknowledged.extend(process.acknowledged());
        }
        let wanted = self.acknowledged.clone();
        let mut seen = Vec::new();
        for at in 0..3 {
            let state = self.process(at).until(what, |seen| wanted.is_subset(&seen.writes));
            seen.push(state.unwrap_or_else(|| panic!("{what}: member {} ended", at + 1)));
        }
        let top = seen.iter().map(|state| state.applied).max().expect("three");
        for (at, state) in seen.iter_mut().enumerate() {
            *state = self.process(at).until(what, |seen| seen.applied >= top).expect("it runs");
        }
        // Where two are at the same entry they are the same.
        for a in &seen {
            for b in seen.iter().filter(|b| b.applied == a.applied) {
                assert_eq!((&a.digest, &a.writes), (&b.digest, &b.writes), "{what}");
            }
        }
    }
}

/// Two members whose logs begin late, and a third that lacks what they purged.
fn one_behind(dir: &Path) -> Trio {
    let mut trio = Trio::new(dir);
    for at in [0, 1] {
        trio.start(at, WRITES, "");
    }
    for at in [0, 1] {
        // Whoever leads makes the writes of its own; the other's come when it leads.
        trio.process(at).until("a purged log", |seen| seen.begins > 20).expect("it runs");
    }
    trio
}

#[test]
fn a_snapshot_that_is_cut_off_while_it_arrives_is_sent_again() {
    for point in Point::of(Place::Receive) {
        for round in 0..hits() {
            let dir = tempfile::tempdir().expect("dir");
            let mut trio = one_behind(dir.path());
            let action = if point == Point::SnapshotReceivePart {
                format!("torn({})", 100 * round)
            } else {
                "abort".into()
            };
            let failpoint = format!("{}={action}", point.name());
            trio.start(2, 0, &failpoint);
            trio.died(2, &failpoint);
            trio.start(2, 0, "");
            trio.agree(&failpoint);
        }
    }
}

#[test]
fn a_leader_that_dies_while_it_sends_a_snapshot_leaves_no_half_one() {
    for point in Point::of(Place::Send) {
        for round in 0..hits() {
            let dir = tempfile::tempdir().expect("dir");
            let mut trio = one_behind(dir.path());
            let failpoint = format!(
                "{}=abort@{}",
                point.name(),
                if point == Point::SnapshotSendPart { round % 4 } else { 0 }
            );
            for at in [0, 1] {
                trio.stop(at);
            }
            for at in [0, 1] {
                trio.start(at, 0, &failpoint);
            }
            let leader = trio.leader(&[0, 1]);
            trio.start(2, 0, "");
            trio.died(leader, &failpoint);
            // The other one would die of it too, had it to send.
            trio.stop(1 - leader);
            for at in [0, 1] {
                trio.start(at, 4, "");
            }
            trio.agree(&failpoint);
        }
    }
}

#[test]
fn a_tail_that_was_never_committed_goes_even_if_the_member_dies_over_it() {
    for point in Point::of(Place::Truncate) {
        for _ in 0..hits() {
            let failpoint = format!("{}=abort", point.name());
            let died = (0..10).any(|_| {
                let dir = tempfile::tempdir().expect("dir");
                let mut trio = Trio::new(dir.path());
                for at in 0..3 {
                    trio.start(at, 100_000, "");
                }
                let leader = trio.leader(&[0, 1, 2]);
                let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
                assert!(trio.process(leader).acknowledges(20));
                // Alone, it writes on and gets no majority: what it is told to write now nobody else has.
                for at in &others {
                    let acknowledged = trio.running[*at].take().expect("it runs").kill();
                    trio.acknowledged.extend(acknowledged);
                }
                let before = trio.process(leader).state().expect("it runs").last;
                trio.process(leader).write();
                let has_tail = |seen: Seen| seen.last > before && seen.last > seen.applied;
                if !(0..100).any(|_| has_tail(trio.process(leader).state().expect("it runs"))) {
                    return false;
                }
                let acknowledged = trio.running[leader].take().expect("it runs").kill();
                trio.acknowledged.extend(acknowledged);
                // Few: a leader that has purged its log sends a snapshot, and nothing is truncated.
                for at in &others {
                    trio.start(*at, 8, "");
                }
                let second = trio.leader(&others);
                assert!(trio.process(second).acknowledges(8));
                trio.start(leader, 0, &failpoint);
                // Without a tail there was nothing to take back: once more.
                let target = trio.process(second).state().expect("it runs").applied;
                let caught_up = trio.process(leader).until("its death", |seen| seen.applied >= target);
                if caught_up.is_some() {
                    return false;
                }
                trio.died(leader, &failpoint);
                trio.start(leader, 0, "");
                trio.agree(&failpoint);
                true
            });
            assert!(died, "{} was not passed in ten runs", point.name());
        }
    }
}
