//! Notices that this machine goes: from the clouds' metadata services, systemd, a file, and SIGTERM. Each source runs on its own and
//! survives everything that it is told; what they say is merged into one notice for the agent, whose part is everything that follows.

mod aws;
mod azure;
mod config;
mod file;
mod gcp;
mod http;
mod merge;
mod mouth;
mod pick;
mod systemd;
mod which;

pub use config::{NoticeConfig, NoticeError, Rebalance};
pub use pick::sources;
pub use which::{Which, ZONE_LABEL};

use azure::Azure;
use merge::{Said, Standing, Standings};
use mouth::Mouth;
use muster_core::model::notice::{Notice, NoticeKind, NoticeSource};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often each source is asked, and how long it is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long an answer may take, all of it.
    pub answer: Duration,
    /// As AWS itself advises.
    pub aws: Duration,
    /// Least time between two questions where the server does not wait.
    pub gcp: Duration,
    /// How long a question waits there for a change.
    pub gcp_hang: Duration,
    pub azure: Duration,
    /// The first question switches the service on, which may take it two minutes.
    pub azure_first: Duration,
    pub file: Duration,
    /// Until a lost or absent bus is looked for again.
    pub systemd: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: http::ANSWER_TIMEOUT,
            aws: Duration::from_secs(5),
            gcp: Duration::from_secs(1),
            gcp_hang: Duration::from_secs(60),
            azure: Duration::from_secs(1),
            azure_first: Duration::from_secs(180),
            file: Duration::from_millis(500),
            systemd: Duration::from_secs(30),
        }
    }
}

/// The sources of one worker. They end with it.
#[derive(Debug)]
pub struct Notices {
    worker: String,
    said: UnboundedReceiver<Said>,
    standings: Standings,
    evicted: watch::Sender<bool>,
    _sources: JoinSet<()>,
}

impl Notices {
    /// Starts the sources of the worker of this name.
    ///
    /// # Errors
    /// An endpoint that is none; nothing is asked yet.
    pub fn start(config: &NoticeConfig, worker: &str, pace: Pace) -> Result<Self, NoticeError> {
        Self::start_on(config, worker, pace, None)
    }

    /// The same with another bus than the system's.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(
        config: &NoticeConfig,
        worker: &str,
        pace: Pace,
        bus: Option<String>,
    ) -> Result<Self, NoticeError> {
        let (out, said) = unbounded_channel();
        let (evicted, heard) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let endpoint = |key, text: &str| {
            config::endpoint(text, worker).map_err(|source| NoticeError::Endpoint { key, source })
        };
        for source in sources(config) {
            let mouth = Mouth::new(source, out.clone());
            match source {
                NoticeSource::Aws => {
                    let at = endpoint("aws_endpoint", &config.aws_endpoint)?;
                    tasks.spawn(aws::watch(at, config.rebalance, pace, mouth));
                }
                NoticeSource::Gcp => {
                    let at = endpoint("gcp_endpoint", &config.gcp_endpoint)?;
                    let notice = Duration::from_millis(config.gcp_notice.get());
                    tasks.spawn(gcp::watch(at, notice, pace, mouth));
                }
                NoticeSource::Azure => {
                    let endpoint = endpoint("azure_endpoint", &config.azure_endpoint)?;
                    let (acknowledge, evicted) = (config.azure_acknowledge, heard.clone());
                    tasks.spawn(azure::watch(Azure { endpoint, acknowledge, evicted }, pace, mouth));
                }
                NoticeSource::Systemd => {
                    tasks.spawn(systemd::watch(bus.clone(), heard.clone(), pace, mouth));
                }
                NoticeSource::File => {
                    let path = config.file.as_deref().ok_or(NoticeError::NoFile)?;
                    tasks.spawn(file::watch(config::file(path, worker), pace, mouth));
                }
                // The signal reaches the process, which says so by `sigterm`.
                NoticeSource::Sigterm => {}
                NoticeSource::Operator => return Err(NoticeError::Operator),
            }
        }
        Ok(Self {
            worker: worker.to_owned(),
            said,
            standings: Standings::default(),
            evicted,
            _sources: tasks,
        })
    }

    /// The next notice that differs from the last. Without sources it never comes. Nothing is lost where the wait is given up.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some(said) = self.said.recv().await else { return std::future::pending().await };
            if let Some(notice) = self.take(said) {
                return notice;
            }
        }
    }

    /// The agent was told to end by a signal: its machine goes at an unknown time.
    pub fn sigterm(&mut self) -> Option<Notice> {
        let standing = Some(Standing::preemption(None, "the agent was told to end"));
        self.take(Said { source: NoticeSource::Sigterm, part: String::new(), standing })
    }

    fn take(&mut self, said: Said) -> Option<Notice> {
        let notice = self.standings.said(said, Instant::now())?;
        let text = match notice.kind {
            NoticeKind::Preemption => "preemption notice: this machine goes",
            NoticeKind::Advice => "this machine may go: nothing new is placed on it",
            NoticeKind::Withdrawn => "the notice is withdrawn: this machine stays",
        };
        tracing::warn!(
            worker = self.worker,
            source = notice.source.as_str(),
            in_ms = notice.in_ms,
            detail = notice.detail,
            "{text}"
        );
        // Nobody has heard of this one.
        self.evicted(false);
        Some(notice)
    }

    /// Whether the leader knows of the notice and nothing runs here any more: whoever waits for that need not.
    pub fn evicted(&self, evicted: bool) {
        self.evicted.send_if_modified(|was| std::mem::replace(was, evicted) != evicted);
    }
}
