//! `/v1/devices`: GPUs and MIG instances of all workers.

use super::super::error::ApiError;
use super::super::service::Service;
use super::doc::Doc;
use super::extract::{Id, Query};
use super::openapi::Api;
use super::operation::Operation;
use super::page;
use super::problem::Problem;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use muster_core::view_doc::{DeviceDoc, DevicesDoc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Which devices.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Devices of a page.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 100))]
    limit: Option<u32>,
    /// Only those behind the device of this UUID: the last one of the page before.
    after: Option<String>,
}

pub(super) fn routes(api: Api) -> Api {
    let list =
        "Devices, by worker and number.\nThen those that no worker has any more. `Link` names the next page.";
    let uuid = json!({ "type": "string", "minLength": 1, "examples": ["GPU-2f1c"] });
    api.get(
        "/v1/devices",
        list_devices,
        Operation::new("workers", "listDevices", list)
            .query::<Listed>()
            .answers::<DevicesDoc>("A page of devices")
            .answer_header("Link", "`rel=\"next\"`: the next page, if there is one")
            .refuses(&[404]),
    )
    .get(
        "/v1/devices/{uuid}",
        get,
        Operation::new("workers", "getDevice", "A device with its history.")
            .path("uuid", "Its UUID, or the beginning of it that no other has", uuid)
            .answers::<DeviceDoc>("The device"),
    )
}

async fn list_devices(
    State(service): State<Service>,
    uri: Uri,
    Query(asked): Query<Listed>,
) -> Result<Response, Problem> {
    let limit = page::limit(asked.limit)?;
    let mut doc = service.list_devices().await?;
    let after = asked.after.clone();
    let is_after = after.as_deref().map(|after| move |device: &DeviceDoc| device.uuid == after);
    let more = page::cut(&mut doc.devices, limit, is_after)
        .ok_or_else(|| ApiError::NoDevice(asked.after.unwrap_or_default()))?;
    let last = doc.devices.last().filter(|_| more).map(|device| device.uuid.clone());
    Ok(page::linked(Doc(doc), &uri, last.as_deref().map(|last| ("after", last))))
}

async fn get(State(service): State<Service>, Id(uuid): Id) -> Result<Doc<DeviceDoc>, Problem> {
    Ok(Doc(service.get_device(&uuid).await?))
}
