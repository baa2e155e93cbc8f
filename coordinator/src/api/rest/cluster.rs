//! `/v1/cluster` and `/v1/queues`: the members, and where work waits.

use super::super::service::Service;
use super::doc::Doc;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::extract::State;
use muster_core::view_doc::{ClusterDoc, QueuesDoc};

pub(super) fn routes(api: Api) -> Api {
    let cluster = "The members: who leads, how far each has applied.\nAnswered without a leader too.";
    let queues = "Queues, by name, with what waits and runs in each.";
    api.get(
        "/v1/cluster",
        get_cluster,
        Operation::new("cluster", "getCluster", cluster).answers::<ClusterDoc>("The members"),
    )
    .get(
        "/v1/queues",
        list_queues,
        Operation::new("cluster", "listQueues", queues).answers::<QueuesDoc>("The queues"),
    )
}

async fn get_cluster(State(service): State<Service>) -> Doc<ClusterDoc> {
    Doc(service.cluster().await)
}

async fn list_queues(State(service): State<Service>) -> Result<Doc<QueuesDoc>, Problem> {
    Ok(Doc(service.list_queues().await?))
}
