//! What the contest came to, as a document for programs and a table for people.

use super::contest::{Curve, OUR_SETTING, Plan};
use super::market::BOOT_S;
use super::stream::Part;
use super::world::SAVE_EVERY_S;
use serde::Serialize;
use std::fmt::Write as _;

/// The whole contest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    pub bench: &'static str,
    pub version: &'static str,
    pub part: &'static str,
    pub days: u64,
    pub seeds: Vec<u64>,
    /// In the mean over the seeds.
    pub tasks: f64,
    pub work_gpu_hours: f64,
    pub boot_s: u64,
    pub save_every_s: u64,
    pub curves: Vec<Curve>,
}

impl Document {
    #[must_use]
    pub fn new(plan: &Plan, load: (f64, f64), curves: Vec<Curve>) -> Self {
        Self {
            bench: "autoscale",
            version: env!("CARGO_PKG_VERSION"),
            part: match plan.part {
                Part::Tuning => "tuning",
                Part::Reported => "reported",
            },
            days: plan.days,
            seeds: plan.seeds.clone(),
            tasks: load.0,
            work_gpu_hours: load.1,
            boot_s: BOOT_S,
            save_every_s: SAVE_EVERY_S,
            curves,
        }
    }

    /// Aligned columns.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} days, {} seeds, part: {}; {:.0} tasks, {:.0} GPU hours of work; boot {} s, a save every {} s\n",
            self.days,
            self.seeds.len(),
            self.part,
            self.tasks,
            self.work_gpu_hours,
            self.boot_s,
            self.save_every_s
        );
        for spot in [false, true] {
            let _ = writeln!(text, "\n{}", if spot { "spot first" } else { "on demand only" });
            let _ = writeln!(
                text,
                "{:<52}{:>9}{:>9}{:>9}{:>11}{:>8}{:>8}{:>7}{:>12}{:>12}{:>9}{:>7}",
                "contestant",
                "USD",
                "wait s",
                "p95 s",
                "machine h",
                "GPU h",
                "spot %",
                "use %",
                "lost GPU h",
                "reclaimed",
                "drained",
                "never"
            );
            for curve in self.curves.iter().filter(|curve| curve.spot == spot) {
                for point in &curve.points {
                    let f = &point.figures;
                    let _ = writeln!(
                        text,
                        "{:<52}{:>9.0}{:>9.1}{:>9.0}{:>11.0}{:>8.0}{:>8.1}{:>7.1}{:>12.2}{:>12.1}{:>9.1}{:>7.1}",
                        format!("{}, {}", curve.name, point.setting),
                        f.usd,
                        f.mean_wait_s,
                        f.p95_wait_s,
                        f.machine_hours,
                        f.gpu_hours,
                        f.spot_pct,
                        f.use_pct,
                        f.lost_gpu_hours,
                        f.reclaimed,
                        f.drained,
                        f.unserved
                    );
                }
            }
            let _ = writeln!(text, "at the mean wait of muster, {OUR_SETTING}:");
            for curve in self.curves.iter().filter(|curve| curve.spot == spot) {
                let cost = curve.usd_at_equal_wait.map_or_else(
                    || "waits longer at any setting".to_owned(),
                    |usd| {
                        format!("{usd:>9.0} USD; muster costs {:.2} of it", curve.ratio.unwrap_or_default())
                    },
                );
                let _ = writeln!(text, "  {:<30}{cost}", curve.name);
            }
        }
        text
    }
}
