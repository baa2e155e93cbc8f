//! The contestants, each with the one number that trades cost for waiting swept over a range; and what each costs where it makes tasks wait as
//! long as ours.

use super::fixed::Fixed;
use super::kubernetes::{DEFAULT_S, Kubernetes};
use super::market::{Market, SpotSupply};
use super::muster::Muster;
use super::outcome::{Figures, Outcome};
use super::stream::{Part, Stream, Timed, read};
use super::target::{Layout, Target};
use super::world::{Rule, replay};
use crate::spot::Counts;
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// Idle time before a machine goes, s: ours (its default, of a pool's `scale_in_cooldown`, is 300) and Kubernetes' (its default is 600), for all
/// machines alike and divided by their GPUs.
const IDLE_S: [u64; 8] = [30, 60, 120, 300, 600, 1_200, 2_400, 4_800];
/// Where ours is compared: chosen on the tuning part, before the other part was looked at; not searched for further.
pub const OUR_SETTING: &str = "idle 300 s a GPU";
const TARGETS_PCT: [u64; 7] = [30, 40, 50, 60, 70, 80, 90];
/// Machines of eight GPUs.
const SIZES: [u64; 8] = [3, 4, 5, 6, 8, 10, 12, 16];

/// Who plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Muster,
    /// Muster, told how long tasks run.
    Told,
    Kubernetes,
    Target,
    Fixed,
}

impl Family {
    const ALL: [Self; 5] = [Self::Muster, Self::Told, Self::Kubernetes, Self::Target, Self::Fixed];

    fn name(self) -> &'static str {
        match self {
            Self::Muster => "muster",
            Self::Told => "muster, told run times",
            Self::Kubernetes => "cluster-autoscaler",
            Self::Target => "target tracking",
            Self::Fixed => "fixed fleet",
        }
    }

    /// Each setting: its name, and a rule.
    fn settings(self, uses_spot: bool) -> Vec<(String, Box<dyn Rule>)> {
        let named = |s: u64, by_size: bool| format!("idle {s} s{}", if by_size { " a GPU" } else { "" });
        let all = || [false, true].into_iter().flat_map(|by_size| IDLE_S.map(|s| (s, by_size)));
        match self {
            Self::Muster | Self::Told => all()
                .map(|(s, by_size)| {
                    let rule = Muster::new(s, by_size, self == Self::Told);
                    (named(s, by_size), Box::new(rule) as Box<dyn Rule>)
                })
                .collect(),
            // Once with the usual delay after an order, once with one as long as the idle time.
            Self::Kubernetes => all()
                .flat_map(|(s, by_size)| {
                    if s == DEFAULT_S { vec![s] } else { vec![DEFAULT_S, s] }
                        .into_iter()
                        .map(move |delay_s| (s, by_size, delay_s))
                })
                .map(|(s, by_size, delay_s)| {
                    let rule = Kubernetes::new(s, by_size, delay_s);
                    (format!("{}, delay {delay_s} s", named(s, by_size)), Box::new(rule) as Box<dyn Rule>)
                })
                .collect(),
            Self::Target => {
                let layouts: &[(Layout, &str)] = if uses_spot {
                    &[(Layout::Small, "x1, x8")]
                } else {
                    &[(Layout::Small, "x1, x8"), (Layout::Large, "x8")]
                };
                let of = |(layout, name): &(Layout, &str)| {
                    let (layout, name) = (*layout, (*name).to_owned());
                    TARGETS_PCT.map(move |pct| {
                        let rule = Target::new(pct as f64 / 100.0, layout);
                        (format!("{pct} % of {name}"), Box::new(rule) as Box<dyn Rule>)
                    })
                };
                layouts.iter().flat_map(of).collect()
            }
            Self::Fixed => {
                let of = |n: u64| (format!("{n} x 8 GPUs"), Box::new(Fixed(n as u32)) as Box<dyn Rule>);
                SIZES.map(of).into()
            }
        }
    }
}

/// One setting of one contestant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub setting: String,
    #[serde(flatten)]
    pub figures: Figures,
}

/// A contestant in one market.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    pub name: &'static str,
    /// It may buy spot machines.
    pub spot: bool,
    pub points: Vec<Point>,
    /// What it costs at our mean wait in this market, USD; none: it can't be had, nobody waits so short.
    pub usd_at_equal_wait: Option<f64>,
    /// Our cost over that.
    pub ratio: Option<f64>,
}

/// What is replayed.
#[derive(Debug, Clone)]
pub struct Plan {
    pub part: Part,
    pub days: u64,
    pub seeds: Vec<u64>,
}

/// The traces, read once.
pub struct Traces {
    timed: Vec<Timed>,
    zones: Vec<Counts>,
}

impl Traces {
    /// # Errors
    /// A file that is missing or wrong.
    pub fn read(dir: &Path, part: Part) -> Result<Self> {
        Ok(Self { timed: read(dir)?, zones: SpotSupply::read(dir, part)? })
    }

    fn stream(&self, plan: &Plan, seed: u64) -> (Market, Market, Stream) {
        let supply = SpotSupply::draw(&self.zones, seed);
        let (with, without) = (Market::new(supply.clone(), true), Market::new(supply, false));
        let stream = Stream::draw(&self.timed, plan.part, plan.days, seed, |ask| without.fits(ask));
        (with, without, stream)
    }
}

/// Tasks and GPU hours of a run, in the mean over the seeds.
#[must_use]
pub fn load(traces: &Traces, plan: &Plan) -> (f64, f64) {
    let streams: Vec<Stream> = plan.seeds.iter().map(|seed| traces.stream(plan, *seed).2).collect();
    let mean =
        |of: &dyn Fn(&Stream) -> f64| streams.iter().map(of).sum::<f64>() / streams.len().max(1) as f64;
    (mean(&|s| s.jobs.len() as f64), mean(&Stream::gpu_hours))
}

/// Everybody, in both markets; `told` hears of each point.
#[must_use]
pub fn contest(traces: &Traces, plan: &Plan, mut told: impl FnMut(&str, bool, &Point)) -> Vec<Curve> {
    let worlds: Vec<_> = plan.seeds.iter().map(|seed| (*seed, traces.stream(plan, *seed))).collect();
    let mut curves = Vec::new();
    for spot in [false, true] {
        for family in Family::ALL.into_iter().filter(|f| !spot || *f != Family::Fixed) {
            let count = family.settings(spot).len();
            let mut points = Vec::new();
            for at in 0..count {
                let mut setting = String::new();
                let mut runs: Vec<Outcome> = Vec::new();
                for (seed, (with, without, stream)) in &worlds {
                    // A rule remembers: each run gets its own.
                    let Some((name, mut rule)) = family.settings(spot).into_iter().nth(at) else { continue };
                    setting = name;
                    runs.push(replay(if spot { with } else { without }, stream, *seed, rule.as_mut()));
                }
                let point = Point { setting, figures: Figures::of(&runs) };
                told(family.name(), spot, &point);
                points.push(point);
            }
            curves.push(Curve { name: family.name(), spot, points, usd_at_equal_wait: None, ratio: None });
        }
    }
    compare(&mut curves);
    curves
}

/// Puts beside each curve what it costs at our wait in its market.
fn compare(curves: &mut [Curve]) {
    let ours = |curves: &[Curve], spot: bool| -> Option<Figures> {
        let curve = curves.iter().find(|c| c.spot == spot && c.name == Family::Muster.name())?;
        let point = curve.points.iter().find(|p| p.setting == OUR_SETTING)?;
        Some(point.figures)
    };
    for spot in [false, true] {
        let Some(ours) = ours(curves, spot) else { continue };
        for curve in curves.iter_mut().filter(|c| c.spot == spot) {
            let points: Vec<(f64, f64)> = curve
                .points
                .iter()
                .filter(|p| p.figures.unserved == 0.0)
                .map(|p| (p.figures.mean_wait_s, p.figures.usd))
                .collect();
            curve.usd_at_equal_wait = usd_at(&points, ours.mean_wait_s);
            curve.ratio = curve.usd_at_equal_wait.map(|usd| ours.usd / usd);
        }
    }
}

/// What (wait, USD) points cost at this wait. Of the points only those count beside which no other one both waits no longer and costs no more; between
/// two neighbours the cost is taken along the straight line. Shorter than the shortest: none. Longer than the longest: what that one costs, for it
/// is within the wait.
fn usd_at(points: &[(f64, f64)], wait: f64) -> Option<f64> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut frontier: Vec<(f64, f64)> = Vec::new();
    for point in sorted {
        if frontier.last().is_none_or(|last| point.1 < last.1) {
            frontier.push(point);
        }
    }
    let after = frontier.partition_point(|point| point.0 <= wait);
    let before = frontier.get(after.checked_sub(1)?)?;
    let Some(next) = frontier.get(after) else { return Some(before.1) };
    let part = (wait - before.0) / (next.0 - before.0);
    Some(before.1 + part * (next.1 - before.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_at_a_wait_lies_on_the_line_between_the_best_points() {
        // The point (60, 100) waits longer than (50, 90) and costs more.
        let points = [(100.0, 50.0), (60.0, 100.0), (50.0, 90.0), (10.0, 200.0)];
        assert_eq!(usd_at(&points, 5.0), None);
        assert_eq!(usd_at(&points, 10.0), Some(200.0));
        assert_eq!(usd_at(&points, 30.0), Some(145.0));
        assert_eq!(usd_at(&points, 75.0), Some(70.0));
        assert_eq!(usd_at(&points, 500.0), Some(50.0));
        assert_eq!(usd_at(&[], 1.0), None);
    }
}
