//! The arrivals: tasks of the openb list at their own times, several stretches of it laid over one another.
//!
//! Of the list, the tasks with GPUs that were scheduled, ran for a minute to twelve hours, and ended before the list does. Their run time is from
//! scheduling to deletion. Left out: models (the list of this variant names none), quality of service (all are batch tasks here).

use crate::replay::{Chance, Pod, pod, text};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use muster_core::scheduler::Ask;
use std::collections::BTreeMap;
use std::path::Path;

const DAY_S: u64 = 86_400;
/// Stretches that are laid over one another, each with its own times: one alone keeps seven GPUs busy, and a pool of that size is decided by
/// single tasks.
const LANES: u64 = 4;
/// Shorter ones are failures at the start, longer ones are services.
const RUN_S: std::ops::RangeInclusive<u64> = 60..=12 * 3_600;
/// Where the list is dense: from its 115th day (a hundred tasks came in all the time before) to its end, in two halves.
const TUNING: std::ops::Range<u64> = 115 * DAY_S..132 * DAY_S;
const REPORTED: std::ops::Range<u64> = 132 * DAY_S..149 * DAY_S;

/// Which part of the traces is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Days 115 to 132 of the arrivals, spot machines of us-east-2b: constants were chosen on these …
    Tuning,
    /// … and figures are quoted of these: days 132 to 149, us-west-2a and us-west-2c.
    Reported,
}

/// One task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub arrives_s: u64,
    /// Work, on its GPUs.
    pub runs_s: u64,
    /// Number of its ask in [`Stream::asks`].
    pub ask: usize,
    /// Thousandths of GPUs that it takes.
    pub milli: u64,
}

/// What arrives, and what it asks for.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// By arrival.
    pub jobs: Vec<Job>,
    /// The different ones.
    pub asks: Vec<Ask>,
    /// The last arrival is before this.
    pub ends_s: u64,
}

/// A task of the list with its times.
#[derive(Debug, Clone)]
pub struct Timed {
    pod: Pod,
    created_s: u64,
    runs_s: u64,
}

/// The usable tasks of the default list, from `dir/alibaba-gpu-v2023`.
///
/// # Errors
/// A file that is missing, or a line that is no task.
pub fn read(dir: &Path) -> Result<Vec<Timed>> {
    parse(&text(&dir.join("alibaba-gpu-v2023"), "openb_pod_list_default.csv")?)
}

/// From the text of the file, a header first.
///
/// # Errors
/// A line that is no task.
pub fn parse(text: &str) -> Result<Vec<Timed>> {
    let lines: Vec<Vec<String>> =
        text.lines().skip(1).map(|line| line.split(',').map(|f| f.trim().to_owned()).collect()).collect();
    let deleted = |line: &[String]| line.get(9).and_then(|field| field.parse::<f64>().ok());
    // Whatever runs when the list ends is said to end then.
    let end = lines.iter().filter_map(|line| deleted(line)).fold(0.0, f64::max);
    let mut timed = Vec::new();
    for line in &lines {
        let time = |at: usize| line.get(at).and_then(|field| field.parse::<f64>().ok());
        let created = time(8).with_context(|| format!("line `{}` has no creation time", line.join(",")))?;
        let (Some(scheduled), Some(deleted)) = (time(10), deleted(line)) else { continue };
        let (pod, runs_s) = (pod(line)?, (deleted - scheduled).max(0.0) as u64);
        if pod.devices > 0 && deleted < end && RUN_S.contains(&runs_s) {
            timed.push(Timed { pod, created_s: created as u64, runs_s });
        }
    }
    ensure!(!timed.is_empty(), "the list has no task with GPUs that ran to its end");
    Ok(timed)
}

impl Stream {
    /// The arrivals of a seed: which stretches, is drawn by it. Tasks that `fits` refuses are left out.
    #[must_use]
    pub fn draw(timed: &[Timed], part: Part, days: u64, seed: u64, fits: impl Fn(&Ask) -> bool) -> Self {
        let (range, length) = (if part == Part::Tuning { TUNING } else { REPORTED }, days * DAY_S);
        let mut chance = Chance(seed);
        let mut found = Vec::new();
        for _ in 0..LANES {
            let room = (range.end - range.start).saturating_sub(length);
            let from = range.start + chance.below(room as usize + 1) as u64;
            let lane = timed.iter().filter(|t| (from..from + length).contains(&t.created_s));
            found.extend(lane.map(|t| (t.created_s - from, t)));
        }
        found.sort_by_key(|(at, t)| (*at, t.created_s, t.runs_s));
        let mut numbers: BTreeMap<Ask, usize> = BTreeMap::new();
        let mut stream = Self { ends_s: length, ..Self::default() };
        for (arrives_s, Timed { pod, runs_s, .. }) in found.into_iter().filter(|(_, t)| fits(&t.pod.ask)) {
            let ask = *numbers.entry(pod.ask.clone()).or_insert_with(|| {
                stream.asks.push(pod.ask.clone());
                stream.asks.len() - 1
            });
            stream.jobs.push(Job { arrives_s, runs_s: *runs_s, ask, milli: pod.devices * pod.milli });
        }
        stream
    }

    /// Of all tasks.
    #[must_use]
    pub fn gpu_hours(&self) -> f64 {
        self.jobs.iter().map(|job| job.milli * job.runs_s).sum::<u64>() as f64 / 3.6e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,\
                        deletion_time,scheduled_time\n";

    #[test]
    fn only_what_ran_to_its_end_on_gpus_arrives() {
        let text = HEAD.to_owned()
            + "runs,4000,1024,1,500,,LS,Succeeded,11448000,11449000,11448100\n\
               waits,4000,1024,1,1000,,BE,Pending,11448000,11449000,\n\
               no-gpu,4000,1024,0,0,,LS,Succeeded,11448000,11449000,11448000\n\
               short,4000,1024,1,1000,,BE,Failed,11448000,11448030,11448000\n\
               to-the-end,4000,1024,1,1000,,BE,Running,11448000,11450000,11448000\n";
        let timed = parse(&text).expect("a list");
        let all: Vec<(u64, u64)> = timed.iter().map(|t| (t.created_s, t.runs_s)).collect();
        assert_eq!(all, [(11_448_000, 900)]);
        let stream = Stream::draw(&timed, Part::Reported, 17, 1, |_| true);
        // The whole stretch is as long as the half: each lane has it at the same time.
        assert_eq!(stream.jobs.len() as u64, LANES);
        assert_eq!(
            stream.jobs[0],
            Job { arrives_s: 11_448_000 - 132 * DAY_S, runs_s: 900, ask: 0, milli: 500 }
        );
        assert_eq!(stream.gpu_hours(), 0.5);
        assert!(Stream::draw(&timed, Part::Tuning, 17, 1, |_| true).jobs.is_empty());
    }
}
