//! `/healthz` and `/readyz`: for who decides whether this process lives and whether it is to be asked. Both without a token.

use super::super::error::ApiError;
use super::super::service::Service;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::extract::State;
use std::time::Duration;

/// A member that has not caught up within this time is not ready: probes come every few seconds, and should not pile up.
const READY_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn routes(api: Api) -> Api {
    let alive =
        "Whether the process serves.\nIt says nothing of the cluster: a member without a leader is alive.";
    let ready = "Whether this member can be asked.\nIt knows a leader, a majority has confirmed it just now, and all that was acknowledged before is applied here.";
    api.get_public(
        "/healthz",
        healthz,
        Operation::new("cluster", "isAlive", alive).text("It serves", "text/plain"),
    )
    .get_public(
        "/readyz",
        readyz,
        Operation::new("cluster", "isReady", ready).text("It can be asked", "text/plain").refuses(&[503]),
    )
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(service): State<Service>) -> Result<&'static str, Problem> {
    if service.forward.leadership().borrow().leader.is_none() {
        return Err(ApiError::NoLeader("this member knows none".to_owned()).into());
    }
    match tokio::time::timeout(READY_WITHIN, service.forward.catch_up()).await {
        Ok(caught_up) => caught_up.map_err(Problem::from)?,
        Err(_) => return Err(ApiError::NoLeader("no majority has answered within 1 s".to_owned()).into()),
    }
    Ok("ready\n")
}
