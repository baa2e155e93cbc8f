//! Writes of many users: one is begun every few milliseconds whether or not the ones before are answered, up to [`USERS`] at once. One
//! caller in a closed loop would measure its own bad luck: a write that hangs in a member without a leader hides that the next would
//! have been served. Without a limit a cluster that stands still would be buried under connections, which no real set of users does.

use anyhow::{Result, bail};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Writes at once. When so many wait, the next begins when one of them has ended.
pub const USERS: usize = 32;
/// Acknowledged writes after which a gap counts as over.
const FLOWING: usize = 20;
/// What does not come within this time will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// One acknowledged write.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    pub began: Instant,
    pub ended: Instant,
}

#[derive(Debug, Default)]
struct Log {
    acknowledged: Vec<Write>,
    begun: usize,
    failed: Vec<String>,
}

/// Writes that go on until the value is dropped.
#[derive(Debug)]
pub struct Pace {
    log: Arc<Mutex<Log>>,
    clock: JoinHandle<()>,
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

impl Pace {
    /// Begins a write every `every`; `write` makes the one with this number. With `count`, it ends after so many. To be called within a
    /// `LocalSet`: all writes are made on one thread.
    pub fn start<F>(every: Duration, count: Option<usize>, write: impl Fn(usize) -> F + 'static) -> Self
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        let clock = tokio::task::spawn_local(async move {
            let mut beat = tokio::time::interval(every);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let users = Arc::new(tokio::sync::Semaphore::new(USERS));
            for number in 0..count.unwrap_or(usize::MAX) {
                beat.tick().await;
                let Ok(user) = users.clone().acquire_owned().await else { return };
                shared.lock().begun += 1;
                let (one, log) = (write(number), shared.clone());
                tokio::task::spawn_local(async move {
                    let began = Instant::now();
                    let outcome = one.await;
                    drop(user);
                    let mut log = log.lock();
                    match outcome {
                        Ok(()) => log.acknowledged.push(Write { began, ended: Instant::now() }),
                        Err(error) => log.failed.push(format!("{error:#}")),
                    }
                });
            }
        });
        Self { log, clock }
    }

    /// Writes that were begun so far.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.log.lock().begun
    }

    /// Writes that ended, well or not.
    #[must_use]
    pub fn ended(&self) -> usize {
        let log = self.log.lock();
        log.acknowledged.len() + log.failed.len()
    }

    /// What failed so far.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        self.log.lock().failed.clone()
    }

    /// Milliseconds of the writes that began at or after `from` and before `to`, sorted.
    #[must_use]
    pub fn latencies(&self, from: Instant, to: Instant) -> Vec<f64> {
        let log = self.log.lock();
        let within = log.acknowledged.iter().filter(|write| write.began >= from && write.began < to);
        let mut ms: Vec<f64> =
            within.map(|write| (write.ended - write.began).as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        ms
    }

    /// Waits until writes that began after `from` are acknowledged one after the other.
    ///
    /// # Errors
    /// They are not, within a minute; a write failed.
    pub async fn until_flowing(&self, from: Instant) -> Result<()> {
        loop {
            let (flowing, failed) = {
                let log = self.log.lock();
                let after = log.acknowledged.iter().filter(|write| write.began > from).count();
                (after >= FLOWING, log.failed.first().cloned())
            };
            if let Some(error) = failed {
                bail!("a write failed: {error}");
            }
            if flowing {
                return Ok(());
            }
            if from.elapsed() > PATIENCE {
                bail!("no write that began after the fault was acknowledged within {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The longest time between two acknowledgements of which the later came after `from`. What came before is forgotten.
    #[must_use]
    pub fn gap(&self, from: Instant) -> Duration {
        let mut log = self.log.lock();
        let mut ends: Vec<Instant> = log.acknowledged.iter().map(|write| write.ended).collect();
        log.acknowledged.clear();
        ends.sort_unstable();
        gap(&ends, from)
    }
}

fn gap(ends: &[Instant], from: Instant) -> Duration {
    let pairs = ends.windows(2).filter(|pair| pair[1] > from);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_begins_at_the_last_acknowledgement_before_the_fault() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let ends = [at(0), at(300), at(305), at(900), at(905)];
        assert_eq!(gap(&ends, at(310)), Duration::from_millis(595));
        assert_eq!(gap(&ends, at(2_000)), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_write_that_hangs_holds_no_other_back() {
        let flows = async {
            let pace = Pace::start(Duration::from_millis(1), None, |number| async move {
                if number == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(())
            });
            pace.until_flowing(Instant::now()).await.is_ok()
        };
        assert!(tokio::task::LocalSet::new().run_until(flows).await);
    }
}
