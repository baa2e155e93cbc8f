//! `[log]`: what a daemon says of itself on stderr.

use super::seldom::Seldom;
use muster_coordinator::raft::LOG_TARGET;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error warn info debug trace`, or directives such as `info,muster_worker=debug`. Default: `info`.
    pub level: Option<String>,
}

/// Starts logging to stderr; a second start in one process changes nothing.
pub fn start(level: Option<&str>, default: &str) {
    let filter = EnvFilter::try_new(level.unwrap_or(default)).unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .event_format(Seldom::new(tracing_subscriber::fmt::format(), LOG_TARGET))
        .try_init();
}
