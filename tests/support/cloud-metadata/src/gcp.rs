//! Compute Engine's metadata server, as far as preemption goes, and which machine it is.
//! Source: "About VM metadata", "Predefined metadata keys", "Query metadata server for maintenance event notices", Compute Engine documentation.

use crate::Clouds;
use crate::machine::{Facts, Machine, number};
use crate::serve::{Ask, Reply};
use hyper::Method;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A wait without a limit of its own ends all the same.
const WAIT_MAX: Duration = Duration::from_secs(3600);

pub const NO_MAINTENANCE: &str = "NONE";

#[derive(Debug)]
pub struct Gcp {
    pub machine: Facts,
    pub preempted: bool,
    pub maintenance: String,
}

impl Gcp {
    pub fn new(name: &str) -> Self {
        let machine = Facts {
            id: number(name).to_string(),
            image: Some("projects/debian-cloud/global/images/debian-12-bookworm-v20250910".into()),
            zone: Some("projects/123456789012/zones/us-central1-a".into()),
        };
        Self { machine, preempted: false, maintenance: NO_MAINTENANCE.into() }
    }
}

pub async fn answer(clouds: &Clouds, machine: &str, ask: &Ask<'_>) -> Reply {
    if ask.header("metadata-flavor") != Some("Google") {
        return flavoured(Reply::new(403, "Missing Metadata-Flavor:Google header."));
    }
    if ask.headers.contains_key("x-forwarded-for") {
        return flavoured(Reply::new(403, "Requests with X-Forwarded-For are not served."));
    }
    if *ask.method != Method::GET {
        return flavoured(Reply::new(405, ""));
    }
    let waits = ask.parameter("wait_for_change").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let limit =
        ask.parameter("timeout_sec").and_then(|s| s.parse().ok()).map_or(WAIT_MAX, Duration::from_secs);
    let mut changes = clouds.changes.subscribe();
    let mut last = ask.parameter("last_etag").map(str::to_owned);
    let end = Instant::now() + limit;
    loop {
        changes.mark_unchanged();
        let Some(value) = clouds.with(machine, |m| value(m, ask.path)) else {
            return flavoured(Reply::new(404, ""));
        };
        let tag = tag(&value);
        // A wait without a tag is for the next change from now on.
        let known = last.get_or_insert_with(|| tag.clone());
        if !waits || *known != tag || timeout_at(end, changes.changed()).await.is_err() {
            let mut reply = Reply::new(200, value);
            reply.headers = vec![("etag", tag), ("content-type", "application/text".into())];
            return flavoured(reply);
        }
    }
}

fn value(machine: &Machine, path: &str) -> Option<String> {
    match path {
        "/computeMetadata/v1/instance/preempted" => {
            Some(if machine.gcp.preempted { "TRUE" } else { "FALSE" }.to_owned())
        }
        "/computeMetadata/v1/instance/id" => Some(machine.gcp.machine.id.clone()),
        "/computeMetadata/v1/instance/image" => machine.gcp.machine.image.clone(),
        "/computeMetadata/v1/instance/zone" => machine.gcp.machine.zone.clone(),
        "/computeMetadata/v1/instance/maintenance-event" => Some(machine.gcp.maintenance.clone()),
        _ => None,
    }
}

/// Sixteen hexadecimal digits that go with the value.
fn tag(value: &str) -> String {
    format!("{:016x}", number(value))
}

fn flavoured(mut reply: Reply) -> Reply {
    reply.headers.push(("metadata-flavor", "Google".into()));
    reply.headers.push(("server", "Metadata Server for VM".into()));
    reply
}
