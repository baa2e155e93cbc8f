//! What a member needs to know to start, and the house's timing.

use std::path::PathBuf;
use std::time::Duration;

use muster_proto::channel::Tls;
use openraft::SnapshotPolicy;

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
    /// A follower that hears nothing asks for votes after a time drawn from this range. What openraft takes is something else: see `raft`.
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

    /// In openraft a follower first lets the leader's lease pass, which is `election_timeout_max`, and only then the time that it drew:
    /// it stands after `max + min` to `2 × max`. Our range handed over as it is would be 2.4 to 3 s without a leader.
    pub(in crate::raft) fn raft(&self) -> openraft::Config {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let election_timeout_max = millis(self.election.1) / 2;
        let election_timeout_min = millis(self.election.0).saturating_sub(election_timeout_max);
        openraft::Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min,
            election_timeout_max,
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
