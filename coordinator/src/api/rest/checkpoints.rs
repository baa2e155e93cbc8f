//! `/v1/checkpoints`: committed checkpoints that are kept.

use super::super::service::Service;
use super::doc::Doc;
use super::extract::Query;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::extract::State;
use muster_core::view_doc::CheckpointsDoc;
use schemars::JsonSchema;
use serde::Deserialize;

/// Of what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// A job, a task or an index: `42`, `42.train`, `42.train[7]`.
    #[schemars(regex(pattern = "^[0-9]{1,19}(\\.[a-zA-Z0-9_-]{1,128}(\\[[0-9]{1,9}\\])?)?$"))]
    job: String,
}

pub(super) fn routes(api: Api) -> Api {
    let about = "Checkpoints of a job, a task or an index.\nBy task and index, the oldest of each first; at most 10,000, `omitted` counts the rest.";
    api.get(
        "/v1/checkpoints",
        list,
        Operation::new("jobs", "listCheckpoints", about)
            .query::<Asked>()
            .answers::<CheckpointsDoc>("The checkpoints")
            .refuses(&[404]),
    )
}

async fn list(
    State(service): State<Service>,
    Query(asked): Query<Asked>,
) -> Result<Doc<CheckpointsDoc>, Problem> {
    Ok(Doc(service.list_checkpoints(&asked.job).await?))
}
