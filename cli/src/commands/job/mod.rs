//! Verbs about jobs.

pub mod cancel;
pub mod explain;
pub mod graph;
pub mod hold;
pub mod logs;
pub mod ps;
pub mod release;
pub mod rerun;
pub mod run;
pub mod show;
pub mod submit;
pub mod validate;
pub mod wait;

use crate::client::Client;
use crate::failure::{Failure, NO_CODE};
use muster_core::view_doc::JobDoc;
use muster_proto::api::GetRequest;

/// The document of one job.
///
/// # Errors
/// No such job; nothing reachable.
pub async fn get(client: &mut Client, job: u64) -> Result<(String, JobDoc), Failure> {
    client.document(async |api| api.get_job(GetRequest { id: job.to_string() }).await).await
}

/// The exit code that a cause stands for (SPEC section 7).
#[must_use]
pub fn code_of_cause(cause: &str) -> u8 {
    let number = |prefix: &str| cause.strip_prefix(prefix)?.strip_suffix(')')?.parse::<i32>().ok();
    if let Some(code) = number("exit(") {
        return u8::try_from(code).unwrap_or(NO_CODE);
    }
    if let Some(signal) = number("signal(") {
        return u8::try_from(128 + signal).unwrap_or(NO_CODE);
    }
    if cause == "timeout" { 124 } else { NO_CODE }
}

/// `1 task`, `3 tasks`.
#[must_use]
pub fn plural(n: u64, word: &str) -> String {
    let ending = match (n, word.strip_suffix("ex")) {
        (1, _) => return format!("1 {word}"),
        (_, Some(stem)) => return format!("{n} {stem}ices"),
        (_, None) => "s",
    };
    format!("{n} {word}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_codes() {
        for (cause, code) in [
            ("exit(7)", 7),
            ("signal(9)", 137),
            ("timeout", 124),
            ("oom", 125),
            ("lost(worker)", 125),
            ("exit(x)", 125),
        ] {
            assert_eq!(code_of_cause(cause), code, "{cause}");
        }
        assert_eq!(
            (plural(1, "index"), plural(2, "index"), plural(0, "task")),
            ("1 index".into(), "2 indices".into(), "0 tasks".into())
        );
    }
}
