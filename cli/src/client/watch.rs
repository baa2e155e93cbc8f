//! Waits for the end of a job, over the death of any member.

use super::{Client, is_transient};
use crate::failure::{Failure, NO_CODE};
use muster_proto::api::WatchRequest;
use std::time::{Duration, Instant};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub state: String,
    /// The job's own code (SPEC section 7).
    pub code: u8,
}

impl Ended {
    /// From the wire; a code outside of a byte has no meaning to a shell.
    #[must_use]
    pub fn new(state: String, exit_code: i32) -> Self {
        Self { state, code: u8::try_from(exit_code).unwrap_or(NO_CODE) }
    }
}

/// A stream that breaks is opened again as long as the cluster comes back within this time: a restart of a single member from disk.
pub const RECONNECT_FOR: Duration = Duration::from_secs(60);

/// Follows a job until it is final. `changed` hears every event's state.
///
/// # Errors
/// No such job; the cluster stays away.
pub async fn until_final(
    client: &mut Client,
    job: u64,
    mut changed: impl FnMut(&str),
) -> Result<Ended, Failure> {
    let mut broken_since: Option<Instant> = None;
    loop {
        let opened = client.call(async |api| api.watch(WatchRequest { job }).await).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(failure) => {
                retry_or(&mut broken_since, failure).await?;
                continue;
            }
        };
        loop {
            match stream.message().await {
                Ok(Some(event)) => {
                    broken_since = None;
                    changed(&event.state);
                    if event.terminal {
                        return Ok(Ended::new(event.state, event.exit_code));
                    }
                }
                Ok(None) => break,
                Err(status) if is_transient(&status) => break,
                Err(status) => return Err(status.into()),
            }
        }
        broken_since.get_or_insert_with(Instant::now);
        client.turn();
    }
}

/// After a stream was broken, waits a little and says nothing; before, or after too long, gives the failure back.
pub async fn retry_or(broken_since: &mut Option<Instant>, failure: Failure) -> Result<(), Failure> {
    match broken_since {
        Some(since) if failure.exit == crate::failure::UNREACHABLE && since.elapsed() < RECONNECT_FOR => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(())
        }
        _ => Err(failure),
    }
}
