//! What a replay came to, as a document for programs and a table for people.

use super::protocol::{MixOf, Outcome};
use super::published::{POLICIES, Published};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One variant of the trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Variant {
    pub variant: &'static str,
    /// Over the seeds.
    pub unallocated_pct_mean: f64,
    /// Standard deviation over the seeds; 0 of one seed.
    pub sd: f64,
    /// Unallocated GPU % of the published policies.
    pub published: BTreeMap<&'static str, f64>,
    pub us_per_decision: f64,
    pub decisions: u64,
}

impl Variant {
    #[must_use]
    pub fn new(published: &Published, outcomes: &[Outcome]) -> Self {
        let count = outcomes.len() as f64;
        let mean = outcomes.iter().map(|o| o.unallocated_pct).sum::<f64>() / count;
        let squares: f64 = outcomes.iter().map(|o| (o.unallocated_pct - mean).powi(2)).sum();
        let decisions: u64 = outcomes.iter().map(|o| o.decisions).sum();
        let seconds: f64 = outcomes.iter().map(|o| o.seconds).sum();
        Self {
            variant: published.variant,
            unallocated_pct_mean: mean,
            sd: (squares / f64::max(count - 1.0, 1.0)).sqrt(),
            published: POLICIES.into_iter().zip(published.unallocated_pct).collect(),
            us_per_decision: seconds * 1e6 / decisions.max(1) as f64,
            decisions,
        }
    }
}

/// The whole replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    pub trace: &'static str,
    pub version: &'static str,
    pub seeds: Vec<u64>,
    /// Where the mix of tasks is from: `list` or `learnt`.
    pub mix: &'static str,
    pub variants: Vec<Variant>,
    /// Unallocated GPU %, over the variants.
    pub mean: f64,
    /// The same of the published policies, over the same variants.
    pub published_mean: BTreeMap<&'static str, f64>,
    pub us_per_decision: f64,
}

impl Document {
    #[must_use]
    pub fn new(variants: Vec<Variant>, seeds: Vec<u64>, mix: MixOf) -> Self {
        let count = f64::max(variants.len() as f64, 1.0);
        let mean = |of: &dyn Fn(&Variant) -> f64| variants.iter().map(of).sum::<f64>() / count;
        let published =
            |policy: &'static str| (policy, mean(&|v| v.published.get(policy).copied().unwrap_or_default()));
        let decisions: u64 = variants.iter().map(|v| v.decisions).sum();
        let us: f64 = variants.iter().map(|v| v.us_per_decision * v.decisions as f64).sum();
        Self {
            trace: "openb",
            version: env!("CARGO_PKG_VERSION"),
            seeds,
            mix: match mix {
                MixOf::List => "list",
                MixOf::Learnt => "learnt",
            },
            mean: mean(&|v| v.unallocated_pct_mean),
            published_mean: POLICIES.into_iter().map(published).collect(),
            us_per_decision: us / decisions.max(1) as f64,
            variants,
        }
    }

    /// Aligned columns.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("unallocated GPU % at 100 % arrived demand; mix of tasks: {}\n", self.mix);
        let _ = write!(text, "{:<12}{:>8}{:>6}", "variant", "Muster", "sd");
        POLICIES.iter().for_each(|policy| {
            let _ = write!(text, "{policy:>11}");
        });
        let _ = writeln!(text, "{:>13}", "us/decision");
        let mut line = |name: &str, ours: f64, sd: Option<f64>, others: &BTreeMap<&str, f64>, us: f64| {
            let sd = sd.map_or_else(String::new, |sd| format!("{sd:.2}"));
            let _ = write!(text, "{name:<12}{ours:>8.2}{sd:>6}");
            POLICIES.iter().for_each(|policy| {
                let _ = write!(text, "{:>11.2}", others.get(policy).copied().unwrap_or_default());
            });
            let _ = writeln!(text, "{us:>13.1}");
        };
        for v in &self.variants {
            line(v.variant, v.unallocated_pct_mean, Some(v.sd), &v.published, v.us_per_decision);
        }
        line("mean", self.mean, None, &self.published_mean, self.us_per_decision);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::published::PUBLISHED;
    use super::*;

    #[test]
    fn the_mean_and_the_spread_are_over_the_seeds() {
        let outcome = |unallocated_pct| Outcome { unallocated_pct, decisions: 10, seconds: 1e-4 };
        let row = Variant::new(&PUBLISHED[0], &[outcome(4.0), outcome(6.0)]);
        assert_eq!((row.unallocated_pct_mean, row.sd, row.published["FGD"]), (5.0, 2_f64.sqrt(), 4.77));
        let document = Document::new(vec![row], vec![42, 43], MixOf::List);
        assert_eq!((document.mean, document.us_per_decision.round()), (5.0, 10.0));
        assert!(document.table().contains("default         5.00  1.41"), "{}", document.table());
    }
}
