//! Closed-loop callers: each waits for its answer before it asks again. Only what began after the warm-up and ended in time counts.

use crate::report::percentile;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What the callers saw.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Lets `callers` call for `warm_up` and then `measured`; `caller` makes the call of one of them, numbered from 0.
///
/// # Errors
/// The first call that failed.
pub async fn drive<C, F>(
    callers: usize,
    warm_up: Duration,
    measured: Duration,
    caller: impl Fn(usize) -> C,
) -> Result<Load>
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let from = Instant::now() + warm_up;
    let to = from + measured;
    let mut running = JoinSet::new();
    for number in 0..callers {
        let mut call = caller(number);
        running.spawn(async move {
            let mut micros: Vec<u32> = Vec::new();
            loop {
                let started = Instant::now();
                if started >= to {
                    return anyhow::Ok(micros);
                }
                call().await?;
                let ended = Instant::now();
                if started >= from && ended <= to {
                    micros.push(u32::try_from((ended - started).as_micros()).unwrap_or(u32::MAX));
                }
            }
        });
    }
    let mut all = Vec::new();
    while let Some(one) = running.join_next().await {
        all.extend(one??);
    }
    if all.is_empty() {
        bail!("no call was answered within {} s", measured.as_secs());
    }
    all.sort_unstable();
    let ms = |percent| percentile(&all, percent) / 1000.0;
    Ok(Load { per_second: all.len() as f64 / measured.as_secs_f64(), p50_ms: ms(50), p99_ms: ms(99) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_call_ends_it() {
        let ok = drive(3, Duration::ZERO, Duration::from_millis(20), |_| {
            || async {
                tokio::task::yield_now().await;
                Ok(())
            }
        });
        assert!(ok.await.is_ok_and(|load| load.per_second > 0.0));
        let bad = drive(3, Duration::ZERO, Duration::from_millis(20), |_| || async { bail!("no") });
        assert!(bad.await.is_err());
    }
}
