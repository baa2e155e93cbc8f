//! Runs that can be worked out by hand.

use super::fixed::Fixed;
use super::kubernetes::Kubernetes;
use super::market::{Market, SpotSupply};
use super::outcome::{Figures, Outcome};
use super::stream::{Job, Stream};
use super::target::{Layout, Target};
use super::world::{Rule, Wish, World, replay};
use muster_core::model::resources::{GpuAmount, GpuRequest, Resources};
use muster_core::scheduler::Ask;

/// Tasks of so many GPUs: when, how long.
fn stream(gpus: u32, jobs: &[(u64, u64)]) -> Stream {
    let amount = GpuAmount::Whole(gpus);
    let gpu_request = Some(GpuRequest { amount, ..GpuRequest::default() });
    let resources = Resources { cpu_milli: 1_000, memory: 1 << 30, disk: 0, gpus: gpu_request };
    let milli = u64::from(gpus) * 1_000;
    Stream {
        jobs: jobs
            .iter()
            .map(|(arrives_s, runs_s)| Job { arrives_s: *arrives_s, runs_s: *runs_s, ask: 0, milli })
            .collect(),
        asks: vec![Ask { resources, constraints: Vec::new() }],
        ends_s: jobs.iter().map(|(arrives_s, _)| arrives_s + 1).max().unwrap_or(0),
    }
}

fn market(counts: &[u32], uses_spot: bool) -> Market {
    Market::new(SpotSupply { tick_s: 3_600, counts: counts.to_vec() }, uses_spot)
}

fn play(market: &Market, stream: &Stream, rule: &mut dyn Rule) -> (Outcome, Figures) {
    let outcome = replay(market, stream, 1, rule);
    let figures = Figures::of(std::slice::from_ref(&outcome));
    (outcome, figures)
}

#[test]
fn a_machine_is_bought_for_what_waits_and_paid_from_its_launch_to_its_end() {
    let (outcome, figures) =
        play(&market(&[], false), &stream(1, &[(5, 1_000)]), &mut Kubernetes::new(600, false, 600));
    // Seen at 10, up at 190, at work at 200, done at 1,200; the run ends with it.
    assert_eq!(outcome.waits_s, [185]);
    assert_eq!((outcome.last_end_s, figures.machine_hours), (1_200, 1_190.0 / 3_600.0));
    assert!((figures.usd - 3.06 * 1_190.0 / 3_600.0).abs() < 1e-9, "{}", figures.usd);
    assert!((figures.use_pct - 100.0 * 1_000.0 / 1_190.0).abs() < 1e-9, "{}", figures.use_pct);
}

#[test]
fn an_idle_machine_goes_after_its_time_and_not_within_ten_minutes_of_the_last_order() {
    // The first is done at 300; the machine goes at 610, ten minutes after the order, and the second one waits for another.
    let jobs = stream(1, &[(5, 100), (700, 100)]);
    let (outcome, _) = play(&market(&[], false), &jobs, &mut Kubernetes::new(60, false, 600));
    assert_eq!(outcome.waits_s, [180, 185]);
    // Without the delay it goes at 360: three minutes on the way.
    let (outcome, figures) = play(&market(&[], false), &jobs, &mut Kubernetes::new(60, false, 60));
    assert_eq!((outcome.waits_s, figures.machine_hours), (vec![180, 185], (350.0 + 290.0) / 3_600.0));
    // Ten minutes idle: it is there.
    let (outcome, _) = play(&market(&[], false), &jobs, &mut Kubernetes::new(600, false, 600));
    assert_eq!(outcome.waits_s, [0, 185]);
}

#[test]
fn what_was_not_saved_on_a_spot_machine_is_done_again() {
    // One spot machine for an hour, none for the next, then one again. At work at 200; at 3,600 it has worked 3,400 s, of which 3,000 are saved.
    let (outcome, figures) = play(
        &market(&[1, 0, 1, 1, 1], true),
        &stream(1, &[(5, 6_000)]),
        &mut Kubernetes::new(600, false, 600),
    );
    assert_eq!((outcome.reclaimed, outcome.lost_milli_s), (1, 400_000));
    // Asked for at 3,600; refused after a minute; on demand is up at 3,840, starts and reads for 30 s, and works the other 3,000.
    assert_eq!((outcome.last_end_s, outcome.waits_s.clone()), (6_870, vec![185 + 240]));
    let usd = (3_590.0 * 0.918 + 3_210.0 * 3.06) / 3_600.0;
    assert!((figures.usd - usd).abs() < 1e-9, "{} and not {usd}", figures.usd);
}

#[test]
fn target_tracking_begins_with_one_grows_by_the_proportion_and_takes_spot_first() {
    let four = stream(1, &[(5, 2_000), (5, 2_000), (5, 2_000), (5, 2_000)]);
    let (outcome, figures) = play(&market(&[], false), &four, &mut Target::new(0.7, Layout::Small));
    // At 60 one is ordered, up at 240; then 1/0.7: two; at 420 three; at 600 five, of which one is needed.
    assert_eq!(outcome.waits_s, [235, 415, 595, 775]);
    assert_eq!(figures.spot_pct, 0.0);
    let (outcome, figures) = play(&market(&[16], true), &four, &mut Target::new(0.7, Layout::Small));
    assert_eq!((outcome.waits_s, figures.spot_pct), (vec![235, 415, 595, 775], 100.0));
}

#[test]
fn a_task_of_eight_gpus_starts_the_large_group() {
    let (outcome, figures) =
        play(&market(&[], false), &stream(8, &[(5, 100)]), &mut Target::new(0.7, Layout::Small));
    assert_eq!((outcome.waits_s, outcome.unserved), (vec![235], 0));
    assert_eq!(figures.gpu_hours, 8.0 * figures.machine_hours);
}

#[test]
fn a_fixed_fleet_makes_nobody_wait_once_it_is_up_and_ends_when_it_is_empty() {
    let jobs = stream(8, &[(1_000, 100), (1_000, 500)]);
    let (outcome, figures) = play(&market(&[], false), &jobs, &mut Fixed(2));
    assert_eq!(outcome.waits_s, [0, 0]);
    // Both from 0; the first, empty at 1,110, goes at 1,140; the other with the last task, at 1,510.
    assert_eq!(figures.machine_hours, (1_140.0 + 1_510.0) / 3_600.0);
    let (outcome, _) = play(&market(&[], false), &jobs, &mut Fixed(1));
    assert_eq!(outcome.waits_s, [0, 110]);
}

/// Removes the machine of its task at a moment, with so long to drain, and asks for another.
struct Drains {
    at_s: u64,
    drain_s: u64,
}

impl Rule for Drains {
    fn every_s(&self) -> u64 {
        10
    }

    fn look(&mut self, world: &World<'_>) -> Wish {
        let all = || world.staying(0).map(|(id, _)| id);
        let remove: Vec<_> = all().filter(|_| world.now_s == self.at_s).collect();
        Wish { desired: vec![1, 0, 0, 0], remove, drain_s: self.drain_s }
    }
}

#[test]
fn what_runs_on_a_machine_that_is_removed_may_end_or_is_saved_at_the_deadline() {
    let jobs = stream(1, &[(5, 1_000)]);
    // At work at 190, done at 1,190: within the time.
    let (outcome, _) = play(&market(&[], false), &jobs, &mut Drains { at_s: 500, drain_s: 700 });
    assert_eq!((outcome.last_end_s, outcome.drained, outcome.waits_s), (1_190, 0, vec![175]));
    // At 600 it has worked 410 s. The other machine is up at 680: start, read and save 50 s, and 590 s.
    let (outcome, figures) = play(&market(&[], false), &jobs, &mut Drains { at_s: 500, drain_s: 100 });
    assert_eq!((outcome.last_end_s, outcome.drained, outcome.waits_s), (1_320, 1, vec![175 + 80]));
    assert_eq!((outcome.lost_milli_s, outcome.worked_milli_s), (0, 1_000_000));
    assert_eq!(figures.machine_hours, (600.0 + 820.0) / 3_600.0);
}
