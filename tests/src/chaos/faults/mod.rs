//! What can go wrong: one row a kind, with what it takes to do it and to take it back.
//!
//! Adding a kind is adding a row to the table of its file: a name, the rows of the fault matrix that it covers, whom it strikes, how long,
//! how often, and a function that does it and returns how it is healed. A kind that this machine cannot do says why in `possible`.

mod clock;
mod disk;
mod links;
mod network;
mod operations;
mod process;

use super::world::World;
use anyhow::Result;
use muster_sim::Rng;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Whom a kind strikes. The schedule keeps those apart that would meet on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The member that leads when it strikes.
    Leader,
    /// A member that does not.
    Follower,
    /// Any member.
    Member,
    /// All members at once: no other fault of members meanwhile.
    Members,
    Worker,
    /// Something that is nobody's own: the bridge, a call.
    Nothing,
}

/// What a fault is given.
pub struct Target {
    /// The node; empty for [`On::Members`] and [`On::Nothing`].
    pub node: String,
    /// Chance of its own, so that what one fault draws changes no other.
    pub rng: Rng,
    /// How long it will last.
    pub millis: u64,
}

/// Takes a fault back. It may run on another thread than the fault was made on.
pub type Heal = Box<dyn FnOnce(&World) -> Result<()> + Send>;

/// A fault in force.
pub struct Injected {
    /// What exactly was done, for people.
    pub detail: String,
    pub heal: Heal,
    /// What goes on meanwhile and has to end by itself before the fault is over, such as the replacement of a member.
    pub work: Option<JoinHandle<Result<()>>>,
}

impl Injected {
    fn new(detail: impl Into<String>, heal: impl FnOnce(&World) -> Result<()> + Send + 'static) -> Self {
        Self { detail: detail.into(), heal: Box::new(heal), work: None }
    }

    /// Something that somebody does, beside everything else.
    fn work(detail: impl Into<String>, work: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { work: Some(std::thread::spawn(work)), ..Self::blow(detail) }
    }

    /// A blow: nothing is left to be taken back.
    fn blow(detail: impl Into<String>) -> Self {
        Self::new(detail, |_| Ok(()))
    }
}

/// A kind of fault.
pub struct Kind {
    pub name: &'static str,
    /// Rows of the fault matrix in `docs/src/reliability.md`.
    pub rows: &'static str,
    pub on: On,
    /// How long it lasts, milliseconds: from, to.
    pub millis: (u64, u64),
    /// How often, against the others.
    pub weight: u64,
    /// Why this machine, or this version, cannot do it.
    pub obstacle: fn(&World) -> Option<String>,
    pub inject: fn(&Arc<World>, &mut Target) -> Result<Injected>,
}

impl Kind {
    const fn new(
        name: &'static str,
        rows: &'static str,
        on: On,
        millis: (u64, u64),
        weight: u64,
        inject: fn(&Arc<World>, &mut Target) -> Result<Injected>,
    ) -> Self {
        Self { name, rows, on, millis, weight, obstacle: |_| None, inject }
    }

    const fn unless(mut self, obstacle: fn(&World) -> Option<String>) -> Self {
        self.obstacle = obstacle;
        self
    }
}

/// All kinds, in a fixed order: the schedule counts on it.
#[must_use]
pub fn kinds() -> Vec<&'static Kind> {
    [process::KINDS, network::KINDS, links::KINDS, disk::KINDS, clock::KINDS, operations::KINDS]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs `turn` again and again on a thread until the fault is healed; for faults that come and go.
fn again(world: &Arc<World>, mut turn: impl FnMut(&World, &dyn Fn(u64) -> bool) + Send + 'static) -> Heal {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    let (stop, stopped) = channel::<()>();
    let world = Arc::clone(world);
    let thread = std::thread::spawn(move || {
        // False once the fault is to end.
        let pause = |millis: u64| {
            let limit = std::time::Duration::from_millis(millis);
            matches!(stopped.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
        };
        while pause(0) {
            turn(&world, &pause);
        }
    });
    Box::new(move |_| {
        drop(stop);
        thread.join().map_err(|_| anyhow::anyhow!("the thread of a fault panicked"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_kind_can_happen() {
        let names: BTreeSet<&str> = kinds().iter().map(|k| k.name).collect();
        assert_eq!(names.len(), kinds().len());
        for kind in kinds() {
            assert!(
                kind.weight > 0 && kind.millis.0 <= kind.millis.1 && !kind.rows.is_empty(),
                "{}",
                kind.name
            );
        }
    }
}
