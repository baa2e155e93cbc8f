//! Ids of members, and a cluster that begins from a backup.

use super::test_state::{TestJob, TestState, at};
use super::{Key, Row, State};
use crate::command::Command;
use crate::model::attempt::Outcome;
use crate::model::ids::{MemberId, Token, WorkerId};
use crate::model::worker::WorkerState;
use crate::reply::{Rejection, Reply};

fn admit(request: &str, replace: Option<u64>, floor: u64) -> Command {
    Command::AdmitMember {
        request: request.to_owned(),
        address: format!("{request}:7070"),
        replace: replace.map(MemberId),
        floor: MemberId(floor),
    }
}

fn close(member: u64, floor: u64) -> Command {
    Command::CloseAdmission { member: MemberId(member), floor: MemberId(floor) }
}

fn admitted(member: u64) -> Reply {
    Reply::Admitted { member: MemberId(member) }
}

#[test]
fn an_id_is_never_given_twice_whatever_the_membership_says() {
    let mut test = TestState::new();

    let first = test.apply(admit("a", None, 1)).reply;
    let again = test.apply(admit("a", None, 2)).reply;
    test.apply(close(2, 2));
    // Member 2 left: the membership holds 1 again.
    let after_removal = test.apply(admit("b", None, 1)).reply;
    // A membership that knows more than the state counted, as of an older version.
    let above = test.apply(admit("c", None, 9)).reply;

    assert_eq!([first, again, after_removal, above], [admitted(2), admitted(2), admitted(3), admitted(10)]);
    assert_eq!(test.state.last_member(), MemberId(10));
}

#[test]
fn a_state_that_never_counted_learns_the_greatest_id_before_it_is_removed() {
    let mut test = TestState::new();
    // A cluster of members 1 to 3 of an older version; 3 leaves, then another joins.
    test.apply(close(3, 3));
    assert_eq!(test.apply(admit("a", None, 2)).reply, admitted(4));
}

#[test]
fn the_count_outlives_a_restart_and_an_old_state_starts_at_the_membership() {
    let mut test = TestState::new();
    assert!(!test.state.keys().contains(&Key::Members), "an old data directory has no such row");
    test.apply(admit("a", Some(2), 3));
    let rows: Vec<(Key, Row)> =
        test.state.keys().into_iter().filter_map(|key| Some((key.clone(), test.state.row(&key)?))).collect();

    let restored = State::restore(rows.into_iter()).unwrap();

    assert_eq!(restored, test.state);
    assert_eq!(restored.last_member(), MemberId(4));
    assert_eq!(restored.admissions()[&MemberId(4)].replace, Some(MemberId(2)));
}

#[test]
fn one_member_is_replaced_by_one_and_a_looping_start_script_is_stopped() {
    let mut test = TestState::new();
    test.apply(admit("a", Some(2), 3));
    let second = test.apply(admit("b", Some(2), 3)).reply;
    assert_eq!(second, Reply::Rejected(Rejection::ReplacedAlready { member: MemberId(2), by: MemberId(4) }));
    test.apply(close(4, 4));
    assert_eq!(test.apply(admit("b", Some(2), 3)).reply, admitted(5));

    for n in 1..16 {
        test.apply(admit(&format!("loop{n}"), None, 3));
    }
    let refused = test.apply(admit("one-more", None, 3)).reply;
    assert_eq!(refused, Reply::Rejected(Rejection::TooManyAdmissions { open: 16, limit: 16 }));
}

#[test]
fn a_restored_cluster_fences_all_that_the_old_one_granted_and_goes_on() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).task(&[]));
    let old = test.place(at(job, 0, 0), &[]).unwrap();
    test.apply(admit("a", None, 3));

    assert_eq!(test.apply(Command::Restored).reply, Reply::Done);

    assert_eq!(test.state.worker(WorkerId(1)).map(|w| w.state), Some(WorkerState::Lost));
    assert_eq!(test.state.attempt(Token(old)), None);
    assert!(test.state.admissions().is_empty());
    assert_eq!(test.state.last_member(), MemberId(4), "ids count on");
    // A late result of the old cluster's attempt counts for nothing; the next grant is far above.
    assert_eq!(test.end(old, at(job, 0, 0), Outcome::Exit(0)), None);
    test.register("w1", 0, "b", &[]);
    let new = test.place(at(job, 0, 0), &[]).unwrap();
    assert!(new > old + (1 << 32), "{new}");
    assert_eq!(test.state.job(at(job, 0, 0).job).map(|j| j.lost), Some(1));
}
