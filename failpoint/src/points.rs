//! The points: one list, so that a test can go through all of them and cannot miss a new one.

macro_rules! points {
    ($($place:ident: { $($(#[$doc:meta])* $variant:ident = $name:literal,)* })*) => {
        /// A step of persistence.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point { $($($(#[$doc])* $variant,)*)* }

        impl Point {
            /// Every point.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// As it is written.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }

            /// When it is passed.
            #[must_use]
            pub const fn place(self) -> Place {
                match self { $($(Self::$variant => Place::$place,)*)* }
            }
        }
    };
}

/// What a process must be doing to pass a point: which test kills it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A member starts in an empty directory.
    FirstStart,
    /// A member starts again and takes writes, makes snapshots, purges its log.
    Load,
    /// A follower's log ends in entries that were never committed.
    Truncate,
    /// A leader sends a snapshot.
    Send,
    /// A follower is sent one.
    Receive,
    /// A whole coordinator is set up.
    Setup,
    /// A whole coordinator takes jobs and workers.
    Member,
    /// A worker's agent joins.
    Join,
    /// A worker's agent runs a task.
    Worker,
    /// A worker's agent commits a checkpoint of a task.
    Checkpoint,
    /// A shim runs one.
    Shim,
}

points! {
    FirstStart: {
        PromisedCreate = "promised.create",
        PromisedCreated = "promised.created",
        MemberWrite = "member.write",
        MemberWritten = "member.written",
        MemberRenamed = "member.renamed",
    }
    Load: {
        LogWriteBefore = "log.write.before",
        LogWriteAfter = "log.write.after",
        LogSyncBefore = "log.sync.before",
        LogSyncAfter = "log.sync.after",
        PromisedWrite = "promised.write",
        PromisedWritten = "promised.written",
        PromisedSynced = "promised.synced",
        /// Log and mark are durable, nobody has heard it.
        LogAcknowledgeBefore = "log.acknowledge.before",
        AppendBefore = "append.before",
        /// Written and queued for the sync.
        AppendAfter = "append.after",
        VoteBefore = "vote.before",
        VoteWritten = "vote.written",
        VoteSaved = "vote.saved",
        CommittedSave = "committed.save",
        PurgeBefore = "purge.before",
        PurgeStateSynced = "purge.state.synced",
        PurgeAfter = "purge.after",
        ApplyBefore = "apply.before",
        /// In memory, its rows not yet in the store.
        ApplyAfter = "apply.after",
        /// Rows are in the store, the caller has not heard it.
        ApplyReplyBefore = "apply.reply.before",
        StateOpen = "state.open",
        StateWriteBefore = "state.write.before",
        StateWriteAfter = "state.write.after",
        StateSyncBefore = "state.sync.before",
        StateSyncAfter = "state.sync.after",
        SnapshotCheckpointBefore = "snapshot.checkpoint.before",
        SnapshotCheckpointAfter = "snapshot.checkpoint.after",
    }
    Truncate: {
        TruncateBefore = "truncate.before",
        TruncateMarkLowered = "truncate.mark.lowered",
        TruncateAfter = "truncate.after",
    }
    Send: {
        SnapshotSendPart = "snapshot.send.part",
        SnapshotSendEnd = "snapshot.send.end",
    }
    Receive: {
        SnapshotReceivePart = "snapshot.receive.part",
        SnapshotReceiveEnd = "snapshot.receive.end",
        SnapshotReceiveSynced = "snapshot.receive.synced",
        InstallBefore = "snapshot.install.before",
        InstallCopied = "snapshot.install.copied",
        /// The new state has its name; from here on it is the one that counts.
        InstallDecided = "snapshot.install.decided",
        InstallOldRemoved = "snapshot.install.old.removed",
        InstallRenamed = "snapshot.install.renamed",
        InstallOpened = "snapshot.install.opened",
    }
    Setup: {
        SecretWrite = "secret.write",
        SecretWritten = "secret.written",
        SecretRenamed = "secret.renamed",
    }
    Member: {
        ProposeBefore = "propose.before",
        ProposeCommitted = "propose.committed",
        SubmitReplyBefore = "submit.reply.before",
        LeaseGrantBefore = "lease.grant.before",
        LeaseGrantAfter = "lease.grant.after",
        ResultAcceptBefore = "result.accept.before",
        ResultAcceptAfter = "result.accept.after",
        SessionRegister = "session.register",
        StorePutBefore = "store.put.before",
        StorePutAfter = "store.put.after",
    }
    Join: {
        IdentityWrite = "identity.write",
        IdentityWritten = "identity.written",
        JournalRewritten = "journal.rewritten",
        JournalRenamed = "journal.renamed",
    }
    Worker: {
        JournalAppend = "journal.append",
        JournalAppended = "journal.appended",
        /// The token is in the journal, the shim has not heard of it.
        LaunchBefore = "launch.before",
        LaunchAfter = "launch.after",
        ExitHeard = "exit.heard",
        CollectBefore = "artifact.collect.before",
        CollectAfter = "artifact.collect.after",
        BlobPutBefore = "blob.put.before",
        BlobPutAfter = "blob.put.after",
        LogUploadBefore = "log.upload.before",
        LogUploadAfter = "log.upload.after",
        /// The result is in the journal, no member has heard it.
        ResultJournaled = "result.journaled",
        ResultSent = "result.sent",
        /// The commit of the result is acknowledged, the journal still holds it.
        ResultAcknowledged = "result.acknowledged",
    }
    Checkpoint: {
        /// The files are listed, and sent from here on.
        CheckpointFiles = "checkpoint.files",
        /// The files are in the store, the manifest is not.
        CheckpointManifest = "checkpoint.manifest",
        /// All of it is in the store, no member has heard it.
        CheckpointStored = "checkpoint.stored",
        /// The log has decided on it, the task has not heard it.
        CheckpointVerdict = "checkpoint.verdict",
    }
    Shim: {
        ShimLaunchBefore = "shim.launch.before",
        ShimLaunchAfter = "shim.launch.after",
        ShimExitBefore = "shim.exit.before",
        ShimExitWrite = "shim.exit.write",
        ShimExitWritten = "shim.exit.written",
        ShimExitsCut = "shim.exits.cut",
    }
}

impl Point {
    /// The points of this place.
    pub fn of(place: Place) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |point| point.place() == place)
    }

    /// The point of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|point| point.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_there_are_enough_of_them() {
        let mut names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert!(names.len() >= 40, "{}", names.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
