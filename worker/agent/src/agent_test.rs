//! The rules as tables of what happens and what is asked for. Times are milliseconds of the boot-time clock.

use crate::Agent;
use crate::input::{Action, Input, Instruction, Journaled, LaunchOrder, StartOrder};
use muster_core::command::{Report, ReportKind};
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::{Part, Saved, Sha256, Verdict};
use muster_core::model::device_event::{DeviceEvent, DeviceEventKind};
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token};
use muster_core::model::lease::{KILL_BEFORE_MS, RENEW_MS, WORKER_LEASE_MS};

/// An agent that has a session since 1000 ms, whose first heartbeat was then.
struct Rig(Agent);

impl Rig {
    fn new() -> Self {
        Self::restarted(vec![], 0, 0)
    }

    fn restarted(journaled: Vec<Journaled>, highest: u64, term: u64) -> Self {
        let mut agent = Agent::new(journaled, Token(highest), term);
        agent.step(1000, Input::SessionOpened);
        Self(agent)
    }

    fn at(&mut self, now: u64, input: Input) -> Vec<Action> {
        self.0.step(now, input)
    }

    fn told(&mut self, now: u64, instruction: Instruction) -> Vec<Action> {
        self.0.step(now, Input::Instruction(instruction))
    }

    /// Runs `token` since 1002 ms.
    fn running(mut self, token: u64) -> Self {
        self.told(1001, start(token).build());
        self.at(1002, Input::Started { token: Token(token) });
        self
    }

    /// `token` ended at 1500 ms.
    fn ended(mut self, token: u64) -> Self {
        self = self.running(token);
        self.at(1500, exit(token, 0));
        self
    }
}

fn index() -> IndexRef {
    IndexRef::new(JobId(7), TaskNo(0), 0)
}

struct Start(StartOrder);

/// A start order of term 1 that echoes heartbeat 1.
fn start(token: u64) -> Start {
    Start(StartOrder {
        at: index(),
        number: 1,
        rank: 0,
        token: Token(token),
        term: 1,
        heartbeat: 1,
        devices: vec![],
        launch: LaunchOrder::default(),
    })
}

impl Start {
    fn term(mut self, term: u64) -> Self {
        self.0.term = term;
        self
    }
    fn heartbeat(mut self, seq: u64) -> Self {
        self.0.heartbeat = seq;
        self
    }
    fn build(self) -> Instruction {
        Instruction::Start(Box::new(self.0))
    }
    fn order(self) -> Box<StartOrder> {
        Box::new(self.0)
    }
}

fn exit(token: u64, code: i32) -> Input {
    Input::Ended { token: Token(token), outcome: Outcome::Exit(code), artifacts: vec![], ran_ms: 5 }
}

fn journaled(token: u64, code: Option<i32>) -> Journaled {
    let result = code.map(|code| (Outcome::Exit(code), vec![], 5));
    Journaled { at: index(), number: 1, rank: 0, token: Token(token), result }
}

fn says_running(token: u64) -> Report {
    Report { token: Token(token), rank: 0, at: index(), kind: ReportKind::Running }
}

fn says_ended(token: u64, outcome: Outcome, ran_ms: u64) -> Report {
    Report {
        token: Token(token),
        rank: 0,
        at: index(),
        kind: ReportKind::Ended { outcome, artifacts: vec![], ran_ms },
    }
}

fn settled(token: u64) -> Instruction {
    Instruction::Settled { tokens: vec![Token(token)] }
}

fn beat(seq: u64, held: &[u64]) -> Action {
    Action::Heartbeat { seq, held: held.iter().copied().map(Token).collect() }
}

#[test]
fn a_start_is_journaled_then_launched_with_the_deadline_of_the_echoed_heartbeat() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.told(1001, start(5).build()),
        vec![
            Action::Journal(journaled(5, None)),
            Action::Launch { order: start(5).order(), deadline: 1000 + WORKER_LEASE_MS },
        ]
    );
    assert_eq!(rig.told(1002, start(5).build()), vec![], "a repeat starts nothing");
    assert_eq!(rig.told(1003, start(4).build()).len(), 2, "tokens may come out of order");
}

#[test]
fn starts_are_refused_when() {
    let last = 1000 + WORKER_LEASE_MS - KILL_BEFORE_MS;
    for (why, now, order) in [
        ("the heartbeat is not known", 1001, start(5).heartbeat(2)),
        ("the lease is nearly over", last, start(5)),
        ("the leader is an old one", 1001, start(5).term(0)),
    ] {
        let mut rig = Rig::restarted(vec![], 0, 1);
        assert_eq!(rig.told(now, order.build()), vec![], "{why}");
        assert_eq!(rig.0.held(), vec![], "{why}");
    }
    assert_eq!(Rig::new().told(last - 1, start(5).build()).len(), 2);
}

#[test]
fn a_token_from_before_the_restart_is_never_started_and_reported_once_until_settled() {
    let mut rig = Rig::restarted(vec![], 9, 1);
    let actions = rig.told(1001, start(5).build());
    let Action::Journal(kept) = &actions[0] else { panic!("{actions:?}") };
    assert!(matches!(kept.result, Some((Outcome::Launch(_), _, 0))), "{kept:?}");
    assert!(matches!(&actions[1..], [Action::Report(_)]), "{actions:?}");
    assert_eq!(rig.told(1002, settled(5)), vec![Action::Forget { token: Token(5) }]);
}

#[test]
fn heartbeats_come_every_two_seconds_of_a_session_and_name_what_is_held() {
    let mut rig = Rig::new().running(5).ended(6);
    assert_eq!(rig.at(1000 + RENEW_MS - 1, Input::Tick), vec![]);
    assert_eq!(rig.at(1000 + RENEW_MS, Input::Tick), vec![beat(2, &[5, 6])]);
    rig.at(3100, Input::SessionClosed);
    assert_eq!(rig.0.next_wake(), None);
    assert_eq!(rig.at(9000, Input::Tick), vec![]);
}

#[test]
fn an_acknowledged_heartbeat_moves_the_deadline_from_its_sending_and_never_back() {
    let mut rig = Rig::new();
    rig.at(3000, Input::Tick);
    let renewed = |seq, term| Instruction::Renewed { seq, term };
    let to = |deadline| vec![Action::Renew { deadline }];
    assert_eq!(rig.told(3900, renewed(2, 1)), to(3000 + WORKER_LEASE_MS));
    assert_eq!(rig.told(3901, renewed(2, 1)), vec![], "once");
    assert_eq!(rig.told(3902, renewed(1, 1)), vec![], "an older one");
    assert_eq!(rig.told(3903, renewed(3, 1)), vec![], "never sent");
    rig.at(5000, Input::Tick);
    rig.told(5001, start(5).heartbeat(3).term(2).build());
    assert_eq!(rig.told(5002, renewed(3, 1)), vec![], "the old leader's");
    assert_eq!(rig.told(5003, renewed(3, 2)), to(5000 + WORKER_LEASE_MS));
}

#[test]
fn an_end_is_journaled_and_reported_until_it_is_settled() {
    let mut rig = Rig::new().running(5);
    let ended = Action::Report(vec![says_ended(5, Outcome::Exit(1), 5)]);
    assert_eq!(rig.at(2500, exit(5, 1)), vec![Action::Journal(journaled(5, Some(1))), ended.clone()]);
    assert_eq!(rig.at(2501, exit(5, 1)), vec![], "a repeat changes nothing");
    assert_eq!(rig.at(3000, Input::Tick), vec![beat(2, &[5])], "just said");
    assert_eq!(rig.at(5000, Input::Tick), vec![beat(3, &[5]), ended.clone()]);
    rig.at(5001, Input::SessionClosed);
    assert_eq!(rig.at(6000, Input::SessionOpened), vec![beat(4, &[5]), ended]);
    assert_eq!(rig.told(6001, settled(5)), vec![Action::Forget { token: Token(5) }]);
    assert_eq!(rig.told(6002, settled(5)), vec![]);
    assert_eq!(
        rig.told(6003, start(5).heartbeat(4).build()),
        vec![],
        "a forgotten token is not started again"
    );
}

#[test]
fn an_end_without_a_session_waits_for_one() {
    let mut rig = Rig::new().running(5);
    rig.at(2000, Input::SessionClosed);
    let fenced = Input::Ended { token: Token(5), outcome: Outcome::Fenced, artifacts: vec![], ran_ms: 9 };
    let actions = rig.at(11_000, fenced);
    assert!(matches!(actions[..], [Action::Journal(_)]), "{actions:?}");
    assert_eq!(
        rig.at(12_000, Input::SessionOpened),
        vec![beat(2, &[5]), Action::Report(vec![says_ended(5, Outcome::Fenced, 9)])]
    );
}

#[test]
fn what_runs_is_not_forgotten_by_settled() {
    let mut rig = Rig::new().running(5);
    assert_eq!(rig.told(2000, settled(5)), vec![]);
    assert_eq!(rig.0.held(), vec![Token(5)]);
}

#[test]
fn a_new_leader_hears_everything_again() {
    let mut rig = Rig::new().running(5).ended(6);
    let all = Action::Report(vec![says_running(5), says_ended(6, Outcome::Exit(0), 5)]);
    assert_eq!(
        rig.told(2000, Instruction::Renewed { seq: 1, term: 2 }),
        vec![all, Action::Renew { deadline: 1000 + WORKER_LEASE_MS }]
    );
    assert_eq!(rig.0.term(), 2);
}

#[test]
fn stop_and_kill_reach_what_lives_and_nothing_else() {
    let mut rig = Rig::new().running(5).ended(6);
    let stop = |token| Instruction::Stop { token: Token(token), signal: 10, grace_ms: 300, within_ms: None };
    let kill = |token| Instruction::Kill { token: Token(token) };
    assert_eq!(
        rig.told(2000, stop(5)),
        vec![Action::Stop { token: Token(5), signal: 10, grace_ms: 300, deadline: None }]
    );
    assert_eq!(rig.told(2000, stop(6)), vec![]);
    assert_eq!(rig.told(2000, stop(99)), vec![]);
    assert_eq!(rig.told(2000, kill(99)), vec![]);
    assert_eq!(rig.told(2000, kill(6)), vec![Action::Forget { token: Token(6) }]);
    assert_eq!(rig.told(2000, kill(5)), vec![Action::Kill { token: Token(5) }]);
    assert_eq!(rig.at(2100, exit(5, 0)), vec![Action::Forget { token: Token(5) }], "nobody wants its report");
    assert_eq!(rig.0.held(), vec![]);
}

#[test]
fn a_restart_adopts_what_runs_and_repeats_what_ended() {
    let mut agent = Agent::new(vec![journaled(5, None), journaled(6, Some(0))], Token(6), 3);
    assert_eq!(agent.held(), vec![Token(5), Token(6)]);
    assert_eq!(agent.step(900, Input::Started { token: Token(5) }), vec![], "no session yet");
    let all = Action::Report(vec![says_running(5), says_ended(6, Outcome::Exit(0), 5)]);
    assert_eq!(agent.step(1000, Input::SessionOpened), vec![beat(1, &[5, 6]), all]);
}

#[test]
fn what_the_shim_holds_and_the_journal_does_not_is_ended() {
    let mut rig = Rig::new();
    assert_eq!(rig.at(1001, Input::Started { token: Token(5) }), vec![Action::Kill { token: Token(5) }]);
    assert_eq!(rig.at(1002, exit(5, 0)), vec![Action::Forget { token: Token(5) }]);
}

/// A report can be lost while its session lives; without it the log never starts the clock of the attempt's timeout.
#[test]
fn that_it_runs_is_said_again_with_each_heartbeat_until_the_log_has_it() {
    let mut rig = Rig::new().running(5);
    let running = || Action::Report(vec![says_running(5)]);
    let next = 1000 + RENEW_MS;
    assert_eq!(rig.at(next, Input::Tick), vec![beat(2, &[5])], "it was said less than a heartbeat ago");
    assert_eq!(rig.at(next + RENEW_MS, Input::Tick), vec![beat(3, &[5]), running()]);
    assert_eq!(rig.at(next + 2 * RENEW_MS, Input::Tick), vec![beat(4, &[5]), running()]);

    let heard = Instruction::Heard { tokens: vec![Token(5), Token(6)] };
    assert_eq!(rig.told(next + 2 * RENEW_MS + 1, heard), vec![]);
    assert_eq!(rig.at(next + 3 * RENEW_MS, Input::Tick), vec![beat(5, &[5])]);
    // An end is another thing to say.
    let ended = Action::Report(vec![says_ended(5, Outcome::Exit(0), 5)]);
    let at_end = rig.at(next + 3 * RENEW_MS + 1, exit(5, 0));
    assert_eq!(at_end, vec![Action::Journal(journaled(5, Some(0))), ended]);
}

#[test]
fn what_was_seen_of_a_device_is_said_until_it_is_settled() {
    let mut agent = Agent::new(Vec::new(), Token(0), 0);
    let seen = DeviceEvent {
        seq: 0,
        uuid: "GPU-a".to_owned(),
        kind: DeviceEventKind::Xid(79),
        at: 0,
        detail: String::new(),
    };
    let said = Action::DeviceEvents(vec![DeviceEvent { seq: 5, ..seen.clone() }]);
    assert_eq!(agent.step(5, Input::DeviceEvents(vec![seen])), []);
    assert!(agent.step(6, Input::SessionOpened).contains(&said));
    assert!(agent.step(6 + RENEW_MS, Input::Tick).contains(&said));
    agent.step(7 + RENEW_MS, Input::Instruction(Instruction::EventsSettled { seq: 5 }));
    assert!(!agent.step(6 + 2 * RENEW_MS, Input::Tick).contains(&said));
}

fn stored(step: u64) -> Saved {
    let part = Part { manifest: Sha256([1; 32]), size: 7, files: 1 };
    Saved { step, part, single: false, took_ms: 3 }
}

fn says_saved(token: u64, step: u64) -> Report {
    Report { token: Token(token), rank: 0, at: index(), kind: ReportKind::Saved(stored(step)) }
}

fn saved(token: u64, step: u64) -> Input {
    Input::Saved { token: Token(token), saved: stored(step) }
}

#[test]
fn a_checkpoint_is_said_with_each_heartbeat_until_its_fate_is_known() {
    let mut rig = Rig::new().running(5);
    rig.told(1003, Instruction::Heard { tokens: vec![Token(5)] });
    let said = |step| Action::Report(vec![says_saved(5, step)]);
    let told = |step, verdict| Instruction::Checkpoint { token: Token(5), step, verdict };
    let passed = |step, verdict| vec![Action::Verdict { token: Token(5), step, verdict }];
    assert_eq!(rig.at(1500, saved(5, 10)), vec![said(10)]);
    assert_eq!(rig.at(3000, Input::Tick), vec![beat(2, &[5])], "just said");
    assert_eq!(rig.at(5000, Input::Tick), vec![beat(3, &[5]), said(10)]);
    // The other ranks have yet to give it: it is not settled by that.
    assert_eq!(rig.told(5001, told(10, Verdict::Waits)), passed(10, Verdict::Waits));
    assert_eq!(rig.at(7000, Input::Tick), vec![beat(4, &[5]), said(10)]);
    // A newer one takes its place; what is said of the older one does not settle the newer.
    assert_eq!(rig.at(7001, saved(5, 20)), vec![said(20)]);
    let refused = Verdict::Refused("no".to_owned());
    assert_eq!(rig.told(7002, told(10, refused.clone())), passed(10, refused));
    rig.at(8000, Input::SessionClosed);
    assert_eq!(
        rig.at(9500, Input::SessionOpened),
        vec![beat(5, &[5]), Action::Report(vec![says_running(5), says_saved(5, 20)])]
    );
    let committed = Verdict::Committed { kept: Vec::new() };
    assert_eq!(rig.told(9501, told(20, committed.clone())), passed(20, committed.clone()));
    assert_eq!(rig.at(9500 + RENEW_MS, Input::Tick), vec![beat(6, &[5])]);
    assert_eq!(
        rig.told(9600, Instruction::Checkpoint { token: Token(9), step: 1, verdict: committed }),
        vec![]
    );
}

#[test]
fn a_checkpoint_is_said_before_the_end_and_with_it_until_that_is_settled() {
    let mut rig = Rig::new().running(5);
    rig.at(1100, Input::SessionClosed);
    assert_eq!(rig.at(1200, saved(5, 10)), vec![]);
    rig.at(1300, exit(5, 85));
    let both = Action::Report(vec![says_saved(5, 10), says_ended(5, Outcome::Exit(85), 5)]);
    assert_eq!(rig.at(2000, Input::SessionOpened), vec![beat(2, &[5]), both.clone()]);
    assert_eq!(rig.at(2000 + RENEW_MS, Input::Tick), vec![beat(3, &[5]), both]);
    rig.told(4500, settled(5));
    assert_eq!(rig.at(2000 + 2 * RENEW_MS, Input::Tick), vec![beat(4, &[])]);
}

#[test]
fn nothing_is_committed_of_what_is_over() {
    let mut rig = Rig::new().ended(5);
    for token in [5, 9] {
        let actions = rig.at(1600, saved(token, 10));
        let [Action::Verdict { step: 10, verdict: Verdict::Refused(_), .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
    }
    // One that is being killed says nothing more.
    let mut rig = Rig::new().running(6);
    rig.told(1100, Instruction::Kill { token: Token(6) });
    assert_eq!(rig.at(1200, saved(6, 10)), vec![]);
    assert_eq!(rig.at(1000 + RENEW_MS, Input::Tick), vec![beat(2, &[6])]);
}

/// An exercise takes the way of a real event: numbered here, said until it is settled.
#[test]
fn a_device_that_is_sick_on_purpose_is_spoken_of_like_any_other() {
    let mut agent = Agent::new(Vec::new(), Token(0), 0);
    let kind = DeviceEventKind::Xid(79);
    let drill =
        DeviceEvent { seq: 0, uuid: "GPU-a".to_owned(), kind, at: 7, detail: "drill by ann".to_owned() };
    let said = Action::DeviceEvents(vec![DeviceEvent { seq: 5, ..drill.clone() }]);
    agent.step(1, Input::SessionOpened);
    assert_eq!(agent.step(5, Input::Instruction(Instruction::Drill(drill))), std::slice::from_ref(&said));
    assert!(agent.step(6 + RENEW_MS, Input::Tick).contains(&said));
}
