//! What goes wrong for a caller, and the one mapping of it to a status: code and hint travel as metadata.

use crate::raft::{ProposeError, ReadError};
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
    #[error("no leader answered within 5 s: {0}")]
    NoLeader(String),
    #[error("{0}")]
    Stopped(String),
    #[error(transparent)]
    Store(#[from] StoreError),
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
            Self::Impossible { .. } => "RESOURCE_IMPOSSIBLE",
            Self::BadRequest(_) | Self::Bytes(_) => "BAD_REQUEST",
            Self::TooLarge(_) => "TOO_LARGE",
            Self::WrongBlob(_) => "WRONG_BLOB",
            Self::NoWorkdir => "WORKDIR_MISSING",
            Self::DiskFull(_) => "DISK_FULL",
            Self::NoLeader(_) => "NO_LEADER",
            Self::Stopped(_) => "UNAVAILABLE",
            Self::Store(_) => "STORE_FAILED",
            Self::History(_) => "INTERNAL",
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
            Self::Rejected(Rejection::RequestIdReused { .. }) => "use a new request id for another payload",
            Self::NoLeader(_) => "a majority of the members must be up: muster cluster status",
            Self::DiskFull(_) => {
                "free space where that member's data directory is, or grow its disk; jobs are taken again by themselves, cancel and drain work meanwhile"
            }
            Self::NoWorkdir => "submit again: what is missing is sent again",
            Self::Stopped(_) => "try another member",
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn grpc(&self) -> Code {
        match self {
            Self::Rejected(
                Rejection::NoJob(_)
                | Rejection::NoTask { .. }
                | Rejection::NoIndex { .. }
                | Rejection::NoWorker(_),
            )
            | Self::NoJob(_)
            | Self::NoTask { .. }
            | Self::NoIndex { .. }
            | Self::NoWorker(_) => Code::NotFound,
            Self::Rejected(Rejection::RequestIdReused { .. }) => Code::AlreadyExists,
            Self::Rejected(_) | Self::NoWorkdir => Code::FailedPrecondition,
            Self::Spec(_)
            | Self::Target(_)
            | Self::Impossible { .. }
            | Self::BadRequest(_)
            | Self::Bytes(_)
            | Self::TooLarge(_)
            | Self::WrongBlob(_) => Code::InvalidArgument,
            Self::DiskFull(_) => Code::ResourceExhausted,
            Self::NoLeader(_) | Self::Stopped(_) => Code::Unavailable,
            Self::Store(_) | Self::History(_) => Code::Internal,
        }
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
