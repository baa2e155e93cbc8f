//! What to do with what runs here when the machine goes: whom to ask to save, for how long, and whom not.
//!
//! All evictions begin at once, for nobody knows a later moment that is better. What is shared is the way to the store, so the saves of one
//! machine together have to fit the time that is left: those with most to lose come first, and one that does not fit any more, or could not
//! even alone, is ended without being asked to save: its place is sooner elsewhere. An attempt whose save was never measured is asked.
//!
//! Left out: what is under a notice when the agent restarts. The sources say it again, and the leader's order to stop needs nothing from here.

use crate::input::{Action, StartOrder};
use muster_core::model::attempt::{Outcome, TERM_TO_KILL_MS};
use muster_core::model::ids::Token;
use muster_core::model::lease::RENEW_MS;
use muster_core::model::notice::{Notice, NoticeKind};
use muster_core::model::placement::WHOLE;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Kept for saying how the attempt ended, ms.
pub const REPORT_MS: u64 = 500;
/// A notice that is sooner by less than this is the same one, said again, ms.
const SAME_MS: u64 = 1_000;
const SIGTERM: i32 = 15;

/// What is known of an attempt that runs here, for choosing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    signal: i32,
    grace_ms: u64,
    /// Thousandths of devices, and of CPUs.
    gpu_milli: u64,
    cpu_milli: u64,
    /// What it has done since then is lost with it (boot-time clock, ms).
    saved_at: u64,
    /// How long its last save took to store, ms.
    save_ms: Option<u64>,
    /// Its directories are stored after its process has ended.
    watched: bool,
    /// It was asked to stop because this machine goes, which nobody else may know yet.
    evicted: bool,
}

/// What a source of this machine said last.
#[derive(Debug, Clone)]
struct Said {
    notice: Notice,
    /// When the machine goes (boot-time clock, ms).
    deadline: Option<u64>,
    /// When it was said, or last changed.
    since: u64,
    /// It is in the log.
    heard: bool,
}

/// Notices and evictions of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evictions {
    said: Option<Said>,
    tasks: BTreeMap<Token, Task>,
    /// When the grace of those that were asked to stop is over (boot-time clock, ms).
    asked: BTreeMap<Token, u64>,
}

/// How an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stop {
    token: Token,
    signal: i32,
    grace_ms: u64,
}

impl Evictions {
    /// An attempt is about to start here.
    pub(crate) fn launched(&mut self, now: u64, order: &StartOrder) {
        let launch = &order.launch;
        self.tasks.insert(
            order.token,
            Task {
                signal: if launch.signal == 0 { SIGTERM } else { launch.signal },
                grace_ms: launch.grace_ms,
                gpu_milli: order.devices.iter().map(|share| u64::from(share.milli.min(WHOLE))).sum(),
                cpu_milli: launch.cpu_milli,
                saved_at: now,
                save_ms: None,
                watched: launch.checkpoint.watch.is_some(),
                evicted: false,
            },
        );
    }

    /// A checkpoint of it is stored, which took so long.
    pub(crate) fn saved(&mut self, now: u64, token: Token, took_ms: u64) {
        if let Some(task) = self.tasks.get_mut(&token) {
            task.saved_at = now;
            task.save_ms = Some(took_ms);
        }
    }

    pub(crate) fn forget(&mut self, token: Token) {
        self.tasks.remove(&token);
        self.asked.remove(&token);
    }

    /// The outcome to report: whoever was evicted by its machine did not fail, however it ended, but for success.
    pub(crate) fn outcome(&self, token: Token, outcome: Outcome) -> Outcome {
        let evicted = self.tasks.get(&token).is_some_and(|task| task.evicted);
        match outcome {
            Outcome::Exit(code) if code != 0 && evicted => Outcome::Evicted,
            Outcome::Signal(_) | Outcome::Oom | Outcome::ContractOutput(_) if evicted => Outcome::Evicted,
            other => other,
        }
    }

    /// Whether nothing may start here: the machine goes. The coordinator is told again, for it seems not to know.
    pub(crate) fn refuses(&mut self) -> bool {
        let said = self.said.as_mut().filter(|said| said.notice.kind == NoticeKind::Preemption);
        said.is_some_and(|said| {
            said.heard = false;
            true
        })
    }

    /// What the coordinator is to hear, until it says that it has.
    pub(crate) fn unheard(&self, now: u64) -> Option<Notice> {
        let said = self.said.as_ref().filter(|said| !said.heard)?;
        let in_ms = said.deadline.map(|deadline| deadline.saturating_sub(now));
        Some(Notice { in_ms, ..said.notice.clone() })
    }

    /// The coordinator has it in the log. An answer that comes sooner than the notice can have been repeated may be one to what was said
    /// before it: that one is said once more.
    pub(crate) fn heard(&mut self, now: u64) {
        if let Some(said) = self.said.as_mut().filter(|said| now >= said.since + RENEW_MS) {
            said.heard = true;
            if said.notice.kind == NoticeKind::Withdrawn {
                self.said = None;
            }
        }
    }

    /// What was said over the last session may be lost with it.
    pub(crate) fn session_opened(&mut self) {
        if let Some(said) = &mut self.said {
            said.heard = false;
        }
    }

    /// A source of this machine says that it goes, may go, or stays.
    pub(crate) fn noticed(&mut self, now: u64, notice: Notice, session: bool) -> Vec<Action> {
        let deadline = notice.in_ms.map(|ms| now.saturating_add(ms));
        let next = match self.said.take().filter(|old| old.notice.kind != NoticeKind::Withdrawn) {
            // It had said nothing that could be withdrawn. The coordinator may know better, from before a restart of this agent.
            None => Said { notice, deadline, since: now, heard: false },
            Some(old) => merged(now, old, notice, deadline),
        };
        let (kind, deadline) = (next.notice.kind, next.deadline);
        let changed = next.since == now;
        self.said = Some(next);
        let mut actions: Vec<Action> = Vec::new();
        if changed && session {
            actions.extend(self.unheard(now).map(Action::Notice));
        }
        if kind == NoticeKind::Preemption {
            actions.extend(self.evict(now, deadline, true));
        }
        actions
    }

    /// Somebody else says so: an operator, through the coordinator. It is not said back to it. What the coordinator knew and has no more is
    /// forgotten here too; what it has not answered may be newer than that.
    pub(crate) fn told(&mut self, now: u64, notice: &Notice) -> Vec<Action> {
        match notice.kind {
            NoticeKind::Preemption => {
                let deadline = notice.in_ms.map(|ms| now.saturating_add(ms));
                self.evict(now, deadline, false)
            }
            NoticeKind::Advice => Vec::new(),
            NoticeKind::Withdrawn => {
                self.said.take_if(|said| said.heard);
                Vec::new()
            }
        }
    }

    /// The coordinator orders a stop, and orders it again with every heartbeat: cut to what is left, and passed on once, for each of
    /// them signals. Again only when there is less time than was said, or when it should be over long since.
    pub(crate) fn ordered(
        &mut self,
        now: u64,
        token: Token,
        (signal, grace_ms): (i32, u64),
        within_ms: Option<u64>,
    ) -> Option<Action> {
        let within = within_ms.map(|ms| now.saturating_add(ms));
        let deadline = sooner(within, self.deadline());
        let room = room(now, deadline);
        let (save_ms, watched) =
            self.tasks.get(&token).map_or((None, false), |task| (task.save_ms, task.watched));
        let fits = save_ms.is_none_or(|ms| ms <= room);
        self.ask(now, stop_of(token, (signal, grace_ms), (save_ms, watched), room, fits), deadline)
    }

    fn ask(&mut self, now: u64, stop: Stop, deadline: Option<u64>) -> Option<Action> {
        let Stop { token, signal, grace_ms } = stop;
        let end = now.saturating_add(grace_ms);
        let before = self.asked.get(&token).copied();
        let again = |before: u64| {
            end.saturating_add(SAME_MS) < before || now > before.saturating_add(TERM_TO_KILL_MS + RENEW_MS)
        };
        if !before.is_none_or(again) {
            return None;
        }
        self.asked.insert(token, end);
        Some(Action::Stop { token, signal, grace_ms, deadline })
    }

    /// When the machine goes, as its sources say.
    fn deadline(&self) -> Option<u64> {
        let said = self.said.as_ref().filter(|said| said.notice.kind == NoticeKind::Preemption)?;
        said.deadline
    }

    /// Asks everything that runs here to be over by the deadline.
    fn evict(&mut self, now: u64, deadline: Option<u64>, own: bool) -> Vec<Action> {
        let mut order: Vec<(Reverse<(u128, u128)>, Token)> =
            self.tasks.iter().map(|(token, task)| (Reverse(task.at_risk(now)), *token)).collect();
        order.sort_unstable();
        let room = room(now, deadline);
        let mut promised = 0_u64;
        let mut actions = Vec::with_capacity(order.len());
        for (_, token) in order {
            let Some(task) = self.tasks.get_mut(&token) else { continue };
            let fits = task.save_ms.is_none_or(|ms| promised.saturating_add(ms) <= room);
            promised += task.save_ms.filter(|_| fits).unwrap_or(0);
            task.evicted |= own;
            let stop = stop_of(token, (task.signal, task.grace_ms), (task.save_ms, task.watched), room, fits);
            actions.extend(self.ask(now, stop, deadline));
        }
        actions
    }
}

impl Task {
    /// What is lost with it: GPU time since its last save, then CPU time.
    fn at_risk(&self, now: u64) -> (u128, u128) {
        let unsaved = u128::from(now.saturating_sub(self.saved_at));
        (u128::from(self.gpu_milli) * unsaved, u128::from(self.cpu_milli) * unsaved)
    }
}

/// The earlier of two times; none is never.
fn sooner(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a time is sooner than another by more than it takes to say the same thing twice.
fn is_sooner(time: Option<u64>, than: Option<u64>) -> bool {
    match (time, than) {
        (Some(time), Some(than)) => time.saturating_add(SAME_MS) < than,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// What is known after one more notice: a deadline only comes nearer, unless all of it is withdrawn.
fn merged(now: u64, old: Said, notice: Notice, deadline: Option<u64>) -> Said {
    let new = Said { notice, deadline, since: now, heard: false };
    match (old.notice.kind, new.notice.kind) {
        (_, NoticeKind::Withdrawn) if new.notice.source == old.notice.source => new,
        (NoticeKind::Advice, NoticeKind::Preemption) => new,
        (NoticeKind::Preemption, NoticeKind::Preemption) if is_sooner(deadline, old.deadline) => {
            // What was no exercise does not become one.
            let drill = old.notice.drill && new.notice.drill;
            Said { notice: Notice { drill, ..new.notice }, ..new }
        }
        (NoticeKind::Preemption, NoticeKind::Preemption) if old.notice.drill && !new.notice.drill => {
            Said { notice: new.notice, deadline: sooner(deadline, old.deadline), since: now, heard: false }
        }
        _ => old,
    }
}

/// How long a task may save before it is ended, ms.
fn room(now: u64, deadline: Option<u64>) -> u64 {
    deadline.map_or(u64::MAX, |deadline| deadline.saturating_sub(now + TERM_TO_KILL_MS + REPORT_MS))
}

/// `fits`: it is asked to save. What is watched is stored after the process has ended, which takes its time too.
fn stop_of(
    token: Token,
    (signal, grace_ms): (i32, u64),
    (save_ms, watched): (Option<u64>, bool),
    room: u64,
    fits: bool,
) -> Stop {
    let after = if watched { save_ms.unwrap_or(0) } else { 0 };
    match room.saturating_sub(after) {
        left if fits && left > 0 => Stop { token, signal, grace_ms: grace_ms.min(left) },
        _ => Stop { token, signal: SIGTERM, grace_ms: 0 },
    }
}
