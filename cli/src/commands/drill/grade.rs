//! Rows and targets. The targets are those of the product's reliability standard: a worker's loss 14 s, a failover 4 s, a device 5 s, an
//! eviction 3 s beyond what it writes and reads. Pure: what was seen in, rows out.

use super::fault::{Fault, Leases, leases};
use super::probe::Report;
use super::story::Story;
use crate::output::table::Table;
use serde::Serialize;

/// A worker is lost → what it ran runs elsewhere, s.
const LOSS_S: f64 = 14.0;
/// The leader dies → the next write is acknowledged, s.
const FAILOVER_S: f64 = 4.0;
/// The same where nobody can take over: it stays away for 3 s, and starts from its disk in 10.
const RESTART_S: f64 = 13.0;
/// A device gets sick → it is out of service, s.
const DETECT_S: f64 = 5.0;
/// An attempt was evicted → the next one runs, beyond what its checkpoint takes, s.
const ELSEWHERE_S: f64 = 3.0;
/// A notice as long as this is enough to save a state that fits, ms.
const ENOUGH_MS: u64 = 30_000;

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// A name for programs.
    pub key: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// None: it did not come to that.
    pub measured: Option<f64>,
    /// `s`, `GPU-s`, or empty for a count.
    pub unit: &'static str,
    /// None: it is not graded.
    pub at_most: Option<f64>,
    /// None: it is not graded.
    pub met: Option<bool>,
    pub note: String,
}

impl Row {
    fn new(key: &'static str, what: &'static str, measured: Option<f64>, unit: &'static str) -> Self {
        Self { key, what, measured, unit, at_most: None, met: None, note: String::new() }
    }

    fn count(key: &'static str, what: &'static str, number: usize) -> Self {
        Self::new(key, what, Some(number as f64), "")
    }

    fn at_most(mut self, limit: f64) -> Self {
        self.at_most = Some(limit);
        self.met = Some(self.measured.is_some_and(|measured| measured <= limit));
        self
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// All that was seen.
#[derive(Debug)]
pub struct Facts<'a> {
    pub fault: &'a Fault,
    /// When it was made, ms since 1970.
    pub at: i64,
    /// How many attempts it hit.
    pub hit: usize,
    pub stories: &'a [Story],
    pub others: &'a [Story],
    /// When the device's event was written.
    pub noted: Option<i64>,
    pub is_out: bool,
    /// Jobs and indices that are not there any more.
    pub missing: u64,
    pub probe: &'a Report,
    /// Why things are not as they were.
    pub not_back: Option<String>,
}

/// The rows of a drill, in the order of the events.
#[must_use]
pub fn rows(facts: &Facts<'_>) -> Vec<Row> {
    let mut rows = of_fault(facts);
    if facts.hit > 0 {
        rows.extend(of_work(facts));
    }
    rows.extend(of_all(facts));
    rows
}

fn seconds(ms: Option<i64>) -> Option<f64> {
    ms.map(|ms| ms.max(0) as f64 / 1e3)
}

/// The longest of what every one that has to has; none when one lacks it.
fn longest(
    stories: &[Story],
    needs: impl Fn(&Story) -> bool,
    of: impl Fn(&Story) -> Option<i64>,
) -> Option<f64> {
    let all: Option<Vec<i64>> = stories.iter().filter(|story| needs(story)).map(of).collect();
    seconds(all?.into_iter().max())
}

/// The longest wait of what comes after what was hit, and whom it is waited for.
fn elsewhere(facts: &Facts<'_>, limit: f64, of: impl Fn(&Story) -> Option<i64>) -> Row {
    let row = |measured| Row::new("running_elsewhere_seconds", "running again", measured, "s");
    let needs = |story: &Story| !story.is_final();
    if facts.hit == 0 {
        return row(None).note("nothing ran there");
    }
    if !facts.stories.is_empty() && !facts.stories.iter().any(needs) {
        return row(None).note("what ran there ended by itself");
    }
    let known = facts.stories.len() == facts.hit;
    let waits: Vec<&str> = facts
        .stories
        .iter()
        .filter(|story| needs(story) && story.next_started.is_none())
        .map(|story| story.attempt.as_str())
        .collect();
    let note = match waits.first() {
        Some(first) => {
            format!("{first} has no next attempt that runs ({} in all): `muster explain`", waits.len())
        }
        None => facts
            .stories
            .iter()
            .find_map(|s| Some(format!("e.g. {} on {}", s.next.as_ref()?, s.next_worker.as_ref()?)))
            .unwrap_or_default(),
    };
    let measured = longest(facts.stories, needs, of);
    if known || measured.is_none() {
        row(measured).at_most(limit).note(note)
    } else {
        row(measured).at_most(limit).note(format!(
            "{} of {} attempts are listed",
            facts.stories.len(),
            facts.hit
        ))
    }
}

fn of_fault(facts: &Facts<'_>) -> Vec<Row> {
    let since = |at: Option<i64>| at.map(|at| at - facts.at);
    let ended = |story: &Story| since(story.ended);
    let all_ended = || longest(facts.stories, |_| true, ended);
    match facts.fault {
        Fault::Notice { in_ms, .. } => {
            let limit = *in_ms as f64 / 1e3;
            let evicted = Row::new("evicted_seconds", "evicted and queued again", all_ended(), "s");
            let evicted =
                if facts.hit == 0 { evicted.note("nothing ran there") } else { evicted.at_most(limit) };
            vec![evicted, elsewhere(facts, ELSEWHERE_S, Story::away_ms)]
        }
        Fault::LeaderDeath { alone, .. } => {
            let (limit, note) = if *alone {
                (RESTART_S, "nobody can take over: it starts again from its disk")
            } else {
                (FAILOVER_S, "")
            };
            let gap = Some(facts.probe.gap.as_secs_f64());
            vec![
                Row::new("writes_stopped_seconds", "no write acknowledged", gap, "s")
                    .at_most(limit)
                    .note(note),
            ]
        }
        Fault::Silence { for_ms, .. } if leases(*for_ms) == Leases::Lost => {
            let lost = Row::new("queued_again_seconds", "lost and queued again", all_ended(), "s");
            vec![lost, elsewhere(facts, LOSS_S, |story| since(story.next_started))]
        }
        Fault::Silence { .. } => {
            let lost = facts.stories.iter().filter(|story| story.state == "lost").count();
            let row = Row::count("hit_leases_lost", "leases lost there", lost);
            match facts.fault {
                Fault::Silence { for_ms, .. } if leases(*for_ms) == Leases::Kept => vec![row.at_most(0.0)],
                _ => vec![row.note("a cut of this length may cost leases or not")],
            }
        }
        Fault::Xid { .. } => {
            let noted = seconds(since(facts.noted));
            let row =
                Row::new("quarantined_seconds", "judged and written down", noted, "s").at_most(DETECT_S);
            if !facts.is_out && facts.noted.is_some() {
                return vec![row.note("the policy leaves the device in service")];
            }
            vec![row, elsewhere(facts, ELSEWHERE_S, Story::away_ms)]
        }
    }
}

/// What it cost those that were hit.
fn of_work(facts: &Facts<'_>) -> Vec<Row> {
    let lost = |story: &Story| story.lost_ms.unwrap_or(0) as f64 / 1e3;
    let most = facts.stories.iter().map(lost).fold(0.0, f64::max);
    let gpu_seconds = facts.stories.iter().map(|story| lost(story) * story.gpus as f64).sum();
    let saves = facts.stories.iter().filter(|story| story.committed.is_some()).count();
    let mut rows = vec![
        Row::new("lost_seconds", "work lost, the most of one", Some(most), "s")
            .note(format!("{saves} of {} had committed a checkpoint", facts.stories.len())),
        Row::new("lost_gpu_seconds", "work lost, of all GPUs", Some(gpu_seconds), "GPU-s"),
    ];
    if let Fault::Notice { in_ms, .. } = facts.fault
        && *in_ms >= ENOUGH_MS
    {
        let unsaved = |story: &&Story| story.committed.is_some_and(|at| at < facts.at) && !story.is_final();
        let unsaved = facts.stories.iter().filter(unsaved).count();
        let row = Row::count("not_saved_after_notice", "did not save after the notice", unsaved);
        rows.push(row.at_most(0.0).note("of those that commit checkpoints"));
    }
    let charged = facts.stories.iter().filter(|story| story.is_charged()).count();
    rows.push(Row::count("charged", "failed for it", charged).at_most(0.0));
    rows
}

/// What must hold whatever the fault is.
fn of_all(facts: &Facts<'_>) -> Vec<Row> {
    let lost = facts.others.iter().filter(|story| story.state == "lost");
    let first = lost.clone().next().map_or_else(String::new, |story| story.attempt.clone());
    let twice: u64 = facts.stories.iter().chain(facts.others).map(|story| story.twice).sum();
    let probe = facts.probe;
    let mut failed = Row::count("failed_submissions", "failed submissions", probe.failures.len())
        .at_most(0.0)
        .note(format!("of {}", probe.acknowledged + probe.failures.len() as u64));
    if let Some(failure) = probe.failures.first() {
        failed = failed.note(failure.clone());
    }
    let back = Row::count("not_put_back", "not put back", usize::from(facts.not_back.is_some())).at_most(0.0);
    vec![
        Row::count("leases_lost", "other leases lost", lost.count()).at_most(0.0).note(if first.is_empty() {
            format!("of {}", facts.others.len())
        } else {
            first
        }),
        Row::new("missing", "jobs or indices lost", Some(facts.missing as f64), "").at_most(0.0),
        Row::new("granted_twice", "granted twice at once", Some(twice as f64), "").at_most(0.0),
        failed,
        Row::count("duplicate_jobs", "duplicate jobs", probe.jobs.len().saturating_sub(1)).at_most(0.0),
        back.note(facts.not_back.clone().unwrap_or_default()),
    ]
}

/// Whether all that is graded is met.
#[must_use]
pub fn all_met(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.met != Some(false))
}

/// For people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["WHAT", ">MEASURED", ">TARGET", "GRADE", "NOTE"]);
    let number = |number: f64, unit: &str| match unit {
        "" => format!("{number:.0}"),
        unit => format!("{number:.2} {unit}"),
    };
    for row in rows {
        let limit = |limit: f64| {
            if row.unit.is_empty() { format!("{limit:.0}") } else { format!("< {limit} {}", row.unit) }
        };
        let grade = match row.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        table.row([
            row.what.to_owned(),
            row.measured.map_or_else(String::new, |measured| number(measured, row.unit)),
            row.at_most.map_or_else(String::new, limit),
            grade.to_owned(),
            row.note.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;
    use std::time::Duration;

    fn story(attempt: &str, state: &str, ended: i64, next_started: Option<i64>) -> Story {
        Story {
            attempt: attempt.to_owned(),
            worker: "w1".to_owned(),
            state: state.to_owned(),
            ended: Some(ended),
            gpus: 2,
            lost_ms: Some(4_000),
            next: next_started.map(|_| "7.t#2".to_owned()),
            next_worker: next_started.map(|_| "w2".to_owned()),
            next_started,
            ..Story::default()
        }
    }

    fn well() -> Report {
        Report { acknowledged: 50, failures: Vec::new(), jobs: [9].into(), gap: Duration::from_millis(1_800) }
    }

    static WELL: LazyLock<Report> = LazyLock::new(well);

    fn facts<'a>(fault: &'a Fault, stories: &'a [Story]) -> Facts<'a> {
        Facts {
            fault,
            at: 1_000,
            hit: stories.len(),
            stories,
            others: &[],
            noted: None,
            is_out: false,
            missing: 0,
            probe: &WELL,
            not_back: None,
        }
    }

    /// What is not met, by key.
    fn unmet(facts: &Facts<'_>) -> Vec<(&'static str, Option<bool>)> {
        rows(facts).iter().filter(|row| row.met != Some(true)).map(|row| (row.key, row.met)).collect()
    }

    fn grades(fault: &Fault, stories: &[Story]) -> Vec<(&'static str, Option<bool>)> {
        unmet(&facts(fault, stories))
    }

    fn silence(for_ms: u64) -> Fault {
        Fault::Silence { worker: "w1".to_owned(), for_ms, drill: "cut" }
    }

    const SAID: [(&str, Option<bool>); 2] = [("lost_seconds", None), ("lost_gpu_seconds", None)];

    #[test]
    fn a_lost_worker_is_graded_by_the_last_of_what_it_ran() {
        let fault = silence(15_000);
        let queued = ("queued_again_seconds", None);
        let in_time =
            [story("7.t#1", "lost", 12_000, Some(12_400)), story("8.t#1", "lost", 12_000, Some(14_900))];
        assert_eq!(grades(&fault, &in_time), [[queued].as_slice(), &SAID].concat());
        let late = [story("7.t#1", "lost", 12_000, Some(15_100))];
        let missed = ("running_elsewhere_seconds", Some(false));
        assert_eq!(grades(&fault, &late), [[queued, missed].as_slice(), &SAID].concat());
        let waits = [in_time[0].clone(), story("8.t#1", "lost", 12_000, None)];
        assert_eq!(grades(&fault, &waits), [[queued, missed].as_slice(), &SAID].concat());
        let none = ("running_elsewhere_seconds", None);
        assert_eq!(grades(&fault, &[]), [queued, none], "nothing ran there");
    }

    #[test]
    fn a_short_cut_may_cost_nothing() {
        let running = Story { ended: None, lost_ms: None, ..story("7.t#1", "running", 0, None) };
        assert_eq!(grades(&silence(4_000), &[running]), SAID);
        let lost = [story("7.t#1", "lost", 12_000, Some(12_100))];
        let expected = [[("hit_leases_lost", Some(false))].as_slice(), &SAID].concat();
        assert_eq!(grades(&silence(4_000), &lost), expected);
        let either = [[("hit_leases_lost", None)].as_slice(), &SAID].concat();
        assert_eq!(grades(&silence(9_000), &lost), either);
    }

    #[test]
    fn a_notice_is_graded_by_what_was_saved_after_it() {
        let fault = Fault::Notice { worker: "w1".to_owned(), in_ms: 30_000 };
        let saved = |at| Story { committed: Some(at), ..story("7.t#1", "evicted", 6_000, Some(8_000)) };
        assert_eq!(grades(&fault, &[saved(5_000)]), SAID);
        let unsaved = [SAID.as_slice(), &[("not_saved_after_notice", Some(false))]].concat();
        assert_eq!(grades(&fault, &[saved(900)]), unsaved);
        let short = Fault::Notice { worker: "w1".to_owned(), in_ms: 10_000 };
        assert_eq!(grades(&short, &[saved(900)]), SAID, "a short notice promises nothing");
        let failed = [Story { state: "failed".to_owned(), ..saved(5_000) }];
        assert!(grades(&fault, &failed).contains(&("charged", Some(false))));
    }

    #[test]
    fn a_device_is_graded_by_its_judgement_and_by_what_it_held() {
        let fault = Fault::Xid { uuid: "GPU-a".to_owned(), code: 79 };
        let hit = [story("7.t#1", "evicted", 2_000, Some(2_900))];
        let judged = |facts: Facts<'_>| unmet(&Facts { noted: Some(1_050), is_out: true, ..facts });
        assert_eq!(judged(facts(&fault, &hit)), SAID);
        let never = [("quarantined_seconds", Some(false))];
        assert_eq!(grades(&fault, &hit), [never.as_slice(), &SAID].concat());
        let running = [Story { ended: None, lost_ms: None, ..story("7.t#1", "running", 0, None) }];
        let noted = Facts { noted: Some(1_050), ..facts(&fault, &running) };
        assert_eq!(unmet(&noted), SAID, "the policy left it in service");
    }

    #[test]
    fn a_failover_and_every_promise_to_those_who_were_not_hit() {
        let fault = Fault::LeaderDeath { member: 1, alone: false };
        assert_eq!(grades(&fault, &[]), []);
        let slow = Report { gap: Duration::from_secs(5), ..well() };
        let late = Facts { probe: &slow, ..facts(&fault, &[]) };
        assert_eq!(unmet(&late), [("writes_stopped_seconds", Some(false))]);
        let others = [Story { twice: 1, ..story("9.t#1", "lost", 2_000, None) }];
        let not_back = Some("member 1 is not back".to_owned());
        let broken = Facts { others: &others, missing: 2, not_back, ..facts(&fault, &[]) };
        let keys = ["leases_lost", "missing", "granted_twice", "not_put_back"].map(|key| (key, Some(false)));
        assert_eq!(unmet(&broken), keys);
    }

    #[test]
    fn people_read_units_targets_and_grades() {
        let rows = [
            Row::new("a", "running again", Some(1.234), "s").at_most(14.0).note("e.g. 7.t#2 on w2"),
            Row::count("b", "failed submissions", 2).at_most(0.0),
            Row::new("c", "work lost", None, "s"),
        ];
        let expected = "\
WHAT                MEASURED  TARGET  GRADE   NOTE
running again         1.23 s  < 14 s  met     e.g. 7.t#2 on w2
failed submissions         2       0  missed  -
work lost                  -       -  -       -
";
        assert_eq!(table(&rows), expected);
        assert!(!all_met(&rows) && all_met(&rows[..1]) && all_met(&rows[2..]));
    }
}
