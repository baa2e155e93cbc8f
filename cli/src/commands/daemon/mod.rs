//! The processes that stay: members, workers, and both together. What they share: a runtime, open files, signals.

pub mod coordinator;
pub mod death;
pub mod dev;
mod notice;
pub mod worker;

use crate::failure::{Done, Failure};
use crate::output;
use muster_coordinator::StartError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Options of both daemons that are no settings.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration, a TOML file; flags and MUSTER_<SECTION>_<KEY> variables come over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Say whether the configuration is sound, and end.
    #[arg(long)]
    pub check_config: bool,
}

/// Certificates, as flags.
#[derive(Debug, clap::Args)]
pub struct TlsArgs {
    /// The authority that signed the peers' certificates, PEM.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<String>,
    /// The certificate of this daemon, PEM.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or directives.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// A flag as the layers take it: section, key, texts.
pub type Flag = (&'static str, &'static str, Vec<String>);

impl TlsArgs {
    fn flags(&self) -> [Flag; 4] {
        [
            ("tls", "ca", self.tls_ca.clone().into_iter().collect()),
            ("tls", "certificate", self.tls_certificate.clone().into_iter().collect()),
            ("tls", "key", self.tls_key.clone().into_iter().collect()),
            ("log", "level", self.log_level.clone().into_iter().collect()),
        ]
    }
}

/// The store, as flags.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    /// Where blobs, artifacts, checkpoints and logs lie, reachable by all members and workers: file:///path,
    /// s3://bucket/prefix, gs://bucket/prefix or az://container/prefix [default: what the cluster says; of a new one
    /// DIR/store, for one machine only].
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// Where a store answers that is not the cloud's own, e.g. http://10.0.0.9:9000. Needs --store-url.
    #[arg(long, value_name = "URL")]
    store_endpoint: Option<String>,
    /// The region of an S3 bucket [default: AWS_REGION, AWS_DEFAULT_REGION, else us-east-1].
    #[arg(long, value_name = "NAME")]
    store_region: Option<String>,
    /// Of S3: whether the bucket is in the path (true) or in the host's name (false) [default: true].
    #[arg(long, value_name = "BOOL")]
    store_path_style: Option<bool>,
}

impl StoreArgs {
    fn flags(&self) -> [Flag; 4] {
        let path_style = self.store_path_style.map(|known| known.to_string());
        [
            ("store", "url", self.store_url.clone().into_iter().collect()),
            ("store", "endpoint", self.store_endpoint.clone().into_iter().collect()),
            ("store", "region", self.store_region.clone().into_iter().collect()),
            ("store", "path_style", path_style.into_iter().collect()),
        ]
    }
}

/// Runs a daemon on all cores.
///
/// # Errors
/// The daemon's own; a machine without threads.
pub fn block_on(daemon: impl Future<Output = Done>) -> Done {
    return_memory();
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Databases and connections want more files than the usual 1,024.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 16).max(soft), hard);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("IO", format!("cannot start threads: {error}")))?;
    let done = runtime.block_on(daemon);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// Makes glibc give back what a large submission took. By default it grows the size from which a block is its own mapping, and
/// keeps an arena a thread: `muster bench submit --running` held 72 MiB instead of 55.
/// Source: mallopt(3).
#[cfg(target_env = "gnu")]
fn return_memory() {
    for (parameter, value) in
        [(libc::M_MMAP_THRESHOLD, 128 << 10), (libc::M_TRIM_THRESHOLD, 1 << 20), (libc::M_ARENA_MAX, 2)]
    {
        // SAFETY: called before the daemon's first thread; mallopt takes plain numbers and cannot fail harmfully.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

#[cfg(not(target_env = "gnu"))]
fn return_memory() {}

/// Says what is odd about settings.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        output::talk(&format!("warning: {warning}"));
    }
}

/// Which signal ended the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Interrupt,
    Terminate,
}

/// Waits for SIGINT or SIGTERM.
pub async fn ending() -> Ending {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Ending::Interrupt,
        _ = terminate.recv() => Ending::Terminate,
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let hint = error.hint().to_owned();
        let code = if matches!(error, StartError::Removed { .. }) { "MEMBER_REMOVED" } else { "NO_START" };
        Self::new(code, chain(&error)).hint(hint)
    }
}

/// An error and its sources, each once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
