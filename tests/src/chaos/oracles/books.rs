//! Every GPU-second is in one class (I21): the classes of the cost report sum to what the workers had, whatever broke meanwhile.

use super::Violation;
use muster_core::view_doc::{ClassesDoc, CostDoc};

/// Documents hold binary fractions: sums of them may differ in the last digits, GPU-seconds.
const ROUNDING: f64 = 0.001;

/// Compares what was counted by class with what there was.
#[must_use]
pub fn judge(member: &str, report: &CostDoc) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |text: String| found.push(Violation::new("I21", format!("{member}: {text}")));
    let total = &report.total.gpu_seconds;
    match report.capacity_gpu_seconds {
        None => wrong("its cost report says no capacity".to_owned()),
        Some(capacity) if (capacity - total.total).abs() > ROUNDING => {
            wrong(format!("the workers had {capacity} GPU-seconds, {} are counted", total.total));
        }
        Some(capacity) if capacity <= 0.0 => wrong("no GPU-second was ever there".to_owned()),
        Some(_) => {}
    }
    if (sum(total) - total.total).abs() > ROUNDING {
        wrong(format!("the classes {total:?} do not sum to their total"));
    }
    let rows: f64 = report.rows.iter().map(|row| row.gpu_seconds.total).sum();
    if (rows - total.total).abs() > ROUNDING {
        wrong(format!("its rows sum to {rows} GPU-seconds, the total is {}", total.total));
    }
    found
}

fn sum(classes: &ClassesDoc) -> f64 {
    classes.useful
        + classes.idle
        + classes.held_empty
        + classes.waiting_for_peers
        + classes.starting
        + classes.restarting
        + classes.lost
        + classes.unhealthy
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::CostRowDoc;

    fn report(capacity: f64, useful: f64, total: f64) -> CostDoc {
        let gpu_seconds = ClassesDoc { useful, idle: 1.5, total, ..ClassesDoc::default() };
        let row = CostRowDoc { gpu_seconds, ..CostRowDoc::default() };
        CostDoc {
            rows: vec![row.clone()],
            total: row,
            capacity_gpu_seconds: Some(capacity),
            ..CostDoc::default()
        }
    }

    #[test]
    fn a_second_that_is_in_no_class_is_found() {
        assert_eq!(judge("c1", &report(4.0, 2.5, 4.0)), []);
        assert_eq!(judge("c1", &report(5.0, 2.5, 4.0)).len(), 1, "less than there was");
        assert_eq!(judge("c1", &report(4.0, 1.5, 4.0)).len(), 1, "classes");
        assert_eq!(judge("c1", &CostDoc::default()).len(), 1, "nothing");
        let rows = CostDoc { rows: Vec::new(), ..report(4.0, 2.5, 4.0) };
        assert_eq!(judge("c1", &rows).len(), 1, "rows");
    }
}
