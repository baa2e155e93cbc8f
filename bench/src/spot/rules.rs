//! The policies that are compared. Each sees only what has been.

use super::protocol::{Machine, Setting};
use super::trace::LOOK_S;
use muster_core::spot::{Choice, History, Runs, Standing, choose};

/// A policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The core's own.
    Muster,
    /// The four rules of the NSDI'24 paper as its text has them: on-demand, while behind, until ahead by two restarts; then spot or nothing.
    UniformProgress,
    /// The same, but once on-demand it stays until there is a spot machine and it is ahead, as code that was published later does.
    UniformProgressStays,
    /// Spot where there is one, else on-demand.
    SpotElseOnDemand,
    /// Spot where there is one, else nothing, until the net catches it.
    Greedy,
    OnDemandOnly,
}

impl Rule {
    /// The core's own first.
    pub const ALL: [Self; 6] = [
        Self::Muster,
        Self::UniformProgressStays,
        Self::SpotElseOnDemand,
        Self::UniformProgress,
        Self::Greedy,
        Self::OnDemandOnly,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Muster => "Muster",
            Self::UniformProgress => "Uniform Progress",
            Self::UniformProgressStays => "Uniform Progress, staying on-demand",
            Self::SpotElseOnDemand => "spot, else on-demand",
            Self::Greedy => "spot, else wait",
            Self::OnDemandOnly => "on-demand only",
        }
    }
}

/// What a policy may know at a look.
pub struct State {
    setting: Setting,
    history: History,
    up: bool,
    /// Looks that are over, and the work that is left, s.
    now: u64,
    work_s: u64,
    has: Machine,
}

impl State {
    pub fn new(setting: &Setting) -> Self {
        let setting = *setting;
        Self {
            setting,
            history: History::default(),
            up: false,
            now: 0,
            work_s: setting.work_s,
            has: Machine::None,
        }
    }

    /// A look; `has`: what has not been lost.
    pub fn see(&mut self, up: bool, now: u64, work_s: u64, has: Machine) {
        self.history.look(up);
        (self.up, self.now, self.work_s, self.has) = (up, now, work_s, has);
    }

    /// What the rule takes.
    pub fn takes(&self, rule: Rule) -> Machine {
        let spot_or = |other| if self.up { Machine::Spot } else { other };
        match rule {
            Rule::Muster => self.muster(),
            Rule::UniformProgress => self.uniform_progress(),
            Rule::UniformProgressStays => self.uniform_progress_stays(),
            Rule::SpotElseOnDemand => spot_or(Machine::OnDemand),
            Rule::Greedy => spot_or(Machine::None),
            Rule::OnDemandOnly => Machine::OnDemand,
        }
    }

    fn muster(&self) -> Machine {
        let standing = Standing {
            left_ms: self.setting.deadline().saturating_sub(self.now) * LOOK_S * 1_000,
            work_ms: self.work_s * 1_000,
            restart_ms: self.setting.restart_s * 1_000,
            runs: match self.has {
                Machine::None => Runs::Nothing,
                Machine::Spot => Runs::Spot,
                Machine::OnDemand => Runs::OnDemand,
            },
        };
        match choose(&self.history, self.up, &standing) {
            Choice::Spot => Machine::Spot,
            Choice::OnDemand => Machine::OnDemand,
            Choice::Wait => Machine::None,
        }
    }

    /// Whether less is done than in equal steps up to the deadline would be after so many more seconds.
    fn is_behind(&self, ahead_s: u64) -> bool {
        let done = self.setting.work_s - self.work_s;
        done * self.setting.deadline_h * 3_600 < (self.now * LOOK_S + ahead_s) * self.setting.work_s
    }

    fn left_s(&self) -> u64 {
        self.setting.deadline().saturating_sub(self.now) * LOOK_S
    }

    fn uniform_progress(&self) -> Machine {
        let two = 2 * self.setting.restart_s;
        match self.has {
            Machine::Spot => Machine::Spot,
            _ if self.left_s() < self.work_s + two => Machine::OnDemand,
            Machine::OnDemand if self.is_behind(two) => Machine::OnDemand,
            _ if self.up => Machine::Spot,
            Machine::None if self.is_behind(0) => Machine::OnDemand,
            _ => Machine::None,
        }
    }

    fn uniform_progress_stays(&self) -> Machine {
        let two = 2 * self.setting.restart_s;
        match self.has {
            Machine::Spot => Machine::Spot,
            _ if (self.work_s + two).div_ceil(LOOK_S) * LOOK_S > self.left_s() => Machine::OnDemand,
            Machine::OnDemand if !self.up || self.is_behind(two) => Machine::OnDemand,
            _ if self.up => Machine::Spot,
            _ if self.is_behind(0) => Machine::OnDemand,
            _ => Machine::None,
        }
    }
}
