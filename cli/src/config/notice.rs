//! `[notice]`: the keys of a worker's sources of preemption notices, which `muster dev` takes too.

use super::layers::{Key, Kind};
use muster_worker::notice::NoticeConfig;
use serde::Deserialize;

/// Every key, for environment and flags.
pub const KEYS: [Key; 8] = [
    Key::new("notice", "sources", Kind::List),
    Key::new("notice", "aws_endpoint", Kind::Text),
    Key::new("notice", "gcp_endpoint", Kind::Text),
    Key::new("notice", "azure_endpoint", Kind::Text),
    Key::new("notice", "file", Kind::Text),
    Key::new("notice", "rebalance", Kind::Text),
    Key::new("notice", "gcp_notice", Kind::Text),
    Key::new("notice", "azure_acknowledge", Kind::Switch),
];

/// What `muster dev` takes of a worker's settings.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoticeSection {
    pub notice: NoticeConfig,
}
