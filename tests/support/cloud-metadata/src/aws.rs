//! EC2's instance metadata service, with tokens required.
//! Sources: "Instance metadata categories", "Use the Instance Metadata Service to access instance metadata" and "Spot Instance interruption notices", EC2 user guide.

use crate::machine::{Facts, Machine, number};
use crate::serve::{Ask, Reply};
use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// The longest life of a token, seconds.
const TTL_MAX_S: u32 = 21_600;

#[derive(Debug)]
pub struct Aws {
    pub machine: Facts,
    pub action: Option<Action>,
    /// When it was recommended.
    pub rebalance: Option<Timestamp>,
    pub lifecycle: Option<String>,
    /// Lower than what is asked for.
    pub token_ttl_s: Option<u32>,
    pub tokens: Vec<(String, Instant)>,
    granted: u64,
}

#[derive(Debug)]
pub struct Action {
    action: String,
    time: Timestamp,
}

/// As tests announce it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    action: String,
    in_ms: i64,
}

impl Aws {
    pub fn new(name: &str) -> Self {
        let machine = Facts {
            id: format!("i-{:017x}", number(name)),
            image: Some("ami-0abcdef1234567890".into()),
            zone: Some("eu-west-1a".into()),
        };
        Self {
            machine,
            action: None,
            rebalance: None,
            lifecycle: None,
            token_ttl_s: None,
            tokens: Vec::new(),
            granted: 0,
        }
    }

    pub fn announce(&mut self, announcement: Announcement, now: Timestamp) {
        let time = now + SignedDuration::from_millis(announcement.in_ms);
        self.action = Some(Action { action: announcement.action, time });
    }
}

pub fn answer(machine: &mut Machine, ask: &Ask<'_>) -> Reply {
    if ask.path == "/latest/api/token" {
        return token(machine, ask);
    }
    if *ask.method != Method::GET {
        return Reply::new(405, "");
    }
    let now = Instant::now();
    let given = ask.header("x-aws-ec2-metadata-token").unwrap_or_default();
    if !machine.aws.tokens.iter().any(|(token, ends)| token == given && now < *ends) {
        return Reply::new(401, page(401, "Unauthorized"));
    }
    let found = match ask.path {
        "/latest/meta-data/instance-id" => Some(machine.aws.machine.id.clone()),
        "/latest/meta-data/ami-id" => machine.aws.machine.image.clone(),
        "/latest/meta-data/placement/availability-zone" => machine.aws.machine.zone.clone(),
        "/latest/meta-data/spot/instance-action" => machine.aws.action.as_ref().map(|action| {
            json!({ "action": action.action, "time": format!("{:.0}", action.time) }).to_string()
        }),
        "/latest/meta-data/events/recommendations/rebalance" => {
            machine.aws.rebalance.map(|time| json!({ "noticeTime": format!("{time:.0}") }).to_string())
        }
        "/latest/meta-data/autoscaling/target-lifecycle-state" => machine.aws.lifecycle.clone(),
        _ => None,
    };
    found.map_or_else(
        || Reply::new(404, page(404, "Not Found")),
        |body| Reply { headers: vec![("content-type", "text/plain".into())], ..Reply::new(200, body) },
    )
}

fn token(machine: &mut Machine, ask: &Ask<'_>) -> Reply {
    if *ask.method != Method::PUT {
        return Reply::new(405, "");
    }
    // Against proxies that pass everything on.
    if ask.headers.contains_key("x-forwarded-for") {
        return Reply::new(403, page(403, "Forbidden"));
    }
    let asked = ask.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse::<u32>().ok());
    let Some(ttl) = asked.filter(|ttl| (1..=TTL_MAX_S).contains(ttl)) else {
        return Reply::new(400, page(400, "Bad Request"));
    };
    let aws = &mut machine.aws;
    let ttl = ttl.min(aws.token_ttl_s.unwrap_or(ttl));
    aws.granted += 1;
    let token = format!("AQAEA{:0>49}==", aws.granted);
    let now = Instant::now();
    aws.tokens.retain(|(_, ends)| now < *ends);
    aws.tokens.push((token.clone(), now + Duration::from_secs(ttl.into())));
    Reply {
        headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", ttl.to_string())],
        ..Reply::new(200, token)
    }
}

/// Its errors are pages.
fn page(status: u16, words: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html><head><title>{status} - {words}</title></head>\n<body><h1>{status} - {words}</h1></body></html>\n"
    )
}
