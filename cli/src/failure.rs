//! What went wrong, for people (`error:` and `hint:`) or programs (`{"error": …}`), and the exit code: SPEC section 7 in one place.

use muster_core::spec::{SpecError, SpecErrors};
use serde_json::json;

/// The exit code of a verb that did what was asked.
pub const DONE: u8 = 0;
/// Refused, not found, bad input.
pub const REFUSED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// No coordinator reachable.
pub const UNREACHABLE: u8 = 3;
/// `run`, `wait`, `submit --wait`: there is no code of the job, or Muster itself failed.
pub const NO_CODE: u8 = 125;

/// What a verb returns: its exit code, or why it has none.
pub type Done = Result<u8, Failure>;

/// Why a verb could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs, e.g. `NOT_FOUND`.
    pub code: String,
    /// What and why, without a final full stop. Empty: nothing is printed.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    pub exit: u8,
    /// Further errors of the same input.
    pub also: Vec<Failure>,
}

impl Failure {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None, exit: REFUSED, also: Vec::new() }
    }

    /// Wrong usage that clap cannot see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new("USAGE", message) }
    }

    /// An end without a word.
    pub fn silent(exit: u8) -> Self {
        Self { exit, ..Self::new("", "") }
    }

    /// A file or directory that the system refuses.
    pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new("IO", format!("cannot {what} {}: {error}", path.display()))
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// For the verbs whose exit code is the job's: whatever is not the job's own end is 125, but wrong usage and silence stay.
    #[must_use]
    pub fn without_job_code(self) -> Self {
        if self.message.is_empty() || self.exit == USAGE { self } else { self.exit(NO_CODE) }
    }

    /// Prints it and gives the exit code. A reader that went away (`| head`) is no failure.
    pub fn report(&self, json: bool) -> u8 {
        if !self.message.is_empty() {
            if json {
                let _ = crate::output::data(&self.document());
            } else {
                for failure in std::iter::once(self).chain(&self.also) {
                    crate::output::talk(&format!("error: {}", failure.message));
                    if let Some(hint) = &failure.hint {
                        crate::output::talk(&format!("hint: {hint}"));
                    }
                }
            }
        }
        self.exit
    }

    fn document(&self) -> String {
        let of =
            |failure: &Self| json!({"code": failure.code, "message": failure.message, "hint": failure.hint});
        let mut error = of(self);
        if !self.also.is_empty() {
            error["also"] = self.also.iter().map(of).collect();
        }
        serde_json::to_string_pretty(&json!({ "error": error })).unwrap_or_default()
    }
}

impl From<&SpecError> for Failure {
    fn from(error: &SpecError) -> Self {
        Self { hint: error.hint.clone(), ..Self::new(error.code.as_str(), error.to_string()) }
    }
}

impl From<SpecErrors> for Failure {
    fn from(errors: SpecErrors) -> Self {
        let mut all = errors.0.iter().map(Self::from);
        let mut first = all.next().unwrap_or_else(|| Self::new("INVALID", "the job file is not valid"));
        first.also = all.collect();
        first
    }
}

impl From<muster_proto::channel::ChannelError> for Failure {
    fn from(error: muster_proto::channel::ChannelError) -> Self {
        use muster_proto::channel::ChannelError;
        let (code, exit) = match &error {
            ChannelError::Unreachable { .. } => ("UNREACHABLE", UNREACHABLE),
            ChannelError::BadAddress { .. } => ("BAD_ADDRESS", REFUSED),
            _ => ("TLS", REFUSED),
        };
        let hint = error.hint();
        Self::new(code, error.to_string()).hint(hint).exit(exit)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let (code, exit) = match status.code() {
            Code::NotFound => ("NOT_FOUND", REFUSED),
            Code::InvalidArgument | Code::OutOfRange => ("INVALID", REFUSED),
            Code::Unauthenticated => ("UNAUTHENTICATED", REFUSED),
            Code::PermissionDenied => ("FORBIDDEN", REFUSED),
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => ("REFUSED", REFUSED),
            Code::ResourceExhausted => ("TOO_LARGE", REFUSED),
            Code::Unimplemented => ("UNSUPPORTED", REFUSED),
            Code::Unavailable | Code::DeadlineExceeded => ("UNAVAILABLE", UNREACHABLE),
            _ => ("INTERNAL", REFUSED),
        };
        let text = |name: &str| status.metadata().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let binary = |name: &str| {
            let bytes = status.metadata().get_bin(name)?.to_bytes().ok()?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        let hint = binary("muster-hint-bin").or_else(|| text("muster-hint")).or_else(|| {
            (status.code() == Code::Unauthenticated)
                .then(|| "set MUSTER_TOKEN, or choose a context with `muster context use NAME`".to_owned())
        });
        let message =
            if status.message().is_empty() { status.code().description() } else { status.message() };
        let code = text("muster-code").unwrap_or_else(|| code.to_owned());
        Self { hint, exit, ..Self::new(code, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_brings_its_own_code_and_hint() {
        let mut status = tonic::Status::not_found("job 7 does not exist");
        status.metadata_mut().insert("muster-code", "NOT_FOUND".parse().unwrap());
        status.metadata_mut().insert("muster-hint", "muster ps".parse().unwrap());
        assert_eq!(
            Failure::from(status),
            Failure::new("NOT_FOUND", "job 7 does not exist").hint("muster ps").exit(REFUSED)
        );
    }

    #[test]
    fn no_coordinator_is_three_but_125_where_the_code_is_the_jobs() {
        let gone = Failure::from(tonic::Status::unavailable("no leader"));
        assert_eq!(gone.exit, UNREACHABLE);
        assert_eq!(gone.without_job_code().exit, NO_CODE);
        assert_eq!(Failure::usage("x").without_job_code().exit, USAGE);
        assert_eq!(Failure::silent(0).without_job_code().exit, 0);
    }

    #[test]
    fn programs_read_one_object() {
        let failure = Failure::new("NOT_FOUND", "no job 7").hint("muster ps");
        let document: serde_json::Value = serde_json::from_str(&failure.document()).unwrap();
        assert_eq!(
            document,
            json!({"error": {"code": "NOT_FOUND", "message": "no job 7", "hint": "muster ps"}})
        );
    }
}
