//! What a job will cost, before it runs: how long its indices run, times what their share of the cheapest worker costs.

use super::price::{micro_usd_per_hour, rate};
use crate::ledger::amount::PER_MICRO_USD;
use crate::model::fleet::Fleet;
use crate::model::job_spec::{JobSpec, TaskCommon};
use crate::model::placement::WHOLE;
use crate::model::worker::WorkerSpec;
use crate::scheduler::could_ever_fit;

/// Millionths of a USD for all tasks of the job, each index once. None: of some task it is not known how long it runs (it says neither `expected`
/// with a deadline nor a timeout), or no worker is known on which it fits.
#[must_use]
pub fn forecast(spec: &JobSpec, workers: &[&WorkerSpec], fleet: &Fleet) -> Option<u64> {
    let mut all: Vec<(&WorkerSpec, u64)> =
        workers.iter().map(|worker| (*worker, micro_usd_per_hour(worker, fleet))).collect();
    for pool in fleet.pools.values() {
        all.extend(pool.template.as_deref().map(|spec| (spec, pool.micro_usd_per_hour.unwrap_or(0))));
    }
    let costs: Vec<Option<u128>> = spec.commons.iter().map(|common| of_one_index(common, &all)).collect();
    let mut sum: u128 = 0;
    for task in &spec.tasks {
        let one = (*costs.get(task.common as usize)?)?;
        sum = sum.saturating_add(one.saturating_mul(u128::from(task.count())));
    }
    Some(u64::try_from(sum / PER_MICRO_USD).unwrap_or(u64::MAX))
}

/// AttoUSD.
fn of_one_index(common: &TaskCommon, workers: &[(&WorkerSpec, u64)]) -> Option<u128> {
    let ms = common.deadline.as_ref().map(|deadline| deadline.work_ms).or(common.timeout_ms)?;
    let seats = common.gang.as_ref().map_or(1, |gang| gang.min.max(1));
    let fits =
        workers.iter().filter(|(spec, _)| could_ever_fit(&common.resources, std::iter::once(*spec)).is_ok());
    let share = |(spec, price): &(&WorkerSpec, u64)| {
        let devices = spec.devices.len() as u64 * u64::from(WHOLE);
        // Of a machine with devices, those are what costs.
        let (parts, all) = if devices == 0 {
            (common.resources.cpu_milli, spec.cpu_milli)
        } else {
            let gpus = common.resources.gpus.as_ref();
            (gpus.map_or(0, |g| u64::from(g.amount.devices()) * u64::from(g.amount.milli())), devices)
        };
        rate(*price, all) * u128::from(parts)
    };
    let cheapest = fits.map(share).min()?;
    Some(cheapest * u128::from(ms) * u128::from(seats))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::test_state::{TestJob, worker_spec};

    fn priced(gpus: usize, usd: &str) -> WorkerSpec {
        let mut spec = worker_spec("w", 8, gpus);
        spec.labels.insert(super::super::price::PRICE_LABEL.to_owned(), usd.to_owned());
        spec
    }

    fn of(job: &TestJob, workers: &[&WorkerSpec]) -> Option<u64> {
        forecast(&job.bytes().decode().expect("a job"), workers, &Fleet::default())
    }

    #[test]
    fn the_cheapest_worker_that_fits_counts() {
        let (small, large, cpus) = (priced(2, "7.2"), priced(8, "14.4"), priced(0, "2.88"));
        let workers = [&small, &large, &cpus];
        let hour = 3_600_000;
        // Two GPUs for an hour: 7.2 USD on the small one, 3.6 USD on the large one.
        assert_eq!(of(&TestJob::new().task(&[]).gpus(2).timeout(hour), &workers), Some(3_600_000));
        assert_eq!(of(&TestJob::new().task(&[]).gpus(2).timeout(hour), &[&small]), Some(7_200_000));
        let three = TestJob::new().task(&[]).gpus(1).timeout(hour).array(3, None);
        assert_eq!(of(&three, &workers), Some(5_400_000));
        let gang = TestJob::new().task(&[]).gpus(2).timeout(hour).workers(2, 2);
        assert_eq!(of(&gang, &workers), Some(7_200_000));
        // Without devices: an eighth of the machine without, or nothing beside the devices of another.
        let plain = TestJob::new().task(&[]).timeout(hour);
        assert_eq!((of(&plain, &[&cpus]), of(&plain, &workers)), (Some(360_000), Some(0)));
        // What it is expected to take counts before when it is cut off.
        let expected = TestJob::new().task(&[]).gpus(2).timeout(9 * hour).deadline(99 * hour, hour);
        assert_eq!(of(&expected, &workers), Some(3_600_000));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let worker = priced(2, "4");
        assert_eq!(of(&TestJob::new().task(&[]).gpus(1), &[&worker]), None);
        assert_eq!(of(&TestJob::new().task(&[]).gpus(1).timeout(1), &[]), None);
        assert_eq!(of(&TestJob::new().task(&[]).timeout(1).task(&[]), &[&worker]), None);
    }
}
