//! Who is asked to save when the machine goes, for how long, and what the coordinator hears of it.

use crate::Agent;
use crate::evict::REPORT_MS;
use crate::input::{Action, Input, Instruction, LaunchOrder, StartOrder};
use muster_core::command::ReportKind;
use muster_core::leader::instruction::DeviceOrder;
use muster_core::model::attempt::{Outcome, TERM_TO_KILL_MS};
use muster_core::model::checkpoint::{Part, Saved};
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token};
use muster_core::model::job_spec::CheckpointSpec;
use muster_core::model::lease::RENEW_MS;
use muster_core::model::notice::{Notice, NoticeKind, NoticeSource};
use muster_core::model::placement::WHOLE;

const SAVE: i32 = 10;

fn notice(kind: NoticeKind, in_ms: Option<u64>) -> Notice {
    Notice { source: NoticeSource::Aws, kind, in_ms, detail: "spot".to_owned(), drill: false }
}

fn going(in_ms: u64) -> Input {
    Input::Notice(notice(NoticeKind::Preemption, Some(in_ms)))
}

fn start(token: u64, gpus: u16, watched: bool) -> Input {
    let checkpoint =
        CheckpointSpec { watch: watched.then(|| "checkpoint-*".into()), ..CheckpointSpec::default() };
    Input::Instruction(Instruction::Start(Box::new(StartOrder {
        at: IndexRef::new(JobId(1), TaskNo(0), u32::try_from(token).expect("small")),
        number: 1,
        rank: 0,
        token: Token(token),
        term: 1,
        heartbeat: 1,
        devices: (0..gpus).map(|n| DeviceOrder { uuid: n.to_string(), milli: WHOLE, memory: 0 }).collect(),
        launch: LaunchOrder {
            signal: SAVE,
            grace_ms: 60_000,
            cpu_milli: 1_000,
            checkpoint,
            ..LaunchOrder::default()
        },
    })))
}

/// An agent with a session since 1000 ms that runs tokens 1, 2 … with so many GPUs.
fn running(gpus: &[u16]) -> Agent {
    let mut agent = Agent::new(vec![], Token(0), 0);
    agent.step(1_000, Input::SessionOpened);
    for (token, gpus) in (1..).zip(gpus) {
        agent.step(1_000, start(token, *gpus, false));
        agent.step(1_000, Input::Started { token: Token(token) });
    }
    agent
}

fn saved(token: u64, took_ms: u64) -> Input {
    let saved = Saved { step: 1, part: Part::default(), single: false, took_ms };
    Input::Saved { token: Token(token), saved }
}

/// (token, signal, grace, deadline) of the stops.
fn stops(actions: &[Action]) -> Vec<(u64, i32, u64, Option<u64>)> {
    let stop = |action: &Action| match action {
        Action::Stop { token, signal, grace_ms, deadline } => Some((token.0, *signal, *grace_ms, *deadline)),
        _ => None,
    };
    actions.iter().filter_map(stop).collect()
}

/// Kind and time left of the notices that are said.
fn said(actions: &[Action]) -> Vec<(NoticeKind, Option<u64>)> {
    let notice = |action: &Action| match action {
        Action::Notice(notice) => Some((notice.kind, notice.in_ms)),
        _ => None,
    };
    actions.iter().filter_map(notice).collect()
}

fn outcomes(actions: &[Action]) -> Vec<Outcome> {
    let reports = actions.iter().filter_map(|action| match action {
        Action::Report(reports) => Some(reports),
        _ => None,
    });
    let ended = reports.flatten().filter_map(|report| match &report.kind {
        ReportKind::Ended { outcome, .. } => Some(outcome.clone()),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_notice_is_said_at_once_and_evicts_at_once_with_the_grace_that_fits() {
    let mut agent = running(&[1]);
    let actions = agent.step(10_000, going(30_000));
    assert!(matches!(actions[0], Action::Notice(_)), "the coordinator hears it first: {actions:?}");
    assert_eq!(said(&actions), [(NoticeKind::Preemption, Some(30_000))]);
    let room = 30_000 - TERM_TO_KILL_MS - REPORT_MS;
    assert_eq!(stops(&actions), [(1, SAVE, room, Some(40_000))]);
    // The same again, a little sooner, is nothing new; much sooner is.
    assert_eq!(agent.step(10_500, going(29_000)), []);
    let actions = agent.step(11_000, going(5_000));
    assert_eq!(said(&actions), [(NoticeKind::Preemption, Some(5_000))]);
    assert_eq!(stops(&actions), [(1, SAVE, 2_500, Some(16_000))]);
    // And a later one is not believed.
    assert_eq!(agent.step(11_100, going(60_000)), []);
}

#[test]
fn who_has_most_to_lose_saves_first_and_what_does_not_fit_any_more_is_not_asked() {
    let mut agent = running(&[0, 2, 1, 8]);
    for (token, took) in [(1, 1_000), (2, 4_000), (3, 4_000), (4, 20_000)] {
        agent.step(2_000, saved(token, took));
    }
    agent.step(3_500, saved(2, 4_000));
    let actions = agent.step(4_000, going(12_500));
    // 10 s are left for saving: 8 GPUs can't be saved even alone; of the others, the GPU-time since the last save decides.
    let by_token: Vec<(u64, i32)> = stops(&actions).iter().map(|s| (s.0, s.1)).collect();
    assert_eq!(by_token, [(4, 15), (3, SAVE), (2, SAVE), (1, SAVE)]);
    let ended: Vec<u64> = stops(&actions).iter().filter(|s| s.1 == 15).map(|s| s.2).collect();
    assert_eq!(ended, [0], "ended at once");

    let mut agent = running(&[2, 1]);
    agent.step(2_000, saved(1, 6_000));
    agent.step(2_000, saved(2, 6_000));
    let actions = agent.step(4_000, going(12_500));
    let signals: Vec<(u64, i32)> = stops(&actions).iter().map(|s| (s.0, s.1)).collect();
    assert_eq!(signals, [(1, SAVE), (2, 15)], "two saves of 6 s do not fit 10 s together");
}

#[test]
fn an_unmeasured_save_is_tried_an_unknown_deadline_gives_the_whole_grace_and_none_gives_none() {
    let mut agent = running(&[1]);
    let actions = agent.step(4_000, Input::Notice(notice(NoticeKind::Preemption, None)));
    assert_eq!(stops(&actions), [(1, SAVE, 60_000, None)]);
    let mut agent = running(&[1]);
    assert_eq!(stops(&agent.step(4_000, going(3_000))), [(1, SAVE, 500, Some(7_000))]);
    let mut agent = running(&[1]);
    assert_eq!(stops(&agent.step(4_000, going(0))), [(1, 15, 0, Some(4_000))]);
}

#[test]
fn what_is_watched_is_stored_after_the_process_and_gets_less_grace() {
    let mut agent = Agent::new(vec![], Token(0), 0);
    agent.step(1_000, Input::SessionOpened);
    agent.step(1_000, start(1, 1, true));
    agent.step(1_000, Input::Started { token: Token(1) });
    agent.step(2_000, saved(1, 4_000));
    assert_eq!(stops(&agent.step(4_000, going(12_500))), [(1, SAVE, 6_000, Some(16_500))]);
}

#[test]
fn a_notice_is_repeated_with_what_is_left_until_it_is_heard() {
    let mut agent = running(&[]);
    agent.step(1_500, going(60_000));
    assert_eq!(agent.step(1_600, Input::Instruction(Instruction::NoticeHeard)), []);
    assert_eq!(
        said(&agent.step(1_000 + RENEW_MS, Input::Tick)),
        [(NoticeKind::Preemption, Some(58_500))],
        "an answer that comes too soon may be one to something older"
    );
    agent.step(1_500 + RENEW_MS, Input::Instruction(Instruction::NoticeHeard));
    assert_eq!(said(&agent.step(1_000 + 2 * RENEW_MS, Input::Tick)), []);
    // Another session may be another leader's.
    agent.step(6_000, Input::SessionClosed);
    assert_eq!(said(&agent.step(7_000, Input::SessionOpened)), [(NoticeKind::Preemption, Some(54_500))]);
}

#[test]
fn without_a_session_the_evictions_begin_all_the_same() {
    let mut agent = running(&[1]);
    agent.step(2_000, Input::SessionClosed);
    let actions = agent.step(3_000, going(30_000));
    assert_eq!((said(&actions).len(), stops(&actions).len()), (0, 1));
    assert_eq!(said(&agent.step(4_000, Input::SessionOpened)), [(NoticeKind::Preemption, Some(29_000))]);
}

#[test]
fn nothing_starts_on_a_machine_that_goes_and_what_it_evicted_did_not_fail() {
    let mut agent = running(&[1]);
    agent.step(2_000, going(30_000));
    let actions = agent.step(2_100, start(7, 1, false));
    assert_eq!(outcomes(&actions), [Outcome::Evicted]);
    assert!(!actions.iter().any(|a| matches!(a, Action::Launch { .. })), "{actions:?}");
    let ended =
        |code| Input::Ended { token: Token(1), outcome: Outcome::Exit(code), artifacts: vec![], ran_ms: 1 };
    assert_eq!(outcomes(&agent.clone().step(2_200, ended(0))), [Outcome::Exit(0)]);
    assert_eq!(outcomes(&agent.step(2_200, ended(1))), [Outcome::Evicted]);
}

#[test]
fn withdrawn_it_takes_work_again_and_says_so() {
    let mut agent = running(&[]);
    agent.step(2_000, going(30_000));
    let actions = agent.step(2_500, Input::Notice(notice(NoticeKind::Withdrawn, None)));
    assert_eq!(said(&actions), [(NoticeKind::Withdrawn, None)]);
    let actions = agent.step(2_600, start(7, 1, false));
    assert!(actions.iter().any(|a| matches!(a, Action::Launch { .. })), "{actions:?}");
    // An operator may take it back too, once the coordinator has it.
    let mut agent = running(&[]);
    agent.step(1_000, going(30_000));
    let withdrawn = || Input::Instruction(Instruction::Notice(notice(NoticeKind::Withdrawn, None)));
    agent.step(2_000, withdrawn());
    assert_eq!(said(&agent.step(3_000, Input::Tick)), [(NoticeKind::Preemption, Some(28_000))]);
    agent.step(3_100, Input::Instruction(Instruction::NoticeHeard));
    agent.step(3_200, withdrawn());
    let actions = agent.step(3_300, start(7, 1, false));
    assert!(actions.iter().any(|a| matches!(a, Action::Launch { .. })), "{actions:?}");
}

#[test]
fn advice_lets_everything_run_on() {
    let mut agent = running(&[1]);
    let actions = agent.step(2_000, Input::Notice(notice(NoticeKind::Advice, None)));
    assert_eq!((said(&actions), stops(&actions)), (vec![(NoticeKind::Advice, None)], vec![]));
    assert_eq!(stops(&agent.step(3_000, going(30_000))).len(), 1, "and then it goes");
}

#[test]
fn an_operators_notice_evicts_by_the_same_rules_and_is_not_said_back() {
    let mut agent = running(&[1]);
    let told = Instruction::Notice(notice(NoticeKind::Preemption, Some(12_500)));
    let actions = agent.step(2_000, Input::Instruction(told));
    assert_eq!((said(&actions), stops(&actions)), (vec![], vec![(1, SAVE, 10_000, Some(14_500))]));
    // The leader's own order for it, and its repetitions, change nothing.
    let order = |agent: &mut Agent, now, within_ms| {
        let token = Token(1);
        let stop = Instruction::Stop { token, signal: SAVE, grace_ms: 60_000, within_ms };
        stops(&agent.step(now, Input::Instruction(stop)))
    };
    assert_eq!(order(&mut agent, 2_050, Some(12_450)), []);
    assert_eq!(order(&mut agent, 4_050, Some(10_450)), []);
    assert_eq!(order(&mut agent, 4_100, Some(5_000)), [(1, SAVE, 2_500, Some(9_100))], "sooner does");
    assert_eq!(
        order(&mut agent, 20_000, Some(0)),
        [(1, 15, 0, Some(20_000))],
        "and so does one that should be over"
    );
}

#[test]
fn a_stop_within_a_time_is_cut_to_it() {
    let mut agent = running(&[1, 1]);
    let stop = |token| {
        let token = Token(token);
        Input::Instruction(Instruction::Stop {
            token,
            signal: SAVE,
            grace_ms: 60_000,
            within_ms: Some(30_000),
        })
    };
    assert_eq!(stops(&agent.step(2_000, stop(1))), [(1, SAVE, 27_500, Some(32_000))]);
    agent.step(2_000, saved(2, 40_000));
    assert_eq!(stops(&agent.step(2_000, stop(2))), [(2, 15, 0, Some(32_000))], "its save takes longer");
}
