//! The signals, at any member: it asks the one that leads. Left out: how they are reckoned, and what is made of them.
//!
//! Architecture invariant: what a member says was reckoned in the term in which a majority confirmed it as the leader, at or after the
//! call. What a deposed leader reckoned is never said; where there is nothing to say that is an error, and whoever scales holds.

use super::error::ApiError;
use super::forward::{Forward, PATIENCE, PAUSE, replaced};
use super::service::Service;
use crate::raft::Role;
use crate::signals::Signals;
use muster_core::view_doc::SignalsDoc;
use muster_proto::member::SignalsRequest;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Code;

/// Longest wait of one call: what stands between a caller and a member (proxies, balancers) cuts what is silent for longer.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// A wait that ends without an answer after so long had a leader until then: the search for the next one begins then, with all its patience.
const WAS_THERE: Duration = Duration::from_secs(1);
/// The stable code of [`ApiError::Unreckoned`], by which a member knows that the leader has answered.
pub(super) const UNRECKONED: &str = "NO_SIGNALS";

impl Service {
    /// The signals, as soon as they are others than `after` (term, version), and after `wait` (at most [`WAIT_MAX`]) at the latest as they
    /// are. With `after` none: at once. A change of the leader does not end the wait: the next one is asked. `at` says when they were
    /// reckoned.
    ///
    /// # Errors
    /// No leader for 5 s; pools are configured, and the leader has not reckoned yet.
    pub async fn signals(
        &self,
        after: Option<(u64, u64)>,
        wait: Duration,
    ) -> Result<Arc<SignalsDoc>, ApiError> {
        let until = Instant::now() + wait.min(WAIT_MAX);
        let mut leadership = self.forward.leadership();
        let mut give_up = Instant::now() + PATIENCE;
        let mut last = String::from("no leader is known");
        loop {
            let known = leadership.borrow_and_update().clone();
            let asked_at = Instant::now();
            let answer = match &known.leader {
                Some((id, _)) if *id == self.forward.member() => {
                    own(&self.forward, &self.signals, after, until).await
                }
                Some((_, address)) => {
                    // A leader that hangs answers nobody; its successor is asked as soon as there is one.
                    tokio::select! {
                        answer = self.ask_signals(address, after, until) => answer,
                        () = replaced(&mut leadership, &known) => continue,
                    }
                }
                None => Err(ApiError::NoLeader(last.clone())),
            };
            match answer {
                Ok(signals) => return Ok(signals),
                Err(ApiError::NoLeader(why)) => last = why,
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            if asked_at < until && now - asked_at >= WAS_THERE {
                give_up = now + PATIENCE;
            }
            let _ = timeout(PAUSE, leadership.changed()).await;
            if Instant::now() >= give_up {
                return Err(ApiError::NoLeader(last));
            }
        }
    }

    async fn ask_signals(
        &self,
        address: &str,
        after: Option<(u64, u64)>,
        until: Instant,
    ) -> Result<Arc<SignalsDoc>, ApiError> {
        let mut peer =
            self.forward.peers().at(address).map_err(|error| ApiError::NoLeader(error.to_string()))?;
        let left = until.saturating_duration_since(Instant::now());
        let request = SignalsRequest {
            term: after.map(|(term, _)| term),
            version: after.map(|(_, version)| version),
            wait_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        };
        let silent = || ApiError::NoLeader(format!("{address} does not answer"));
        let status = match timeout_at(until.max(Instant::now()) + PATIENCE, peer.signals(request))
            .await
            .map_err(|_| silent())?
        {
            Ok(reply) => {
                let json = reply.into_inner().json;
                let doc = serde_json::from_str(&json)
                    .map_err(|error| ApiError::Stopped(format!("{address} answers nonsense: {error}")))?;
                return Ok(Arc::new(doc));
            }
            Err(status) => status,
        };
        let code = status.metadata().get("muster-code").and_then(|code| code.to_str().ok());
        match (code, status.code()) {
            (Some(UNRECKONED), _) => Err(ApiError::Unreckoned),
            // No other leader would answer better: a bad call, or a version that does not know it.
            (_, Code::InvalidArgument | Code::Unauthenticated | Code::Unimplemented) => {
                Err(ApiError::Peer(Box::new(status)))
            }
            _ => Err(ApiError::NoLeader(format!("{address}: {}", status.message()))),
        }
    }
}

/// What this member reckoned, if it leads: others than `after` if they come until then.
///
/// # Errors
/// [`ApiError::NoLeader`] where it does not lead, or leads no more; [`ApiError::Unreckoned`].
pub(super) async fn own(
    forward: &Forward,
    signals: &Signals,
    after: Option<(u64, u64)>,
    until: Instant,
) -> Result<Arc<SignalsDoc>, ApiError> {
    let deposed = || ApiError::NoLeader("the member that was asked does not lead".to_owned());
    let mut watch = signals.watch();
    // 1. What is waited for is of this term: what an earlier one left is no news.
    let mut status = forward.node().status();
    let term = {
        let status = status.borrow();
        if status.role != Role::Leader {
            return Err(deposed());
        }
        status.term
    };
    if let Some(after) = after {
        tokio::select! {
            _ = watch.wait_for(|doc| doc.term == term && (term, doc.version) != after) => {}
            _ = status.wait_for(|now| now.role != Role::Leader || now.term != term) => return Err(deposed()),
            () = sleep(until.saturating_duration_since(Instant::now())) => {}
        }
    }
    // 2. Who was cut off believes that it leads until somebody tells it: a majority says so now.
    match timeout(PATIENCE, forward.node().confirm_term()).await {
        Ok(Ok(confirmed)) if confirmed == term => {}
        Ok(Ok(_)) => return Err(deposed()),
        Ok(Err(error)) => return Err(ApiError::NoLeader(error.to_string())),
        Err(_) => return Err(ApiError::NoLeader("no majority answered".to_owned())),
    }
    // 3. Nothing reckoned is nothing said.
    let doc = watch.borrow().clone();
    said(doc, term, forward.read(|state| !state.fleet().pools.is_empty()))
}

/// What may be said in a term of what was reckoned last. Without a pool there is nothing to reckon, and the answer is empty.
fn said(reckoned: Arc<SignalsDoc>, term: u64, has_pools: bool) -> Result<Arc<SignalsDoc>, ApiError> {
    match (reckoned.term == term, has_pools) {
        (true, _) => Ok(reckoned),
        (false, true) => Err(ApiError::Unreckoned),
        (false, false) => Ok(Arc::new(SignalsDoc { term, ..SignalsDoc::default() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn what_another_term_reckoned_is_not_said() {
        let of = |term| {
            let at = Some("2026-11-27T00:00:00.000Z".to_owned());
            Arc::new(SignalsDoc { term, version: 7, at, ..SignalsDoc::default() })
        };
        assert_eq!(said(of(3), 3, true).expect("its own"), of(3));
        for other in [2, 4] {
            let empty = SignalsDoc { term: 3, ..SignalsDoc::default() };
            assert_eq!(*said(of(other), 3, false).expect("no pools"), empty);
            let error = Status::from(said(of(other), 3, true).expect_err("no data"));
            assert_eq!(error.code(), Code::Unavailable);
            // By this a member that carries the question knows that the leader has answered.
            assert_eq!(error.metadata().get("muster-code").expect("code"), UNRECKONED);
        }
    }
}
