//! `/v1/pools`: the groups of machines, as configured and as learnt. Left out: the signals alone ([`super::autoscale`]).

use super::super::service::Service;
use super::doc::Doc;
use super::extract::Id;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::extract::State;
use muster_core::view_doc::{PoolDoc, PoolsDoc};
use serde_json::json;

pub(super) fn routes(api: Api) -> Api {
    let list = "Pools, by name.\nThose of the coordinators' files, and those that only a worker names. `signal` is absent while no leader says it.";
    let name = json!({ "type": "string", "minLength": 1 });
    api.get(
        "/v1/pools",
        list_pools,
        Operation::new("scaling", "listPools", list).answers::<PoolsDoc>("The pools"),
    )
    .get(
        "/v1/pools/{name}",
        get,
        Operation::new("scaling", "getPool", "A pool.")
            .path("name", "Its name", name)
            .answers::<PoolDoc>("The pool"),
    )
}

async fn list_pools(State(service): State<Service>) -> Result<Doc<PoolsDoc>, Problem> {
    Ok(Doc(service.list_pools().await?))
}

async fn get(State(service): State<Service>, Id(name): Id) -> Result<Doc<PoolDoc>, Problem> {
    Ok(Doc(service.get_pool(&name).await?))
}
