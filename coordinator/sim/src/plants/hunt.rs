//! How many seeds a planted bug takes until the invariant that is there for it speaks.

use super::Plant;
use crate::{Options, run_with};

/// A plant that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    pub seed: u64,
    /// How many seeds were run, the last included.
    pub seeds: u64,
    pub said: String,
}

impl Plant {
    /// Runs seed after seed with this bug. What other invariants say of it does not count.
    #[must_use]
    pub fn hunt(self, seeds: impl IntoIterator<Item = u64>) -> Option<Caught> {
        let name = format!("{}: ", self.invariant());
        seeds.into_iter().zip(1..).find_map(|(seed, seeds)| {
            let outcome = run_with(Options::planted(seed, self));
            let said = outcome.violations.into_iter().find(|v| v.contains(&name))?;
            Some(Caught { seed, seeds, said })
        })
    }
}
