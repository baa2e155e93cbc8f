//! Why the store failed, told apart by what the caller may do about it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Each names the object, the directory or the URL; none has a credential in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {reason}", no_store(.url))]
    BadUrl { url: String, reason: String },
    #[error("cannot make the store's directory {path}: {source}")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("the store {url} cannot be used: {source}")]
    Probe { url: String, source: Box<StoreError> },
    /// It was reached, and the object is not there.
    #[error("the store has no {key}")]
    Missing { key: String },
    /// The object is there, and is another one than was asked for.
    #[error("{key} in the store is damaged: {reason}")]
    Damaged { key: String, reason: String },
    /// A file to be sent is not as long as was said.
    #[error("what was to become {key} changed while it was read: it no longer has {bytes} bytes")]
    Changed { key: String, bytes: u64 },
    /// No credentials, wrong ones, or too few rights. Trying again alone does not help.
    #[error("the store refused {key}: {reason}")]
    Denied { key: String, reason: String },
    #[error("the store has no room for {key}: {reason}")]
    Full { key: String, reason: String },
    /// Nothing is known about the object. Trying again later may help.
    #[error("the store cannot be reached for {key}: {reason}")]
    Unreachable { key: String, reason: String },
    /// This machine's own disk.
    #[error("cannot {what} {path}: {source}")]
    Local { what: &'static str, path: PathBuf, source: io::Error },
}

fn no_store(url: &str) -> String {
    if url.is_empty() { "the store's URL is not usable".to_owned() } else { format!("{url:?} is no store") }
}

impl StoreError {
    /// The next step, for people; empty when there is none to name.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "set store.url, for example file:///shared/muster or s3://bucket/prefix",
            Self::Unusable { .. } => "store.url must be a directory that this machine can write",
            Self::Probe { source, .. } => source.hint(),
            Self::Denied { .. } => {
                "give this machine credentials that may read, write, list and delete below store.url: for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the instance's role, and the right store.region"
            }
            Self::Full { .. } => "make room where store.url points to",
            Self::Unreachable { .. } => {
                "check store.url and store.endpoint, and that this machine reaches the store"
            }
            Self::Changed { .. } => {
                "write to a temporary name and rename, or wait until nothing writes there"
            }
            Self::Missing { .. } | Self::Damaged { .. } | Self::Local { .. } => "",
        }
    }

    /// The object is lost for good, as far as the store says: not there, or with other bytes.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Damaged { .. })
    }

    /// Trying again later may help, without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Probe { source, .. } => source.is_passing(),
            _ => false,
        }
    }

    pub(crate) fn bad_url(url: &str, reason: &str) -> Self {
        Self::BadUrl { url: url.to_owned(), reason: reason.to_owned() }
    }

    pub(crate) fn unreachable(key: &str, reason: impl Into<String>) -> Self {
        Self::Unreachable { key: key.to_owned(), reason: reason.into() }
    }

    pub(crate) fn too_slow(key: &str, within: Duration) -> Self {
        Self::unreachable(key, format!("no answer within {} s", within.as_secs()))
    }

    pub(crate) fn damaged(key: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { key: key.to_owned(), reason: reason.into() }
    }

    pub(crate) fn local(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Local { what, path, source }
    }

    /// What the disk of a `file://` store says.
    pub(crate) fn of_disk(key: &str, error: &io::Error) -> Self {
        let (key, reason) = (key.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { key },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { key, reason },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { key, reason }
            }
            _ => Self::Unreachable { key, reason },
        }
    }

    /// What the client says.
    pub(crate) fn of(key: &str, error: &object_store::Error) -> Self {
        use object_store::Error as Said;
        let (key, reason) = (key.to_owned(), reason(error));
        match error {
            // Also said when the bucket is not there: then nothing is known about the object.
            Said::NotFound { .. } if names(&reason, NO_BUCKET) => Self::Unreachable { key, reason },
            Said::NotFound { .. } => Self::Missing { key },
            Said::PermissionDenied { .. } | Said::Unauthenticated { .. } => Self::Denied { key, reason },
            _ => match chain(error).find_map(|error| error.downcast_ref::<io::Error>()) {
                Some(disk)
                    if !matches!(
                        Self::of_disk(&key, disk),
                        Self::Unreachable { .. } | Self::Missing { .. }
                    ) =>
                {
                    Self::of_disk(&key, disk)
                }
                _ if names(&reason, NO_ROOM) => Self::Full { key, reason },
                // Where there are no credentials, the instance's own are asked for, and there is no such instance.
                _ if names(&reason, NO_RIGHTS) || names(&error.to_string(), METADATA) => {
                    Self::Denied { key, reason }
                }
                _ => Self::Unreachable { key, reason },
            },
        }
    }
}

/// Codes of S3, Google and Azure, in that order.
const NO_BUCKET: &[&str] = &["NoSuchBucket", "The specified bucket does not exist", "ContainerNotFound"];
const NO_ROOM: &[&str] =
    &["507 Insufficient Storage", "QuotaExceeded", "StorageFull", "insufficient storage"];
/// Refusals that are no 401 or 403; a redirect without an address is a wrong region.
const NO_RIGHTS: &[&str] = &[
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
    "redirect without LOCATION",
    "PermanentRedirect",
];
/// Where instances ask for their credentials.
const METADATA: &[&str] = &["169.254.169.254", "169.254.170.2", "metadata.google.internal"];

fn names(text: &str, any: &[&str]) -> bool {
    any.iter().any(|code| text.contains(code))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// The innermost message: the outer ones repeat it, with addresses and counts of retries. Of an XML answer its code and message.
fn reason(error: &(dyn Error + 'static)) -> String {
    const CHARS_MAX: usize = 300;
    let last = chain(error).last().map(ToString::to_string).unwrap_or_default();
    let last = last
        .replace("Server returned non-2xx status code: ", "")
        .replace("Server returned error response: ", "");
    let tag = |name: &str| {
        let (_, rest) = last.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
    };
    let status = last.split_once(": ").map_or("", |(status, _)| status);
    let text = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{status}: {code}: {message}"),
        (Some(code), None) => format!("{status}: {code}"),
        _ => last.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(": ").to_owned(),
    };
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.trim_end_matches(':').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::Error as Said;

    fn generic(text: &str) -> Said {
        Said::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn missing(text: &str) -> Said {
        Said::NotFound { path: "k".to_owned(), source: text.to_owned().into() }
    }

    #[test]
    fn gone_refused_full_and_unreachable_are_told_apart() {
        let of = |error: Said| StoreError::of("k", &error);
        assert!(matches!(of(missing("404 Not Found: <Code>NoSuchKey</Code>")), StoreError::Missing { .. }));
        let no_bucket = of(missing("404 Not Found: <Code>NoSuchBucket</Code>"));
        assert!(matches!(no_bucket, StoreError::Unreachable { .. }), "{no_bucket}");
        let full = of(Said::Generic { store: "L", source: Box::new(io::Error::from_raw_os_error(28)) });
        assert!(matches!(full, StoreError::Full { .. }), "{full}");
        let refused =
            of(generic("400 Bad Request: <Code>ExpiredToken</Code><Message>It has expired</Message>"));
        let text = "the store refused k: 400 Bad Request: ExpiredToken: It has expired";
        assert_eq!(refused.to_string(), text);
        let nobody = generic("Error performing PUT http://169.254.169.254/latest/api/token: timed out");
        assert!(matches!(of(nobody), StoreError::Denied { .. }));
        let busy = of(generic("Server returned non-2xx status code: 503 Service Unavailable: "));
        assert_eq!(busy.to_string(), "the store cannot be reached for k: 503 Service Unavailable");
        assert!(busy.is_passing() && !busy.is_lost());
    }

    #[test]
    fn a_long_answer_is_cut() {
        let said = StoreError::of("k", &generic(&"é".repeat(1_000))).to_string();
        assert!(said.ends_with('…') && said.chars().count() < 400, "{said}");
    }
}
