//! Google's metadata server: `instance/preempted`, and `instance/maintenance-event` for machines that cannot be moved. Both are waited
//! for in a hanging GET, so that they are known as soon as the server knows. At the start it is asked which machine this is.

use super::Pace;
use super::http::{Answer, Ask, AskError, Endpoint, ask};
use super::merge::Standing;
use super::mouth::Mouth;
use super::which::Facts;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const PREEMPTED: &str = "/computeMetadata/v1/instance/preempted";
const MAINTENANCE: &str = "/computeMetadata/v1/instance/maintenance-event";
/// A number that is never used again, unlike the machine's name.
const ID: &str = "/computeMetadata/v1/instance/id";
const IMAGE: &str = "/computeMetadata/v1/instance/image";
const ZONE: &str = "/computeMetadata/v1/instance/zone";
/// The least that is documented from a maintenance event's announcement to its start. Machines with GPUs have an hour; which it is
/// is not said.
const MAINTENANCE_NOTICE: Duration = Duration::from_secs(60);
/// Longest tag of a value that is given back to the server.
const TAG_MAX: usize = 128;

/// Why a wait failed.
#[derive(Debug, thiserror::Error)]
pub enum GcpError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the answer has status {0}")]
    Status(u16),
    /// Whoever answers in its place, a captive portal or a proxy, does not know this header.
    #[error("the answer does not come from a metadata server: it has no `Metadata-Flavor: Google`")]
    Stranger,
    #[error("the answer {0:?} is neither TRUE nor FALSE nor the name of an event")]
    Value(String),
}

/// Waits for as long as the worker runs. `notice`: from `TRUE` until the machine goes.
pub async fn watch(endpoint: Endpoint, notice: Duration, pace: Pace, mouth: Mouth) {
    tokio::join!(
        follow(&endpoint, PREEMPTED, pace, &mouth, |value| read_preempted(value, notice)),
        follow(&endpoint, MAINTENANCE, pace, &mouth, read_maintenance),
    );
}

/// How a value is read: from its text to the time left and the words, where it announces something.
type Reading = Option<Option<(Duration, &'static str)>>;

/// None: it is no value of this key.
fn read_preempted(value: &str, notice: Duration) -> Reading {
    match value {
        "TRUE" => Some(Some((notice, "the machine is being preempted"))),
        "FALSE" => Some(None),
        _ => None,
    }
}

fn read_maintenance(value: &str) -> Reading {
    match value {
        "TERMINATE_ON_HOST_MAINTENANCE" => {
            Some(Some((MAINTENANCE_NOTICE, "maintenance of the host ends the machine")))
        }
        // Moved while it runs, it stays.
        "NONE" | "MIGRATE_ON_HOST_MAINTENANCE" => Some(None),
        _ => None,
    }
}

async fn follow(
    endpoint: &Endpoint,
    key: &'static str,
    pace: Pace,
    mouth: &Mouth,
    read: impl Fn(&str) -> Reading,
) {
    let mut trouble = mouth.trouble(key);
    // The tag of the value that is known; none: the value is asked for and not waited for.
    let mut tag: Option<String> = None;
    let mut known: Option<String> = None;
    loop {
        let asked = Instant::now();
        match wait(endpoint, key, tag.as_deref(), pace).await.and_then(|answer| {
            let value = answer.text().unwrap_or_default().to_owned();
            let reading = read(&value).ok_or_else(|| GcpError::Value(super::merge::words(&value)))?;
            Ok((answer, value, reading))
        }) {
            Ok((answer, value, reading)) => {
                trouble.over();
                tag = answer.header("etag").filter(|tag| is_tag(tag)).map(str::to_owned);
                // The same value again is the end of a wait: its time runs since it was seen first.
                if known.as_deref() != Some(&value) {
                    known = Some(value);
                    let at = Instant::now();
                    mouth.say(key, reading.map(|(left, words)| Standing::preemption(Some(at + left), words)));
                }
            }
            Err(error) => {
                tag = None;
                trouble.met(&error);
            }
        }
        // A server that does not wait is not asked without a pause.
        sleep_until(asked + pace.gcp).await;
    }
}

async fn wait(endpoint: &Endpoint, key: &str, tag: Option<&str>, pace: Pace) -> Result<Answer, GcpError> {
    let headers = [("metadata-flavor", "Google")];
    let answer = match tag {
        None => ask(endpoint, Ask::get(key, &headers, pace.answer)).await?,
        Some(tag) => {
            let hang = pace.gcp_hang;
            let path =
                format!("{key}?wait_for_change=true&last_etag={tag}&timeout_sec={}", hang.as_secs().max(1));
            ask(endpoint, Ask::get(&path, &headers, hang + pace.answer)).await?
        }
    };
    checked(answer)
}

fn checked(answer: Answer) -> Result<Answer, GcpError> {
    if answer.status != 200 {
        return Err(GcpError::Status(answer.status));
    }
    if answer.header("metadata-flavor") != Some("Google") {
        return Err(GcpError::Stranger);
    }
    Ok(answer)
}

/// Which machine this is.
///
/// # Errors
/// Its number cannot be read. An image or a zone that is not there is none.
pub async fn facts(endpoint: &Endpoint, within: Duration) -> Result<Facts, GcpError> {
    let get = async |key| {
        let answer = ask(endpoint, Ask::get(key, &[("metadata-flavor", "Google")], within)).await?;
        Ok(checked(answer)?.text().unwrap_or_default().to_owned())
    };
    let absent = |answer: Result<String, GcpError>| match answer {
        Err(GcpError::Status(404)) => Ok(None),
        answer => answer.map(Some),
    };
    let id: String = get(ID).await?;
    let image = absent(get(IMAGE).await)?;
    // `projects/123456789012/zones/us-central1-a`: the last part is what everybody calls it.
    let zone = absent(get(ZONE).await)?.and_then(|zone| Some(zone.rsplit('/').next()?.to_owned()));
    Ok(Facts { instance_id: id, image, zone })
}

/// It goes into the next question as it is.
fn is_tag(tag: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=TAG_MAX).contains(&tag.len()) && tag.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_exactly() {
        let notice = Duration::from_secs(30);
        assert_eq!(read_preempted("TRUE", notice).flatten().map(|(left, _)| left), Some(notice));
        assert_eq!(read_preempted("FALSE", notice), Some(None));
        assert_eq!(read_maintenance("MIGRATE_ON_HOST_MAINTENANCE"), Some(None));
        assert!(read_maintenance("TERMINATE_ON_HOST_MAINTENANCE").flatten().is_some());
        for odd in ["", "true", "TRUE TRUE", "<html>", "1", "\0"] {
            assert_eq!((read_preempted(odd, notice), read_maintenance(odd)), (None, None), "{odd}");
        }
    }

    #[test]
    fn a_tag_cannot_change_the_question() {
        assert!(is_tag("411261ca6c9e4680"));
        for bad in ["", "a&recursive=true", "a b", "a#", "é", &"a".repeat(129)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
