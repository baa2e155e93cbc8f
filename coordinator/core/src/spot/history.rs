//! What was seen of a kind of spot machine: whether there is one, one look every ten minutes. A few numbers, however long the past.

/// Between two looks, ms.
pub const LOOK_MS: u64 = 600_000;

/// A look of this many looks ago counts a third: 12 hours.
const FADE: u64 = 72;
/// What is expected before anything was seen: 6 spells of availability a day. It counts as much as a day of looks.
const PRIOR_SPELLS: u64 = 6;
const PRIOR_LOOKS: u64 = 144;
/// One look; the weight of older ones is a part of it.
const ONE: u64 = 1 << 16;

/// The past of one kind of spot machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// At the last look.
    up: bool,
    /// Looks since that changed, the last one included; 0 before the first look.
    age: u32,
    /// Looks, and spells of availability that began, older ones weighing less; in parts of [`ONE`].
    looks: u64,
    spells: u64,
}

impl History {
    /// One look: there is a machine, or there is none.
    pub fn look(&mut self, up: bool) {
        let begins = up && !self.up;
        let fade = |weight: u64| weight - weight / FADE;
        self.looks = fade(self.looks) + ONE;
        self.spells = fade(self.spells) + if begins { ONE } else { 0 };
        self.age = if up == self.up { self.age.saturating_add(1) } else { 1 };
        self.up = up;
    }

    /// For how many looks it has been as it is now, this moment included: at least 1.
    #[must_use]
    pub fn age(&self, up: bool) -> u32 {
        if up == self.up { self.age.max(1) } else { 1 }
    }

    /// Spells of availability to be expected within this time, in thousandths.
    #[must_use]
    pub fn spells_milli(&self, within_ms: u64) -> u64 {
        let spells = u128::from(self.spells + PRIOR_SPELLS * ONE) * u128::from(within_ms) * 1_000;
        let looks = u128::from(self.looks + PRIOR_LOOKS * ONE) * u128::from(LOOK_MS);
        u64::try_from(spells / looks).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(looks: &[bool]) -> History {
        let mut history = History::default();
        looks.iter().for_each(|up| history.look(*up));
        history
    }

    #[test]
    fn the_age_counts_looks_of_the_same() {
        assert_eq!((seen(&[]).age(true), seen(&[]).age(false)), (1, 1));
        assert_eq!((seen(&[false; 3]).age(false), seen(&[false; 3]).age(true)), (3, 1));
        assert_eq!((seen(&[true, true, false]).age(false), seen(&[true, true, false]).age(true)), (1, 1));
        assert_eq!(seen(&[false, true, true]).age(true), 2);
    }

    #[test]
    fn a_day_without_any_look_brings_six_spells() {
        assert_eq!(seen(&[]).spells_milli(144 * LOOK_MS), 6_000);
        assert_eq!(seen(&[]).spells_milli(0), 0);
        assert_eq!(seen(&[]).spells_milli(u64::MAX), u64::MAX / 14_400, "no overflow");
    }

    #[test]
    fn what_comes_and_goes_is_expected_to_and_the_past_fades() {
        let restless = seen(&[true, false].repeat(72));
        let steady = seen(&[true; 144]);
        let day = 144 * LOOK_MS;
        assert!(restless.spells_milli(day) > 20_000, "{}", restless.spells_milli(day));
        assert!(steady.spells_milli(day) < 6_000, "{}", steady.spells_milli(day));
        let mut settled = restless.clone();
        (0..1_000).for_each(|_| settled.look(true));
        assert!(settled.spells_milli(day) < 6_000, "{}", settled.spells_milli(day));
    }
}
