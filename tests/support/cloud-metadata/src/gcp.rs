//! Compute Engine's metadata server, as far as preemption goes.
//! Source: "About VM metadata", "Query metadata server for maintenance event notices", Compute Engine documentation.

use crate::Clouds;
use crate::machine::Machine;
use crate::serve::{Ask, Reply};
use hyper::Method;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A wait without a limit of its own ends all the same.
const WAIT_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Gcp {
    pub preempted: bool,
    pub maintenance: String,
}

impl Default for Gcp {
    fn default() -> Self {
        Self { preempted: false, maintenance: "NONE".into() }
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
        "/computeMetadata/v1/instance/maintenance-event" => Some(machine.gcp.maintenance.clone()),
        _ => None,
    }
}

/// Sixteen hexadecimal digits that go with the value (FNV-1a).
fn tag(value: &str) -> String {
    let hash = value
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

fn flavoured(mut reply: Reply) -> Reply {
    reply.headers.push(("metadata-flavor", "Google".into()));
    reply.headers.push(("server", "Metadata Server for VM".into()));
    reply
}
