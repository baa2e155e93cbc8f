//! What a member needs to know to start, and the house's timing.

use std::path::PathBuf;
use std::time::Duration;

use muster_proto::channel::Tls;
use openraft::SnapshotPolicy;

use crate::raft::elections::Timing;

/// What a member needs to know to start.
#[derive(Clone)]
pub struct Config {
    /// The data directory of the member; `log/`, `state/`, `promised` and `member.toml` lie in it.
    pub dir: PathBuf,
    /// The cluster's id. A directory of another cluster is refused.
    pub cluster: String,
    /// The member's id, from 1, never used twice.
    pub member: u64,
    /// What members show each other.
    pub secret: String,
    /// Certificates for the calls to other members.
    pub tls: Option<Tls>,
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// A follower that hears nothing asks for votes after a time drawn from this range.
    pub election: (Duration, Duration),
    /// A snapshot is made after so many entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, so that a follower that lags a little needs none.
    pub keep_entries: u64,
}

impl Config {
    /// A configuration with the house's timing: heartbeat 150 ms, election 1,100 to 1,500 ms, a snapshot every 20,000 entries.
    ///
    /// Seven heartbeats may be lost or late before anybody stands, which a loaded machine needs; heartbeats wait for no disk. Two
    /// followers draw from 400 ms, many times what a vote and its sync take, so that they seldom stand together.
    #[must_use]
    pub fn new(
        dir: impl Into<PathBuf>,
        cluster: impl Into<String>,
        member: u64,
        secret: impl Into<String>,
    ) -> Self {
        Self {
            dir: dir.into(),
            cluster: cluster.into(),
            member,
            secret: secret.into(),
            tls: None,
            heartbeat: Duration::from_millis(150),
            election: (Duration::from_millis(1100), Duration::from_millis(1500)),
            snapshot_entries: 20_000,
            keep_entries: 5_000,
        }
    }

    /// When this member stands. After an election that was not won it draws from the width of the range to twice that.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let width = self.election.1.saturating_sub(self.election.0);
        Timing { first: self.election, again: (width, 2 * width) }
    }

    /// openraft elects nobody by itself, see [`crate::raft::elections`]. Its longest timeout is the leader's lease, in which nobody gives
    /// a vote: it is over before anybody stands, by more than two members hear the same heartbeat apart. Its shortest one is the limit of
    /// a vote's answer.
    pub(in crate::raft) fn raft(&self) -> openraft::Config {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let election_timeout_max = millis(self.election.0) * 4 / 5;
        let election_timeout_min = election_timeout_max * 49 / 50;
        openraft::Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min,
            election_timeout_max,
            enable_elect: false,
            // A part of a snapshot that is not taken for this long, not the whole.
            install_snapshot_timeout: 10_000,
            snapshot_max_chunk_size: crate::raft::snapshot::PART_BYTES as u64,
            max_payload_entries: 1_024,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            replication_lag_threshold: self.snapshot_entries.saturating_mul(2),
            max_in_snapshot_log_to_keep: self.keep_entries,
            // Purging syncs the state: in batches.
            purge_batch_size: self.keep_entries.clamp(1, 1_024),
            enable_pre_vote: Some(true),
            // A leader that lost power may have lost entries that its followers hold: were it to lead on in the same term, it
            // would write others under the same log ids. It must be elected again. (Found by seed 63 of tests/sim.rs.)
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ...500ms".to_owned(),
            ..openraft::Config::default()
        }
    }
}
