//! Sends a checked job file, in messages of at most 1 MiB.

use super::{Client, user};
use crate::failure::Failure;
use muster_core::model::blob::BlobId;
use muster_proto::api::{SubmitPart, SubmitReply};
use std::collections::HashMap;

/// Bytes of JSON text in one message.
const PART_BYTES: usize = 1 << 20;

/// Submits `job` (JSON text of the public schema, params already set).
///
/// # Errors
/// The server's refusal; nothing reachable.
pub async fn submit(
    client: &mut Client,
    job: &str,
    workdir: Option<BlobId>,
    request_id: &str,
    hold: bool,
) -> Result<SubmitReply, Failure> {
    let workdir = bytes::Bytes::from(workdir.map(|id| id.0.to_vec()).unwrap_or_default());
    let user = user();
    client
        .call(async |api| {
            let mut parts: Vec<SubmitPart> = job
                .as_bytes()
                .chunks(PART_BYTES)
                .map(|chunk| SubmitPart { job: chunk.to_vec().into(), ..SubmitPart::default() })
                .collect();
            if let Some(first) = parts.first_mut() {
                first.request_id = request_id.to_owned();
                first.params = HashMap::new();
                first.user.clone_from(&user);
                first.workdir.clone_from(&workdir);
                first.hold = hold;
            }
            api.submit(tokio_stream::iter(parts)).await
        })
        .await
}
