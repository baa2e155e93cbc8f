//! What a worker without programs runs: nothing. A task ends at once with 0, or `sleep infinity` holds its slot until it is told to stop or
//! its lease runs out, as the shim would see to.

use muster_agent::{Input, StartOrder};
use muster_core::model::attempt::Outcome;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::lease::KILL_BEFORE_MS;
use std::collections::BTreeMap;

/// The command of a task that holds its slot.
pub const HOLD: [&str; 2] = ["/bin/sleep", "infinity"];

/// The tasks of one worker, and the deadline of its lease (boot-time clock, ms).
#[derive(Debug, Default)]
pub struct Tasks {
    holding: BTreeMap<Token, IndexRef>,
    deadline: Option<u64>,
}

impl Tasks {
    /// How many hold a slot.
    #[must_use]
    pub fn count(&self) -> usize {
        self.holding.len()
    }

    /// What the shim would say of a start. True: it holds its slot.
    pub fn launch(&mut self, order: &StartOrder, deadline: u64, inputs: &mut Vec<Input>) -> bool {
        let token = order.token;
        self.deadline = Some(self.deadline.unwrap_or(0).max(deadline));
        inputs.push(Input::Started { token });
        let holds = order.launch.argv == HOLD;
        if holds {
            self.holding.insert(token, order.at);
        } else {
            inputs.push(ended(token, Outcome::Exit(0)));
        }
        holds
    }

    pub fn renew(&mut self, deadline: u64) {
        self.deadline = Some(deadline);
    }

    /// A stop or a kill; true when it was holding.
    pub fn end(&mut self, token: Token, signal: i32, inputs: &mut Vec<Input>) -> bool {
        let held = self.holding.remove(&token).is_some();
        if held {
            inputs.push(ended(token, Outcome::Signal(signal)));
        }
        held
    }

    /// When the shim would kill them all (boot-time clock, ms).
    #[must_use]
    pub fn fence_at(&self) -> Option<u64> {
        let deadline = self.deadline.filter(|_| !self.holding.is_empty())?;
        Some(deadline.saturating_sub(KILL_BEFORE_MS))
    }

    /// The lease is over: returns how many ended for it.
    pub fn fence(&mut self, inputs: &mut Vec<Input>) -> u64 {
        let tokens: Vec<Token> = std::mem::take(&mut self.holding).into_keys().collect();
        inputs.extend(tokens.iter().map(|token| ended(*token, Outcome::Fenced)));
        tokens.len() as u64
    }
}

fn ended(token: Token, outcome: Outcome) -> Input {
    Input::Ended { token, outcome, artifacts: Vec::new(), ran_ms: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::leader::instruction::LaunchOrder;
    use muster_core::model::ids::{JobId, TaskNo};

    fn order(token: u64, argv: &[&str]) -> StartOrder {
        StartOrder {
            at: IndexRef::new(JobId(1), TaskNo(0), 0),
            number: 1,
            token: Token(token),
            term: 1,
            heartbeat: 1,
            rank: 0,
            devices: Vec::new(),
            launch: LaunchOrder {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                ..LaunchOrder::default()
            },
        }
    }

    #[test]
    fn a_task_ends_at_once_or_holds_until_its_lease_is_over() {
        let (mut tasks, mut inputs) = (Tasks::default(), Vec::new());
        assert!(!tasks.launch(&order(1, &["/bin/true"]), 9_000, &mut inputs));
        assert_eq!(inputs, [Input::Started { token: Token(1) }, ended(Token(1), Outcome::Exit(0))]);
        assert_eq!(tasks.fence_at(), None);

        inputs.clear();
        assert!(tasks.launch(&order(2, &HOLD), 9_000, &mut inputs));
        assert_eq!((inputs.as_slice(), tasks.count()), (&[Input::Started { token: Token(2) }][..], 1));
        tasks.renew(11_000);
        assert_eq!(tasks.fence_at(), Some(11_000 - KILL_BEFORE_MS));
        inputs.clear();
        assert_eq!((tasks.fence(&mut inputs), tasks.count()), (1, 0));
        assert_eq!(inputs, [ended(Token(2), Outcome::Fenced)]);
        assert!(!tasks.end(Token(2), 9, &mut inputs));
    }
}
