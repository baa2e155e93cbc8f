//! One run, in order: start, faults under load, heal, liveness, judge, one line.

use super::client::Answer;
use super::faults::{Kind, kinds};
use super::ledger::{self, LEDGER};
use super::load::Load;
use super::nemesis::{self, Done, Progress, What};
use super::options::Options;
use super::oracles::{Violation, agreement, books, kernel, order, promises};
use super::world::{MEMBERS, WORKERS, World};
use super::{evidence, schedule};
use anyhow::{Context, Result, bail};
use muster_core::view_doc::JobDoc;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// After all faults are healed every job is over within this: three leases, retries, and a machine that is busy.
const LIVENESS: Duration = Duration::from_secs(180);
/// And every member has applied what the others have.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Exit code of a run that somebody stopped.
const INTERRUPTED: i32 = 130;

/// The driver: everything from the start of the cluster to the line at the end. Returns the exit code.
///
/// # Errors
/// The cluster cannot be started, or something of the harness fails: no verdict.
pub fn drive(dir: &Path, options: &Options, seed: u64) -> Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    runtime.spawn(async {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        stop.store(true, Ordering::Relaxed);
    });
    let run =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judged(dir, options, seed, &runtime, stop)));
    let verdict = match run {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => {
            let kept = keep(dir, options, seed)?;
            bail!("{error:#}\nlogs: {}", kept.display());
        }
        Err(panic) => {
            let _ = keep(dir, options, seed);
            std::panic::resume_unwind(panic);
        }
    };
    // 6. The line.
    for violation in &verdict.violations {
        eprintln!("violation: {violation}");
    }
    if !verdict.violations.is_empty() || options.keep {
        eprintln!("evidence: {}", keep(dir, options, seed)?.display());
    }
    println!(
        "faults {} tasks {} violations {} seed {seed}",
        verdict.faults,
        verdict.tasks,
        verdict.violations.len()
    );
    Ok(match (verdict.interrupted, verdict.violations.is_empty()) {
        (true, _) => INTERRUPTED,
        (false, true) => 0,
        (false, false) => 1,
    })
}

struct Verdict {
    faults: usize,
    tasks: u64,
    violations: Vec<Violation>,
    interrupted: bool,
}

fn judged(dir: &Path, options: &Options, seed: u64, runtime: &Runtime, stop: &AtomicBool) -> Result<Verdict> {
    // 1. The cluster, and what can be done to it.
    eprintln!("seed {seed}: starting {MEMBERS} members and {WORKERS} workers in {}", dir.display());
    let world = Arc::new(World::start(dir, runtime.handle(), &options.log_level)?);
    let possible = possible(&world, options)?;
    let plan = schedule::draw(seed, options.duration, &possible);
    evidence::lines(&dir.join("schedule.jsonl"), &plan)?;
    eprintln!("{} faults of {} kinds are planned", plan.len(), possible.len());
    // 2. Load and faults.
    let program = std::env::current_exe().context("where is this program?")?;
    let load = Load::new(world.client.clone(), seed, program, world.tasks(), options.load, options.duration);
    let watched = Arc::clone(&world);
    let watcher = runtime.spawn(async move { watched.watch_leader().await });
    let loading = runtime.spawn(Arc::clone(&load).run());
    let progress = Arc::new(Progress::default());
    let talker = talk(Arc::clone(&world), Arc::clone(&load), Arc::clone(&progress), runtime);
    let done = nemesis::run(&world, &plan, options.duration, stop, &progress);
    // 3. All is healed: everything must finish.
    load.closing.store(true, Ordering::Relaxed);
    let bound = if stop.load(Ordering::Relaxed) { Duration::ZERO } else { LIVENESS };
    let mut violations = Vec::new();
    let healed = Instant::now();
    let in_time = runtime.block_on(async { tokio::time::timeout(bound, loading).await.is_ok() });
    load.over.store(true, Ordering::Relaxed);
    eprintln!(
        "healed; {} after {:.1} s",
        if in_time { "every job is over" } else { "not every job is over" },
        healed.elapsed().as_secs_f64()
    );
    talker.abort();
    watcher.abort();
    if stop.load(Ordering::Relaxed) {
        let (faults, tasks) = (done.faults(), load.counters.tasks_done.load(Ordering::Relaxed));
        return Ok(Verdict { faults, tasks, violations, interrupted: true });
    }
    violations.extend(recovered(&world, runtime, &done));
    // 4. What each member says now.
    let members = runtime.block_on(documents(&world))?;
    // 5. The judges.
    let ledger = ledger::read(&world.tasks().join(LEDGER))?;
    let pauses = world.pauses();
    let records =
        std::mem::take(&mut *load.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let seen = kernel::judge(&ledger, &pauses);
    violations.extend(seen.violations);
    let docs = &members.first().context("no member answered")?.1;
    violations.extend(promises::judge(&records, docs, &ledger));
    if !in_time && !violations.iter().any(|v| v.invariant == "I11") {
        let open =
            load.counters.submitted.load(Ordering::Relaxed) - load.counters.jobs_done.load(Ordering::Relaxed);
        violations.push(Violation::new(
            "I11",
            format!("{open} jobs were not over {} s after healing", LIVENESS.as_secs()),
        ));
    }
    let (jobs, latches) = (load.history.jobs.all(), load.history.latches.all());
    let (not_linear, undecided) = order::judge(&jobs, &latches);
    violations.extend(not_linear);
    violations.extend(agreement::judge(&members));
    for way in 0..MEMBERS {
        match runtime.block_on(world.client.cost(way)) {
            Answer::Heard(report) => violations.extend(books::judge(&format!("c{}", way + 1), &report)),
            other => bail!("member {} has no cost report: {other:?}", way + 1),
        }
    }
    undecided.iter().for_each(|text| eprintln!("note: {text}"));
    evidence::lines(&dir.join("faults.jsonl"), &done.events)?;
    evidence::lines(&dir.join("jobs.jsonl"), docs.values())?;
    evidence::lines(&dir.join("history.jsonl"), &jobs)?;
    evidence::lines(&dir.join("latches.jsonl"), &latches)?;
    evidence::lines(&dir.join("pauses.jsonl"), &pauses)?;
    evidence::lines(&dir.join("violations.jsonl"), &violations)?;
    let tasks = docs.values().map(|doc| doc.counts.succeeded).sum();
    summary(&done, docs, &records, (jobs.len(), latches.len()), seen.overlaps);
    Ok(Verdict { faults: done.faults(), tasks, violations, interrupted: false })
}

/// The kinds that are asked for and that this machine can do; the others are named.
fn possible(world: &World, options: &Options) -> Result<Vec<&'static Kind>> {
    let all = kinds();
    if let Some(unknown) = options.only.iter().find(|name| all.iter().all(|k| k.name != name.as_str())) {
        bail!("there is no kind of fault {unknown:?}: --list shows them");
    }
    let wanted = |kind: &&&Kind| options.only.is_empty() || options.only.iter().any(|n| n == kind.name);
    let mut possible = Vec::new();
    for kind in all.iter().filter(wanted) {
        match (kind.obstacle)(world) {
            None => possible.push(*kind),
            Some(why) => eprintln!("not possible here: {} (row {}): {why}", kind.name, kind.rows),
        }
    }
    Ok(possible)
}

fn talk(
    world: Arc<World>,
    load: Arc<Load>,
    progress: Arc<Progress>,
    runtime: &Runtime,
) -> tokio::task::JoinHandle<()> {
    let start = Instant::now();
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(PROGRESS).await;
            let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
            let c = &load.counters;
            eprintln!(
                "{:4} s  faults {} ({} in force)  jobs {} of {}  tasks {}  calls {} ({} unknown)  leader {}",
                start.elapsed().as_secs(),
                count(&progress.faults),
                count(&progress.in_force),
                count(&c.jobs_done),
                count(&c.submitted),
                count(&c.tasks_done),
                count(&c.calls),
                count(&c.unknown),
                world.leader().as_deref().unwrap_or("none"),
            );
        }
    })
}

/// Whether all members and workers are there again and the same, and whether anything died without being killed.
fn recovered(world: &World, runtime: &Runtime, done: &Done) -> Vec<Violation> {
    let mut found = Vec::new();
    for event in &done.events {
        match event.what {
            What::Died => found.push(Violation::new("D", format!("{} {}", event.node, event.detail))),
            What::Stuck => {
                let text = format!("{} of {} could not be healed: {}", event.kind, event.node, event.detail);
                found.push(Violation::new("D", text));
            }
            What::Failed => eprintln!("note: {} did not strike: {}", event.kind, event.detail),
            What::Injected | What::Healed => {}
        }
    }
    let start = Instant::now();
    let mut applied: Vec<Option<u64>> = Vec::new();
    while start.elapsed() < CATCH_UP {
        applied = (0..MEMBERS)
            .map(|way| {
                let doc = runtime.block_on(world.client.status(way)).heard()?;
                doc.members.iter().find_map(|m| m.last_applied)
            })
            .collect();
        if applied.iter().all(|a| a.is_some() && *a == applied[0]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if !applied.iter().all(|a| a.is_some() && *a == applied[0]) {
        let text = format!("members did not catch up in {} s: applied {applied:?}", CATCH_UP.as_secs());
        found.push(Violation::new("I15", text));
    }
    if let Err(error) = world.cli.json(&["cluster", "status"]) {
        found.push(Violation::new("I11", format!("the command line of users finds no cluster: {error}")));
    }
    for there in [world.wait_voters(MEMBERS), world.wait_workers(WORKERS)] {
        if let Err(error) = there {
            found.push(Violation::new("I11", format!("after healing: {error:#}")));
        }
    }
    found
}

/// Every job as each member shows it.
async fn documents(world: &Arc<World>) -> Result<Vec<(String, BTreeMap<u64, JobDoc>)>> {
    let asked: Vec<_> = (0..MEMBERS).map(|way| tokio::spawn(documents_of(Arc::clone(world), way))).collect();
    let mut members = Vec::new();
    for (way, asked) in asked.into_iter().enumerate() {
        members.push((format!("c{}", way + 1), asked.await??));
    }
    Ok(members)
}

async fn documents_of(world: Arc<World>, way: usize) -> Result<BTreeMap<u64, JobDoc>> {
    let list = match world.client.jobs(way).await {
        Answer::Heard(list) => list,
        other => bail!("member {} does not list its jobs: {other:?}", way + 1),
    };
    let mut docs = BTreeMap::new();
    for summary in list.jobs {
        match world.client.job(way, summary.id).await {
            Answer::Heard(doc) => docs.insert(summary.id, doc),
            other => bail!("member {} does not show job {}: {other:?}", way + 1, summary.id),
        };
    }
    Ok(docs)
}

fn summary(
    done: &Done,
    docs: &BTreeMap<u64, JobDoc>,
    records: &[super::load::Record],
    calls: (usize, usize),
    overlaps: usize,
) {
    let kinds: Vec<String> = done.by_kind().iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    eprintln!("faults: {}", kinds.join(", "));
    let attempts = docs.values().flat_map(|d| &d.tasks).flat_map(|t| &t.attempts);
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    attempts.for_each(|a| *ends.entry(a.state.as_str()).or_default() += 1);
    let ends: Vec<String> = ends.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let releases: u32 = records.iter().map(|r| r.releases).sum();
    let repeated = records.iter().filter(|r| r.ids.len() > 1).count();
    eprintln!(
        "jobs {} ({repeated} submitted twice), attempts: {}; {releases} releases of tasks that were lost three times; {overlaps} locks held by workers that stood still; histories of {} and {} calls",
        records.len(),
        ends.join(", "),
        calls.0,
        calls.1,
    );
}

fn keep(dir: &Path, options: &Options, seed: u64) -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let parent = options.evidence.clone().unwrap_or_else(std::env::temp_dir);
    let to = parent.join(format!("muster-chaos-seed-{seed}-{now}"));
    evidence::keep(dir, &to)?;
    Ok(to)
}
