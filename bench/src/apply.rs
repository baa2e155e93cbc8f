//! `muster bench apply`: the core alone, in this process, on one core: no log, no disk, no wire.
//!
//! Every index is placed, reported running and reported ended: three transitions. Commands hold as many as a busy leader batches.
//! Building them is not counted; dropping what `apply` returned is. The second figure also encodes the touched rows, as a member does.

use crate::jobs;
use crate::report::{Recorder, median};
use anyhow::{Context, Result, bail, ensure};
use muster_core::command::{Command, Placement, Report, ReportKind, Request};
use muster_core::ledger::price::PRICE_LABEL;
use muster_core::model::attempt::Outcome;
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use muster_core::model::placement::Seat;
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::model::worker::{Incarnation, WorkerSpec};
use muster_core::reply::Reply;
use muster_core::spec::{Format, SpecBytes, load};
use muster_core::state::{Entry, State};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench apply --indices 1000000 --batch 256")]
pub struct ApplyArgs {
    /// Indices of the array.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    indices: u32,
    /// Explicit tasks.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tasks: u32,
    /// Placements, and reports, of one command.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// The worker has a price: everything that is done on it is booked.
    #[arg(long)]
    priced: bool,
    /// Repetitions; the median is the result.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

pub fn run(args: ApplyArgs, record: &mut Recorder) -> Result<()> {
    for (name, job, count) in [
        ("array", jobs::array(args.indices), args.indices),
        ("explicit", jobs::explicit(args.tasks), args.tasks),
    ] {
        let spec = load(job.as_bytes(), Format::Json, "bench", &[] as &[&str])
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .1
            .spec;
        let bytes = SpecBytes::encode(&spec);
        let (mut rates, mut with_rows) = (Vec::new(), Vec::new());
        for _ in 0..args.runs {
            for (rates, rows) in [(&mut rates, false), (&mut with_rows, true)] {
                let took = Bench::new(rows).all(bytes.clone(), count, name == "array", &args)?;
                rates.push(3.0 * f64::from(count) / took.as_secs_f64());
            }
        }
        record.figure(format!("{name}_transitions"), median(&rates), "transitions/s");
        record.figure(format!("{name}_transitions_with_rows"), median(&with_rows), "transitions/s");
    }
    record.note(format!(
        "place, running, ended of {} indices and of {} explicit tasks, {} a command, median of {} runs; one core, nothing else",
        args.indices, args.tasks, args.batch, args.runs
    ));
    Ok(())
}

struct Bench {
    state: State,
    index: u64,
    rows: bool,
    took: Duration,
}

impl Bench {
    fn new(rows: bool) -> Self {
        Self { state: State::new(), index: 0, rows, took: Duration::ZERO }
    }

    /// Applies one command, as a log of one command an entry would; a millisecond passes between entries.
    fn apply(&mut self, command: &Command) -> Reply {
        self.index += 1;
        let stamp = Stamp { wall: Wall(self.index.cast_signed()), tick: Tick(self.index) };
        let started = Instant::now();
        let applied = self.state.apply(Entry { index: self.index, stamp, command });
        if self.rows {
            for key in &applied.changes.keys {
                let row = self.state.row(key);
                std::hint::black_box(postcard::to_allocvec(&(key, row)).unwrap_or_default());
            }
            for history in &applied.changes.history {
                std::hint::black_box(postcard::to_allocvec(history).unwrap_or_default());
            }
        }
        drop(applied.changes);
        drop(applied.events);
        self.took += started.elapsed();
        applied.reply
    }

    fn all(mut self, spec: SpecBytes, count: u32, array: bool, args: &ApplyArgs) -> Result<Duration> {
        let (incarnation, batch) = (Incarnation("bench".to_owned()), args.batch);
        let price = args.priced.then(|| (PRICE_LABEL.to_owned(), "3.6".to_owned()));
        let worker = WorkerSpec {
            name: "w".to_owned(),
            cpu_milli: u64::from(batch) * 1_000,
            labels: price.into_iter().collect(),
            ..WorkerSpec::default()
        };
        let register =
            Command::Register { spec: Box::new(worker), incarnation: incarnation.clone(), held: Vec::new() };
        let Reply::Registered { worker } = self.apply(&register) else { bail!("the worker was refused") };
        let request = Request { id: "bench".to_owned(), user: "bench".to_owned() };
        let Reply::Submitted { job, .. } =
            self.apply(&Command::Submit { request, spec, parts: 0, forecast_micro_usd: None })
        else {
            bail!("the job was refused")
        };
        self.took = Duration::ZERO;
        let mut next = 0;
        while next < count {
            let end = (next + batch).min(count);
            self.round(
                job,
                worker,
                &incarnation,
                (next..end).map(|number| at(job, number, array)).collect(),
            )?;
            next = end;
        }
        let job = self.state.job(job).context("the job is gone")?;
        ensure!(
            job.state().as_str() == "succeeded",
            "the job is {} after all its indices ended",
            job.state().as_str()
        );
        Ok(self.took)
    }

    /// Places, starts and ends these.
    fn round(
        &mut self,
        job: JobId,
        worker: WorkerId,
        incarnation: &Incarnation,
        all: Vec<IndexRef>,
    ) -> Result<()> {
        let placements =
            all.iter().map(|at| Placement::single(*at, Seat { worker, devices: Vec::new() })).collect();
        let tokens = match self.apply(&Command::ApplyPlan { placements }) {
            Reply::Placed { accepted, refused: 0 } => accepted,
            other => bail!("the plan of job {job} was not taken: {other:?}"),
        };
        let ended = || ReportKind::Ended { outcome: Outcome::Exit(0), artifacts: Vec::new(), ran_ms: 1 };
        for kind in [ReportKind::Running, ended()] {
            let report = |(token, at): (&Token, &IndexRef)| Report {
                token: *token,
                rank: 0,
                at: *at,
                kind: kind.clone(),
            };
            let reports = tokens.iter().zip(&all).map(report).collect();
            let reply = self.apply(&Command::Reports { worker, incarnation: incarnation.clone(), reports });
            ensure!(matches!(reply, Reply::Reported { fenced: 0, .. }), "reports were not taken: {reply:?}");
        }
        Ok(())
    }
}

fn at(job: JobId, number: u32, array: bool) -> IndexRef {
    if array { IndexRef::new(job, TaskNo(0), number) } else { IndexRef::new(job, TaskNo(number), 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_ends() {
        let mut recorder = Recorder::new();
        let args = ApplyArgs { indices: 5_000, tasks: 300, batch: 64, runs: 1, priced: false };
        run(args, &mut recorder).expect("runs");
    }
}
