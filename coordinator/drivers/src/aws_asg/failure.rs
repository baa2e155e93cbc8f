//! What AWS's refusals mean. Its words are passed on only where it has accepted who we are: a refused signature is answered with all
//! that was signed, and a session's token is among that.

use crate::DriverError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::time::Duration;

/// Longest reason, characters: an "encoded authorization failure message" has thousands.
const REASON_MAX: usize = 400;

/// Who we are is not accepted.
const UNKNOWN_CALLER: [&str; 12] = [
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];
/// We may not do this.
const FORBIDDEN: [&str; 6] = [
    "AccessDenied",
    "AccessDeniedException",
    "NotAuthorized",
    "OptInRequired",
    "UnauthorizedOperation",
    "Blocked",
];
/// Our clock or theirs.
const SKEWED: [&str; 4] =
    ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "InvalidTimestampException"];
const THROTTLED: [&str; 9] = [
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
];
/// Another change of the group is under way: its 500.
const CONTENTION: [&str; 2] = ["ResourceContention", "ResourceContentionFault"];

/// A failed call as the caller knows it; `seconds` is how long it could take.
pub fn told<E>(what: String, seconds: u64, error: SdkError<E, HttpResponse>) -> DriverError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(answer) = error.raw_response() {
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|s| s.trim().parse().ok());
        return match &error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let (code, words) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
                answered(what, status, code, words, after.map(Duration::from_secs))
            }
            _ if status >= 500 => DriverError::Unavailable { what, reason: format!("status {status}") },
            // The end of a connection in the middle of an answer looks the same as a broken one, but for the cause.
            _ if is_io(&error) => DriverError::Unavailable { what, reason: chain(&error) },
            _ => DriverError::Garbled { what, reason: short(&chain(&error)) },
        };
    }
    if let Some(credentials) = cause::<CredentialsError>(&error) {
        return without_credentials(what, credentials);
    }
    match &error {
        SdkError::TimeoutError(_) => DriverError::TimedOut { what, seconds },
        // An endpoint that is not one, a region that is not one: the next try is the same.
        SdkError::ConstructionFailure(_) => DriverError::Refused { what, reason: short(&chain(&error)) },
        _ => DriverError::Unavailable { what, reason: short(&chain(&error)) },
    }
}

/// An answer that is an error.
fn answered(what: String, status: u16, code: &str, words: &str, after: Option<Duration>) -> DriverError {
    let reason = || short(if words.is_empty() { code } else { words });
    // "Signature expired: 20260101T000000Z is now earlier than …".
    let late = words.starts_with("Signature expired") || words.contains("not yet current");
    if SKEWED.contains(&code) || (UNKNOWN_CALLER.contains(&code) && late) {
        let reason = format!("this machine's clock differs too much from the provider's ({code})");
        return DriverError::Denied { what, reason };
    }
    if UNKNOWN_CALLER.contains(&code) {
        let reason = match code {
            "ExpiredToken" | "ExpiredTokenException" => "the session has expired",
            "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature" => {
                "the secret does not belong to the key"
            }
            _ => "the key is not known",
        };
        return DriverError::Denied { what, reason: format!("{reason} ({code})") };
    }
    if FORBIDDEN.contains(&code) {
        return DriverError::Denied { what, reason: reason() };
    }
    if THROTTLED.contains(&code) || status == 429 {
        return DriverError::Throttled { what, after };
    }
    if status >= 500 || CONTENTION.contains(&code) {
        return DriverError::Unavailable { what, reason: format!("status {status}: {}", reason()) };
    }
    if words.starts_with("AutoScalingGroup name not found") {
        return DriverError::NoGroup { what };
    }
    match status {
        // Without one of AWS's own codes: somebody in between.
        401 | 403 => DriverError::Denied {
            what,
            reason: format!("status {status} {}", short(code)).trim_end().to_owned(),
        },
        _ if code.is_empty() => {
            DriverError::Garbled { what, reason: format!("status {status} without a code") }
        }
        _ => DriverError::Refused { what, reason: reason() },
    }
}

fn without_credentials(what: String, error: &CredentialsError) -> DriverError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => DriverError::Denied {
            what,
            reason: "there are no credentials in environment, files, or role of this machine".into(),
        },
        CredentialsError::ProviderTimedOut(_) => {
            DriverError::Unavailable { what, reason: "the source of the credentials does not answer".into() }
        }
        // Its causes may quote what a helper program or a file says.
        _ => DriverError::Denied { what, reason: format!("the credentials cannot be had: {error}") },
    }
}

/// It, and why, and why that.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The first cause of this type.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

fn is_io(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        error.is::<std::io::Error>() || error.to_string().contains("error reading a body from connection")
    })
}

/// All of them in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for error in causes(error) {
        let part = error.to_string();
        if !parts.iter().any(|said| said.contains(&part)) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// One line, not too long.
fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_into_what_the_caller_does_next() {
        let kind = |status, code, words| match answered("x".into(), status, code, words, None) {
            DriverError::Throttled { .. } => "throttled",
            DriverError::Unavailable { .. } => "unavailable",
            DriverError::Denied { .. } => "denied",
            DriverError::NoGroup { .. } => "no group",
            DriverError::Refused { .. } => "refused",
            DriverError::Garbled { .. } => "garbled",
            DriverError::TimedOut { .. } => "timed out",
            DriverError::Unusable { .. } => "unusable",
        };
        let table = [
            (400, "Throttling", "Rate exceeded", "throttled"),
            (503, "RequestLimitExceeded", "", "throttled"),
            (429, "", "", "throttled"),
            (500, "InternalFailure", "", "unavailable"),
            (503, "ServiceUnavailable", "", "unavailable"),
            (500, "ResourceContention", "You already have a pending update", "unavailable"),
            (403, "AccessDenied", "User: arn:aws:iam::1:user/a is not authorized", "denied"),
            (403, "ExpiredToken", "", "denied"),
            (400, "RequestExpired", "", "denied"),
            (403, "", "", "denied"),
            (400, "ValidationError", "AutoScalingGroup name not found - null", "no group"),
            (400, "ValidationError", "New SetDesiredCapacity value 9 is above max value 5", "refused"),
            (400, "ScalingActivityInProgress", "", "refused"),
            (404, "", "", "garbled"),
        ];
        for (status, code, words, wanted) in table {
            assert_eq!(kind(status, code, words), wanted, "{status} {code} {words}");
        }
    }

    #[test]
    fn a_wrong_clock_is_called_one_and_what_was_signed_stays_unsaid() {
        let late = "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z";
        for (code, words) in [("SignatureDoesNotMatch", late), ("RequestTimeTooSkewed", "")] {
            assert!(answered("x".into(), 403, code, words, None).to_string().contains("clock"), "{code}");
        }
        let words = "The Canonical String for this request should have been 'x-amz-security-token:SECRET'";
        let said = answered("x".into(), 403, "SignatureDoesNotMatch", words, None).to_string();
        assert!(!said.contains("SECRET") && said.contains("secret does not belong"), "{said}");
    }
}
