//! A pool of at most 16 spot workers as a published trace has it, never short of tasks: which part of its GPU time is work that was not lost.
//!
//! The model: a task is 12 h of work on one worker. A start takes 10 s, reading a checkpoint 20 s, a save 20 s, during which the task stands
//! still. When the trace has fewer workers than before, those that go are drawn by the seed; each knows it 120 s before. Three ways:
//!
//! - *notice and saves*: saves every ten minutes at most, or as often as Young and Daly advise for what was lost so far; at the notice it saves
//!   once more, ends, and goes on as the first task that gets a worker.
//! - *saves only*: the same without the notice: what was done since the last save is done again.
//! - *from scratch*: nothing is saved.
//!
//! Left out: a save that fails, a store that is slow, workers that end without a notice.

use super::trace::{Counts, counts};
use crate::replay::Chance;
use anyhow::Result;
use muster_core::spot::effective_every;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

const SET: &str = "avail_16-node_aws-08-27-2023";
const ZONES: [&str; 3] = ["us-east-2b_v100_1", "us-west-2a_v100_1", "us-west-2c_v100_1"];

/// Seconds: work of a task, start, read, save, notice, and the longest time between two saves.
const TASK_S: u64 = 12 * 3_600;
const START_S: u64 = 10;
const READ_S: u64 = 20;
const SAVE_S: u64 = 20;
const NOTICE_S: u64 = 120;
const EVERY_S: u64 = 600;

/// How tasks save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Notice,
    Saves,
    Scratch,
}

impl Way {
    const ALL: [Self; 3] = [Self::Notice, Self::Saves, Self::Scratch];

    fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice and saves",
            Self::Saves => "saves only",
            Self::Scratch => "from scratch",
        }
    }
}

/// Where the GPU time of a pool went, s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Spent {
    pub all: u64,
    /// Work that was not lost.
    pub useful: u64,
    pub lost: u64,
    pub saving: u64,
    pub starting: u64,
    /// Between the end of the last task and the end of the machine.
    pub idle: u64,
    pub workers_lost: u64,
    pub tasks_done: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Working,
    Saving,
}

/// A task on a worker; `left`: of its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Task {
    saved: u64,
    unsaved: u64,
    phase: Phase,
    left: u64,
}

/// The pool and what waits for it.
struct Pool {
    way: Way,
    every: u64,
    waiting: VecDeque<u64>,
    workers: Vec<Task>,
    spent: Spent,
}

impl Pool {
    fn new(way: Way) -> Self {
        let every = if way == Way::Scratch { TASK_S } else { EVERY_S };
        Self { way, every, waiting: VecDeque::new(), workers: Vec::new(), spent: Spent::default() }
    }

    /// What an empty worker takes: what waits first, else a new task.
    fn next(&mut self) -> Task {
        let saved = self.waiting.pop_front().unwrap_or(0);
        let left = START_S + if saved > 0 { READ_S } else { 0 };
        Task { saved, unsaved: 0, phase: Phase::Starting, left }
    }

    /// A worker goes on for so many seconds.
    fn advance(&mut self, at: usize, mut seconds: u64) {
        while seconds > 0 {
            let mut task = self.workers[at];
            let step = seconds.min(task.left);
            seconds -= step;
            task.left -= step;
            match task.phase {
                Phase::Starting => self.spent.starting += step,
                Phase::Saving => self.spent.saving += step,
                Phase::Working => {
                    task.unsaved += step;
                    self.spent.useful += step;
                }
            }
            if task.left == 0 {
                match task.phase {
                    Phase::Working if task.saved + task.unsaved == TASK_S => {
                        self.spent.tasks_done += 1;
                        task = self.next();
                    }
                    Phase::Working => (task.phase, task.left) = (Phase::Saving, SAVE_S),
                    Phase::Starting | Phase::Saving => {
                        task.saved += task.unsaved;
                        task.unsaved = 0;
                        task.phase = Phase::Working;
                        task.left = self.every.min(TASK_S - task.saved);
                    }
                }
            }
            self.workers[at] = task;
        }
    }

    /// The last tick of a worker, to its end.
    fn lose(&mut self, at: usize, tick: u64) {
        let notice = if self.way == Way::Notice { NOTICE_S.min(tick) } else { 0 };
        self.advance(at, tick - notice);
        let mut task = self.workers[at];
        let save = if task.unsaved == 0 { 0 } else { SAVE_S };
        if save <= notice {
            task.saved += task.unsaved;
            task.unsaved = 0;
            self.spent.saving += save;
            self.spent.idle += notice - save;
        } else {
            self.spent.useful -= task.unsaved;
            self.spent.lost += task.unsaved;
            self.spent.idle += notice;
        }
        if task.saved > 0 {
            self.waiting.push_back(task.saved);
        }
        self.workers.remove(at);
        self.spent.workers_lost += 1;
        // How long a worker lasts by what was seen so far, and how often to save then.
        let lasts = self.spent.all / self.spent.workers_lost;
        if self.way != Way::Scratch {
            let advised =
                effective_every(Some(EVERY_S * 1_000), Some(SAVE_S * 1_000), Some(lasts * 1_000), 1);
            self.every = advised.map_or(EVERY_S, |ms| ms / 1_000);
        }
    }
}

/// The whole trace under one way.
fn replay(trace: &Counts, way: Way, seed: u64) -> Spent {
    let tick = trace.gap_seconds as u64;
    let (mut pool, mut chance) = (Pool::new(way), Chance(seed));
    let after = trace.data.iter().skip(1).chain([trace.data.last().unwrap_or(&0)]);
    for (count, after) in trace.data.iter().zip(after) {
        while pool.workers.len() < *count as usize {
            let task = pool.next();
            pool.workers.push(task);
        }
        pool.spent.all += u64::from(*count) * tick;
        for _ in *after..*count {
            let going = chance.below(pool.workers.len());
            pool.lose(going, tick);
        }
        (0..pool.workers.len()).for_each(|at| pool.advance(at, tick));
    }
    pool.spent
}

/// One way on one zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub zone: &'static str,
    pub way: &'static str,
    /// Useful GPU time, % of all.
    pub goodput_pct: f64,
    pub spent_s: Spent,
}

/// The whole replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    pub trace: &'static str,
    pub version: &'static str,
    pub seed: u64,
    pub rows: Vec<Row>,
}

/// Each way on each zone.
///
/// # Errors
/// A file that is missing or wrong.
pub fn run(dir: &Path, seed: u64) -> Result<Document> {
    let dir = dir.join("spot-aws");
    let mut rows = Vec::new();
    for zone in ZONES {
        let trace = counts(&dir, SET, zone)?;
        for way in Way::ALL {
            let spent = replay(&trace, way, seed);
            let goodput_pct = 100.0 * spent.useful as f64 / spent.all.max(1) as f64;
            rows.push(Row { zone, way: way.name(), goodput_pct, spent_s: spent });
        }
    }
    Ok(Document { trace: "spot-aws", version: env!("CARGO_PKG_VERSION"), seed, rows })
}

impl Document {
    /// Aligned columns.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("a pool of at most 16 spot workers, GPU time in %, seed {}\n", self.seed);
        let columns = ["useful", "lost", "saving", "starting", "idle", "GPU h", "lost", "done"];
        let _ = write!(text, "{:<20}{:<18}", "zone", "way");
        columns.iter().for_each(|column| {
            let _ = write!(text, "{column:>10}");
        });
        text.push('\n');
        for Row { zone, way, spent_s: spent, .. } in &self.rows {
            let _ = write!(text, "{zone:<20}{way:<18}");
            for part in [spent.useful, spent.lost, spent.saving, spent.starting, spent.idle] {
                let _ = write!(text, "{:>10.2}", 100.0 * part as f64 / spent.all.max(1) as f64);
            }
            let _ =
                writeln!(text, "{:>10}{:>10}{:>10}", spent.all / 3_600, spent.workers_lost, spent.tasks_done);
        }
        text + "columns: % of the GPU time; GPU hours in all; workers lost; tasks done\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(data: &[u32]) -> Counts {
        Counts { gap_seconds: 900.0, data: data.to_vec() }
    }

    #[test]
    fn one_worker_that_goes_once_as_worked_out_by_hand() {
        // 1,800 s, then none for 900 s, then 900 s.
        let data = trace(&[1, 1, 0, 1]);
        let scratch = replay(&data, Way::Scratch, 1);
        // 10 s of start each; 1,790 s lost; 890 s at the end.
        let expected =
            Spent { all: 2_700, useful: 890, lost: 1_790, starting: 20, workers_lost: 1, ..Spent::default() };
        assert_eq!(scratch, expected);
        let saves = replay(&data, Way::Saves, 1);
        // 10 start, 600 work, 20 save, 600, 20, 550 lost. It lasted 1,800 s: saves every sqrt(2 x 20 x 1,800) = 268 s.
        // 10 + 20 start, 268, 20, 268, 20, 268, 20, 6.
        let expected = Spent {
            all: 2_700,
            useful: 1_200 + 810,
            lost: 550,
            saving: 100,
            starting: 40,
            workers_lost: 1,
            ..Spent::default()
        };
        assert_eq!(saves, expected);
        let notice = replay(&data, Way::Notice, 1);
        // 10 start, 600, 20, 600, 20, 430; 120 s before the end it saves: 20, and 100 s nothing. Then as before.
        let expected = Spent {
            all: 2_700,
            useful: 1_630 + 810,
            saving: 120,
            starting: 40,
            idle: 100,
            workers_lost: 1,
            ..Spent::default()
        };
        assert_eq!(notice, expected);
    }

    #[test]
    fn every_second_is_somewhere() {
        let data = trace(&[3, 5, 2, 2, 0, 4, 16, 9, 9, 1]);
        for way in Way::ALL {
            let spent = replay(&data, way, 7);
            assert_eq!(
                spent.all,
                spent.useful + spent.lost + spent.saving + spent.starting + spent.idle,
                "{way:?}"
            );
            assert_eq!(spent.workers_lost, 3 + 2 + 7 + 8);
        }
    }

    #[test]
    fn a_task_that_is_done_makes_room_for_what_waits() {
        let spent = replay(&trace(&[1; 100]), Way::Notice, 1);
        assert_eq!((spent.tasks_done, spent.workers_lost, spent.lost), (2, 0, 0));
    }
}
