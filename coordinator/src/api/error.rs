//! What goes wrong for a caller, and the one mapping of it to a status: code and hint travel as metadata.

use crate::raft::{MembershipError, ProposeError, ReadError};
use crate::store::StoreError;
use muster_core::reply::Rejection;
use muster_core::spec::SpecErrors;
use muster_proto::convert::{BadBytes, BadTarget};
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::{Code, Status};

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    Rejected(#[from] Rejection),
    #[error("{}", first(.0))]
    Spec(SpecErrors),
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error("no job {0}")]
    NoJob(u64),
    #[error("job {job} has no task {task:?}")]
    NoTask { job: u64, task: String },
    #[error("task {task:?} of job {job} has no index {index}")]
    NoIndex { job: u64, task: String, index: u32 },
    #[error("no worker {0:?}")]
    NoWorker(String),
    #[error("no device {0:?}")]
    NoDevice(String),
    #[error("the job ships a working directory, and nothing of it was sent")]
    WorkdirNotSent,
    #[error("{message}")]
    Impossible { message: String, hint: String },
    #[error("{0}")]
    BadRequest(String),
    #[error("the job file has more than {} MiB", .0 >> 20)]
    TooLarge(usize),
    #[error("blob {0} is not what its id says")]
    WrongBlob(String),
    #[error("the job's working directory is not in the store")]
    NoWorkdir,
    #[error("{0}")]
    DiskFull(String),
    #[error("no pool {name:?}; {}", listed(.known))]
    NoPool { name: String, known: Vec<String> },
    #[error("the leader has not reckoned yet what is wanted of the pools")]
    Unreckoned,
    #[error("no leader answered within 5 s: {0}")]
    NoLeader(String),
    #[error("{0}")]
    Stopped(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Member(#[from] MembershipError),
    #[error("member {member} has the address {address}")]
    AddressTaken { address: String, member: u64 },
    #[error("the cluster has {members} members; the most is {limit}")]
    GroupFull { members: usize, limit: usize },
    #[error("this cluster is not marked as staging, and a drill makes a real fault in it")]
    NotStaging,
    #[error("{0}")]
    Drill(String),
    #[error("cannot read the state for the backup: {0}")]
    Backup(std::io::Error),
    /// What the leader answered, passed on as it is.
    #[error("{}", .0.message())]
    Peer(Box<Status>),
    #[error("a message can't be read: {0}")]
    Bytes(#[from] BadBytes),
    #[error("cannot read the history: {0}")]
    History(#[from] std::io::Error),
}

fn first(errors: &SpecErrors) -> String {
    let text = errors.0.first().map(ToString::to_string).unwrap_or_default();
    match errors.0.len() {
        0 | 1 => text,
        n => format!("{text} (and {} more)", n - 1),
    }
}

fn listed(pools: &[String]) -> String {
    if pools.is_empty() { "there is none".to_owned() } else { format!("there is {}", pools.join(", ")) }
}

impl ApiError {
    /// The stable code that programs match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::Spec(errors) => errors.0.first().map_or("BAD_SPEC", |error| error.code.as_str()),
            Self::Target(_) => "BAD_TARGET",
            Self::NoJob(_) => "JOB_NOT_FOUND",
            Self::NoTask { .. } => "TASK_NOT_FOUND",
            Self::NoIndex { .. } => "INDEX_NOT_FOUND",
            Self::NoWorker(_) => "WORKER_NOT_FOUND",
            Self::NoDevice(_) => "DEVICE_NOT_FOUND",
            Self::WorkdirNotSent => "WORKDIR_MISSING",
            Self::NoPool { .. } => "POOL_NOT_FOUND",
            Self::Unreckoned => super::signals::UNRECKONED,
            Self::Impossible { .. } => "RESOURCE_IMPOSSIBLE",
            Self::BadRequest(_) | Self::Bytes(_) => "BAD_REQUEST",
            Self::TooLarge(_) => "TOO_LARGE",
            Self::WrongBlob(_) => "WRONG_BLOB",
            Self::NoWorkdir => "WORKDIR_MISSING",
            Self::DiskFull(_) => "DISK_FULL",
            Self::NoLeader(_) => "NO_LEADER",
            Self::Stopped(_) => "UNAVAILABLE",
            Self::Store(_) => "STORE_FAILED",
            Self::History(_) | Self::Backup(_) => "INTERNAL",
            Self::Member(error) => member_code(error),
            Self::AddressTaken { .. } => "ADDRESS_TAKEN",
            Self::GroupFull { .. } => "TOO_MANY_MEMBERS",
            Self::NotStaging => "NOT_STAGING",
            Self::Drill(_) => "DRILL_REFUSED",
            Self::Peer(_) => "REFUSED",
        }
    }

    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Spec(errors) => return errors.0.first().and_then(|error| error.hint.clone()),
            Self::Impossible { hint, .. } => return Some(hint.clone()),
            Self::NoJob(_) | Self::Rejected(Rejection::NoJob(_)) => "muster ps lists the jobs",
            Self::NoTask { .. } | Self::NoIndex { .. } => "muster show lists the job's tasks",
            Self::NoWorker(_) | Self::Rejected(Rejection::NoWorker(_)) => "muster workers lists the workers",
            Self::NoDevice(_) | Self::Rejected(Rejection::NoDevice(_)) => "muster gpus lists the devices",
            Self::NoPool { .. } => {
                "muster pool list lists the pools; a coordinator's file configures them: [[pool]]"
            }
            Self::Unreckoned => "ask again in a moment; until then whoever scales leaves everything as it is",
            Self::Rejected(Rejection::WorkerInUse { .. }) => {
                "drain it first and wait until nothing runs there: muster worker drain ID"
            }
            Self::Rejected(Rejection::RequestIdReused { .. }) => "use a new request id for another payload",
            Self::NoLeader(_) => "a majority of the members must be up: muster cluster status",
            Self::DiskFull(_) => {
                "free space where that member's data directory is, or grow its disk; jobs are taken again by themselves, cancel and drain work meanwhile"
            }
            Self::NotStaging => {
                "confirm it with --yes, or give the members of a cluster that is there for exercises `cluster.staging = true`"
            }
            Self::WorkdirNotSent => "`muster submit` sends it; or leave `workdir` out",
            Self::NoWorkdir => "submit again: what is missing is sent again",
            Self::Stopped(_) => "try another member",
            Self::Member(error) => return error.hint().map(str::to_owned),
            Self::AddressTaken { member, .. } => {
                return Some(format!(
                    "is that member's data directory lost, and this is to take its place? --replace {member}"
                ));
            }
            Self::GroupFull { .. } => "take one out first: muster cluster remove ID",
            Self::Rejected(Rejection::TooManyAdmissions { .. }) => {
                "`muster cluster status` shows them as learners; take out those that will not come: muster cluster remove ID"
            }
            Self::Rejected(Rejection::ReplacedAlready { .. }) => {
                "wait until that one votes, or take it out: muster cluster remove ID"
            }
            Self::Rejected(Rejection::BudgetExceeded { .. }) => {
                "`muster budget show` says how far each has got; ask for less, or raise it: muster budget set"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the same call may go through a moment later, or at another member.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self.grpc(), Code::Unavailable | Code::Unknown | Code::Cancelled)
    }

    pub(super) fn grpc(&self) -> Code {
        match self {
            Self::Rejected(
                Rejection::NoJob(_)
                | Rejection::NoTask { .. }
                | Rejection::NoIndex { .. }
                | Rejection::NoWorker(_)
                | Rejection::NoDevice(_),
            )
            | Self::NoJob(_)
            | Self::NoTask { .. }
            | Self::NoIndex { .. }
            | Self::NoWorker(_)
            | Self::NoDevice(_)
            | Self::NoPool { .. }
            | Self::Member(MembershipError::NotAMember { .. }) => Code::NotFound,
            Self::Rejected(Rejection::RequestIdReused { .. }) => Code::AlreadyExists,
            Self::Rejected(_) | Self::NoWorkdir => Code::FailedPrecondition,
            Self::Spec(_)
            | Self::Target(_)
            | Self::Impossible { .. }
            | Self::WorkdirNotSent
            | Self::BadRequest(_)
            | Self::Bytes(_)
            | Self::TooLarge(_)
            | Self::WrongBlob(_) => Code::InvalidArgument,
            Self::NoLeader(_)
            | Self::Unreckoned
            | Self::Stopped(_)
            | Self::Member(MembershipError::NotLeader { .. } | MembershipError::Fatal { .. }) => {
                Code::Unavailable
            }
            Self::Member(_)
            | Self::AddressTaken { .. }
            | Self::GroupFull { .. }
            | Self::NotStaging
            | Self::Drill(_) => Code::FailedPrecondition,
            Self::Peer(status) => status.code(),
            Self::Store(_) | Self::History(_) | Self::Backup(_) => Code::Internal,
            Self::DiskFull(_) => Code::ResourceExhausted,
        }
    }
}

fn member_code(error: &MembershipError) -> &'static str {
    match error {
        MembershipError::NotLeader { .. } => "NO_LEADER",
        MembershipError::Bootstrapped => "BOOTSTRAPPED",
        MembershipError::NotAMember { .. } => "MEMBER_NOT_FOUND",
        MembershipError::LastVoter { .. } => "LAST_MEMBER",
        MembershipError::LosesMajority { .. } => "WOULD_LOSE_MAJORITY",
        MembershipError::NoSpare { .. } => "NO_SPARE_MEMBER",
        MembershipError::Leads { .. } => "MEMBER_LEADS",
        MembershipError::NoVote { .. } => "MEMBER_IS_LEARNER",
        MembershipError::Silent { .. } => "MEMBER_SILENT",
        MembershipError::NobodyElse => "NOBODY_ELSE",
        MembershipError::Behind { .. } => "MEMBER_BEHIND",
        MembershipError::NotTaken { .. } => "NOT_TAKEN",
        MembershipError::Refused { .. } => "REFUSED",
        MembershipError::Fatal { .. } => "UNAVAILABLE",
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Fatal { reason } => Self::Stopped(reason),
            error => Self::NoLeader(error.to_string()),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::TooLarge { .. } | ProposeError::Encode(_) => Self::BadRequest(error.to_string()),
            ProposeError::Fatal { reason } => Self::Stopped(reason),
            error => Self::NoLeader(error.to_string()),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        if let ApiError::Peer(status) = error {
            return *status;
        }
        let mut status = Self::new(error.grpc(), error.to_string());
        let metadata = status.metadata_mut();
        metadata.insert("muster-code", MetadataValue::from_static(error.code()));
        if let Some(hint) = error.hint() {
            // Some parsers take any byte for a header, some proxies none beyond ASCII: what is not plain travels as binary.
            let plain = hint.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            match hint.parse() {
                Ok(ascii) if plain => drop(metadata.insert("muster-hint", ascii)),
                _ => drop(
                    metadata.insert_bin("muster-hint-bin", BinaryMetadataValue::from_bytes(hint.as_bytes())),
                ),
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_hint_travel_beside_the_message() {
        let status =
            Status::from(ApiError::Impossible { message: "m".into(), hint: "set workers: 2".into() });
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "m"));
        assert_eq!(status.metadata().get("muster-code").expect("code"), "RESOURCE_IMPOSSIBLE");
        assert_eq!(status.metadata().get("muster-hint").expect("hint"), "set workers: 2");
        let status = Status::from(ApiError::Impossible { message: "m".into(), hint: "größer".into() });
        assert_eq!(
            status.metadata().get_bin("muster-hint-bin").expect("hint").to_bytes().expect("bytes"),
            "größer".as_bytes()
        );
        assert_eq!(Status::from(ApiError::NoJob(7)).code(), Code::NotFound);
    }
}
