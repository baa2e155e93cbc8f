//! What goes wrong for a caller of REST: an RFC 9457 problem document, and the one mapping of [`ApiError`] to it.

use super::super::error::ApiError;
use crate::security::TokenError;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use muster_core::spec::{SpecCode, SpecErrors};
use schemars::JsonSchema;
use serde::Serialize;
use tonic::Code;

/// The content type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// When to try again what no leader answered, seconds: an election takes about one.
const RETRY_SOON: u16 = 1;
/// When to try again what a full disk refused, seconds: somebody has to make room.
const RETRY_LATER: u16 = 30;

/// Why a call was refused, or failed (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemDoc {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The phrase of the status.
    pub title: String,
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// What went wrong, and why.
    pub detail: String,
    /// A stable word for programs, e.g. `JOB_NOT_FOUND`.
    pub code: String,
    /// The next step, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Everything that is wrong with a job file, the first of it in `detail`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FaultDoc>,
}

/// One fault of a job file.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Fault")]
pub struct FaultDoc {
    /// A stable word for programs, e.g. `UNKNOWN_FIELD`.
    pub code: String,
    pub message: String,
    /// The path of the field, e.g. `tasks.train.needs[0]`.
    pub field: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    pub hint: Option<String>,
}

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    doc: Box<ProblemDoc>,
    /// When to try again, seconds.
    retry: Option<u16>,
}

impl Problem {
    /// A problem that is no [`ApiError`]: what HTTP itself can get wrong.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let doc = ProblemDoc {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Unknown").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            hint: None,
            errors: Vec::new(),
        };
        Self { status, doc: Box::new(doc), retry: None }
    }

    /// 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.doc.hint = Some(hint.into());
        self
    }

    /// The document.
    #[cfg(test)]
    pub fn doc(&self) -> &ProblemDoc {
        &self.doc
    }
}

/// A file that is no JSON, YAML or TOML is a bad request; one that can be read and makes no sense can't be processed.
fn status_of_spec(errors: &SpecErrors) -> StatusCode {
    match errors.0.first().map(|error| error.code) {
        Some(SpecCode::NotUtf8 | SpecCode::Syntax) => StatusCode::BAD_REQUEST,
        Some(SpecCode::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn status_of_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn status(error: &ApiError) -> StatusCode {
    match error {
        ApiError::Spec(errors) => status_of_spec(errors),
        ApiError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        ApiError::Impossible { .. } | ApiError::WorkdirNotSent | ApiError::NoWorkdir => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        error => status_of_code(error.grpc()),
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let status = status(&error);
        let mut problem = Self::new(status, error.code(), error.to_string());
        problem.doc.hint = error.hint();
        if let ApiError::Spec(errors) = &error {
            problem.doc.errors = errors.0.iter().map(fault).collect();
        }
        problem.retry = match &error {
            ApiError::DiskFull(_) => Some(RETRY_LATER),
            _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_SOON),
        };
        problem
    }
}

fn fault(error: &muster_core::spec::SpecError) -> FaultDoc {
    FaultDoc {
        code: error.code.as_str().to_owned(),
        message: error.message.clone(),
        field: error.field.clone(),
        line: error.line,
        hint: error.hint.clone(),
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", error.to_string())
            .hint("send the token of a user: Authorization: Bearer TOKEN; the command line keeps it in contexts.toml")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Plain data: it can always be written.
        let json = serde_json::to_vec(&self.doc).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(retry) = self.retry {
            headers.insert(RETRY_AFTER, retry.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"muster\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::ids::JobId;
    use muster_core::reply::Rejection;
    use muster_core::spec::SpecError;

    fn doc(error: ApiError) -> (u16, String, Option<String>) {
        let problem = Problem::from(error);
        (problem.doc.status, problem.doc.code.clone(), problem.doc.hint.clone())
    }

    #[test]
    fn each_kind_of_error_has_its_status() {
        let wrong = Rejection::WrongState { job: JobId(1), state: "failed".into(), verb: "held".into() };
        let spec = |code| ApiError::Spec(SpecErrors(vec![SpecError::new(code, "m")]));
        for (error, status, code) in [
            (ApiError::NoJob(7), 404, "JOB_NOT_FOUND"),
            (ApiError::Rejected(Rejection::NoJob(JobId(7))), 404, "JOB_NOT_FOUND"),
            (ApiError::Rejected(wrong), 409, "WRONG_STATE"),
            (ApiError::Rejected(Rejection::RequestIdReused { id: "a".into() }), 409, "REQUEST_ID_REUSED"),
            (ApiError::BadRequest("m".into()), 400, "BAD_REQUEST"),
            (spec(SpecCode::Syntax), 400, "SYNTAX"),
            (spec(SpecCode::Cycle), 422, "CYCLE"),
            (ApiError::TooLarge(1 << 20), 413, "TOO_LARGE"),
            (ApiError::NoLeader("m".into()), 503, "NO_LEADER"),
            (ApiError::DiskFull("m".into()), 503, "DISK_FULL"),
            (ApiError::History(std::io::Error::other("m")), 500, "INTERNAL"),
        ] {
            let (is, word, _) = doc(error);
            assert_eq!((is, word.as_str()), (status, code));
        }
    }

    #[test]
    fn a_job_file_with_two_faults_names_both_and_hints_at_the_first() {
        let errors = SpecErrors(vec![
            SpecError::at(SpecCode::UnknownField, "tasks.a.cpu", "unknown key")
                .hint("did you mean \"cpus\"?"),
            SpecError::new(SpecCode::Cycle, "a → b → a"),
        ]);
        let problem = Problem::from(ApiError::Spec(errors));
        let doc = problem.doc();
        assert_eq!((doc.status, doc.title.as_str()), (422, "Unprocessable Entity"));
        assert_eq!(doc.hint.as_deref(), Some("did you mean \"cpus\"?"));
        let fields: Vec<_> =
            doc.errors.iter().map(|fault| (fault.code.as_str(), fault.field.as_deref())).collect();
        assert_eq!(fields, [("UNKNOWN_FIELD", Some("tasks.a.cpu")), ("CYCLE", None)]);
    }

    #[test]
    fn headers_say_when_to_come_back_and_how_to_authenticate() {
        let response = Problem::from(ApiError::NoLeader("m".into())).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        let response = Problem::from(TokenError::Missing).into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer realm=\"muster\"");
        assert!(response.headers().get(RETRY_AFTER).is_none());
    }
}
