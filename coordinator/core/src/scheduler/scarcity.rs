//! How scarce each model of device is: what only it can serve, beside what is left of it.
//!
//! For a set of models J: pressure(J) = (share of the asked GPUs that accept nothing outside J) / (J's share of the free GPUs). A model is
//! as scarce as the most pressed set that it belongs to; 1 and below is not scarce at all.

use super::mix::Shape;
use std::collections::{BTreeMap, BTreeSet};

/// Pressure is in units of 1 / this …
pub(super) const PRESSURE: u64 = 1 << 10;
/// … and no more than this.
const PRESSURE_MAX: u64 = 9 * PRESSURE;

/// The sets of models that typical shapes name, and what accepts nothing outside them.
#[derive(Debug, Clone, Default)]
pub struct Scarcity {
    /// Set, share × thousandths of GPUs.
    sets: Vec<(BTreeSet<u32>, u128)>,
    asked: u128,
}

impl Scarcity {
    /// `accepted`: the models, by number, that a shape may go to.
    pub fn new(typical: &[(Shape, u64)], accepted: impl Fn(&Shape) -> BTreeSet<u32>) -> Self {
        let mut asked: BTreeMap<BTreeSet<u32>, u128> = BTreeMap::new();
        for (shape, share) in typical.iter().filter(|(shape, _)| shape.devices > 0) {
            *asked.entry(accepted(shape)).or_default() += u128::from(share * shape.gpu_milli());
        }
        let within =
            |set: &BTreeSet<u32>| asked.iter().filter(|(s, _)| s.is_subset(set)).map(|(_, n)| n).sum();
        let sets = asked.keys().filter(|set| !set.is_empty()).map(|set| (set.clone(), within(set))).collect();
        Self { sets, asked: asked.values().sum() }
    }

    /// By how much each scarce model is over 1, in 1 / `PRESSURE`. `free`: thousandths of each model's devices.
    #[must_use]
    pub fn over(&self, free: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
        let all: u128 = free.values().map(|n| u128::from(*n)).sum();
        let mut over = BTreeMap::new();
        for (set, asked) in &self.sets {
            let left: u128 = set.iter().filter_map(|model| free.get(model)).map(|n| u128::from(*n)).sum();
            let pressure = (asked * all * u128::from(PRESSURE)).checked_div(left * self.asked);
            let pressure = pressure.map_or(PRESSURE_MAX, |p| u64::try_from(p).unwrap_or(PRESSURE_MAX));
            let beyond = pressure.min(PRESSURE_MAX).saturating_sub(PRESSURE);
            for model in set.iter().filter(|_| beyond > 0) {
                let most = over.entry(*model).or_default();
                *most = beyond.max(*most);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(models: &[&str]) -> Shape {
        let models = models.iter().map(|m| (*m).to_owned()).collect();
        Shape { devices: 1, milli: 1_000, cpu_milli: 0, memory: 0, models }
    }

    #[test]
    fn a_model_is_scarce_when_more_insists_on_it_than_its_part_of_what_is_free() {
        // Half of what is asked insists on model 0, a quarter on 0 or 1, a quarter takes anything.
        let typical = [(shape(&["a"]), 2), (shape(&["a", "b"]), 1), (shape(&[]), 1)];
        let scarcity = Scarcity::new(&typical, |s| match s.models.len() {
            1 => [0].into(),
            2 => [0, 1].into(),
            _ => [0, 1, 2].into(),
        });
        // A quarter of what is free is of model 0, half of 0 or 1.
        let free = BTreeMap::from([(0, 1_000), (1, 1_000), (2, 2_000)]);
        assert_eq!(scarcity.over(&free), BTreeMap::from([(0, PRESSURE), (1, PRESSURE / 2)]));
        // Half is of model 0: nothing is scarce.
        assert_eq!(scarcity.over(&BTreeMap::from([(0, 4_000), (1, 2_000), (2, 2_000)])), BTreeMap::new());
    }
}
