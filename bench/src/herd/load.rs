//! Submissions at a steady pace, whether answers come or not: a slow answer delays no later call, so what a caller would see is what is
//! measured. Each is tried at the next member until one acknowledges it, under one request id, as the command line does.

use crate::client::{Api, Target, request_id};
use anyhow::Result;
use muster_proto::api::SubmitPart;
use muster_proto::api::api_client::ApiClient;
use muster_proto::channel::{Bearer, dial_lazy};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Before the next member is tried.
const PAUSE: Duration = Duration::from_millis(20);
/// As long as the command line tries.
const GIVE_UP: Duration = Duration::from_secs(20);

/// An acknowledged submission.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub began: Instant,
    pub took: Duration,
}

/// Submits until it is dropped.
#[derive(Debug)]
pub struct Load {
    seen: Arc<Seen>,
    /// Ends with its value, and its calls with it.
    _pace: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: Mutex<Vec<Sample>>,
    failed: AtomicU64,
}

impl Load {
    /// Submits `job` every `every`, beginning with another member each time.
    ///
    /// # Errors
    /// Unusable certificates.
    pub fn start(target: &Target, job: String, every: Duration) -> Result<Self> {
        let open = |address: &String| {
            let channel = dial_lazy(address, target.tls.as_ref())?;
            anyhow::Ok(ApiClient::with_interceptor(channel, Bearer::new(&target.token)))
        };
        let apis: Vec<Api> = target.addresses.iter().map(open).collect::<Result<_>>()?;
        let seen = Arc::new(Seen::default());
        let mut pace = JoinSet::new();
        let counts = seen.clone();
        pace.spawn(async move {
            let mut calls = JoinSet::new();
            let mut beats = tokio::time::interval(every);
            for first in 0.. {
                beats.tick().await;
                while calls.try_join_next().is_some() {}
                calls.spawn(submit(apis.clone(), first, job.clone(), counts.clone()));
            }
        });
        Ok(Self { seen, _pace: pace })
    }

    /// What was acknowledged so far.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.seen.samples.lock().clone()
    }

    /// Submissions that no member acknowledged.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.seen.failed.load(Relaxed)
    }

    /// When the first submission that began after `since` was acknowledged.
    #[must_use]
    pub fn acknowledged_since(&self, since: Instant) -> Option<Instant> {
        let samples = self.seen.samples.lock();
        let later = samples.iter().rev().take_while(|sample| sample.began + GIVE_UP > since);
        later.filter(|sample| sample.began > since).map(|sample| sample.began + sample.took).min()
    }
}

async fn submit(apis: Vec<Api>, first: usize, job: String, seen: Arc<Seen>) {
    let part = SubmitPart {
        request_id: request_id(),
        user: "bench".to_owned(),
        job: job.into(),
        ..SubmitPart::default()
    };
    let began = Instant::now();
    for at in first.. {
        let mut api = apis[at % apis.len()].clone();
        if api.submit(tokio_stream::iter([part.clone()])).await.is_ok() {
            seen.samples.lock().push(Sample { began, took: began.elapsed() });
            return;
        }
        if began.elapsed() > GIVE_UP {
            seen.failed.fetch_add(1, Relaxed);
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
