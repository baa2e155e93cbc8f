//! Devices that a running attempt has and on which nothing computes. What two measurements in a row agree on is proposed once a minute; the
//! log moves that time from useful to held empty. Simulated devices measure nothing and are never called empty.
//!
//! An attempt on whose devices nothing computes for long falls under the cluster's rule, if there is one.

use super::step::Leader;
use crate::command::{Command, EmptyClaim};
use crate::ledger::meter::class_of;
use crate::ledger::{Class, EmptyPart};
use crate::model::idle::{IdleAction, IdlePolicy};
use crate::model::ids::{Token, WorkerId};
use crate::model::time::Tick;
use std::collections::BTreeSet;

/// Between two proposals, ms. One that is lost is not made again: it is a minute of an account, not a decision.
const CLAIM_EVERY_MS: u64 = 60_000;
/// Two measurements further apart than this say nothing of the time between them, ms: workers send one every five seconds.
const GAP_MAX_MS: u64 = 30_000;

/// What was measured of one seat of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Emptiness {
    /// When it was measured last …
    at: Tick,
    /// … and how many thousandths of devices were empty.
    units: u64,
    /// Since when all of it is.
    all_since: Option<Tick>,
    /// What is not proposed yet.
    parts: Vec<EmptyPart>,
}

impl Leader {
    /// A worker measured: nothing computes on these of its devices.
    pub(super) fn looked_for_empty(&mut self, now: u64, worker: WorkerId, empty: &[String]) {
        if self.term.is_none() {
            return;
        }
        let tick = self.tick(now);
        let Some(view) = self.view.workers.get(&worker) else { return };
        let devices = &view.worker.spec.devices;
        let is_empty = |number: u16| {
            devices.get(usize::from(number)).is_some_and(|d| !d.simulated && empty.contains(&d.uuid))
        };
        let mut seen = Vec::new();
        for token in self.view.tokens_of(worker) {
            let Some(attempt) = self.view.live.get(&token).map(|live| &live.attempt) else { continue };
            let Some((rank, seat)) = attempt.seat_on(worker) else { continue };
            let all: u64 = seat.devices.iter().map(|share| u64::from(share.milli)).sum();
            let units = seat.devices.iter().filter(|share| is_empty(share.device));
            let units: u64 = units.map(|share| u64::from(share.milli)).sum();
            let counts = class_of(attempt, rank) == Class::Useful;
            seen.push((token, if counts { units } else { 0 }, counts && units == all && all > 0));
        }
        for (token, units, is_all) in seen {
            self.saw_empty((token, worker), tick, units, is_all);
        }
    }

    fn saw_empty(&mut self, seat: (Token, WorkerId), tick: Tick, units: u64, is_all: bool) {
        if units == 0 && !self.empties.contains_key(&seat) {
            return;
        }
        let known = self.empties.entry(seat).or_insert(Emptiness {
            at: tick,
            units: 0,
            all_since: None,
            parts: Vec::new(),
        });
        let both = known.units.min(units);
        if both > 0 && tick.since(known.at) <= GAP_MAX_MS {
            let (from, to) = (known.at, tick);
            match known.parts.last_mut().filter(|last| last.units == both && last.to == from) {
                Some(last) => last.to = to,
                None => known.parts.push(EmptyPart { units: both, from, to }),
            }
        }
        known.all_since = if is_all { known.all_since.or(Some(tick)) } else { None };
        (known.at, known.units) = (tick, units);
        if units == 0 && known.parts.is_empty() {
            self.empties.remove(&seat);
        }
    }

    /// What is known and not proposed, once a minute.
    pub(super) fn claim_empties(&mut self, now: u64, tick: Tick) -> Vec<Command> {
        if now < self.next_empty {
            return Vec::new();
        }
        self.next_empty = now + CLAIM_EVERY_MS;
        let mut claims = Vec::new();
        for ((token, worker), known) in &mut self.empties {
            let parts = std::mem::take(&mut known.parts);
            if !parts.is_empty() {
                claims.push(EmptyClaim { token: *token, worker: *worker, parts });
            }
        }
        self.empties.retain(|_, known| known.units > 0);
        let mut commands: Vec<Command> = self.find_idle(tick).into_iter().collect();
        if !claims.is_empty() {
            commands.push(Command::HeldEmpty { claims });
        }
        commands
    }

    /// Attempts all of whose devices have computed nothing for as long as the rule says.
    fn find_idle(&mut self, tick: Tick) -> Option<Command> {
        let IdlePolicy { after_ms, action } = self.idle?;
        let idle = |seat: &(Token, WorkerId)| {
            let known = self.empties.get(seat).filter(|known| tick.since(known.at) <= GAP_MAX_MS);
            known.and_then(|known| known.all_since).is_some_and(|since| tick.since(since) >= after_ms)
        };
        let mut found: BTreeSet<Token> = self.empties.keys().map(|(token, _)| *token).collect();
        found.retain(|token| {
            let attempt = self.view.live.get(token).map(|live| &live.attempt).filter(|a| a.stop.is_none());
            attempt.is_some_and(|attempt| {
                let seats = attempt.seats.iter().filter(|seat| !seat.devices.is_empty());
                seats.map(|seat| (*token, seat.worker)).all(|seat| idle(&seat))
            })
        });
        self.idle_said.retain(|token| found.contains(token));
        // Whoever is to stop is asked again until it does; a warning is said once.
        let tokens = found.into_iter().filter(|t| self.idle_said.insert(*t) || action != IdleAction::Warn);
        let tokens: Vec<Token> = tokens.collect();
        (!tokens.is_empty()).then_some(Command::IdleAttempts { tokens, action, after_ms })
    }

    pub(super) fn forget_empties(&mut self, token: Token) {
        let of = (token, WorkerId(0))..=(token, WorkerId(u64::MAX));
        let seats: Vec<(Token, WorkerId)> = self.empties.range(of).map(|(seat, _)| *seat).collect();
        seats.iter().for_each(|seat| {
            self.empties.remove(seat);
        });
    }
}
