//! One machine of no cloud: what its metadata services would say, and what was asked of them.

use crate::aws::Aws;
use crate::azure::Azure;
use crate::fault::Fault;
use crate::gcp::{self, Gcp};
use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Most requests that are remembered.
const REQUESTS_MAX: usize = 10_000;

/// What is wrong with what it is told to be.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no {0:?} to set")]
    Unknown(String),
    #[error("the body does not fit {what:?}: {source}")]
    Body { what: String, source: serde_json::Error },
}

/// Which machine it is, as tests say it. Left out: there is no such thing, and the service answers 404.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub id: String,
    pub image: Option<String>,
    pub zone: Option<String>,
}

#[derive(Debug)]
pub struct Machine {
    pub aws: Aws,
    pub gcp: Gcp,
    pub azure: Azure,
    pub fault: Option<Fault>,
    /// How far the service's clock is ahead of this machine's, ms.
    skew_ms: i64,
    requests: Vec<Value>,
}

impl Machine {
    pub fn new(name: &str) -> Self {
        Self {
            aws: Aws::new(name),
            gcp: Gcp::new(name),
            azure: Azure::new(name),
            fault: None,
            skew_ms: 0,
            requests: Vec::new(),
        }
    }

    /// By the service's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_millis(self.skew_ms)
    }

    pub fn asked(&mut self, method: &Method, path: &str, status: u16) {
        if self.requests.len() < REQUESTS_MAX {
            self.requests.push(json!({ "method": method.as_str(), "path": path, "status": status }));
        }
    }

    pub fn seen(&self) -> Value {
        json!({ "requests": self.requests, "acknowledged": self.azure.acknowledged })
    }

    pub fn put(&mut self, what: &str, body: &Value) -> Result<(), ControlError> {
        let now = self.now();
        match what {
            "aws/machine" => self.aws.machine = parse(what, body)?,
            "gcp/machine" => self.gcp.machine = parse(what, body)?,
            "azure/compute" => self.azure.compute = parse(what, body)?,
            "aws/instance-action" => self.aws.announce(parse(what, body)?, now),
            "aws/rebalance" => self.aws.rebalance = Some(now),
            "aws/lifecycle" => self.aws.lifecycle = Some(parse(what, body)?),
            "aws/token-ttl" => self.aws.token_ttl_s = Some(parse(what, body)?),
            "gcp/preempted" => self.gcp.preempted = parse(what, body)?,
            "gcp/maintenance-event" => self.gcp.maintenance = parse(what, body)?,
            "azure/name" => self.azure.name = parse(what, body)?,
            "skew" => self.skew_ms = parse(what, body)?,
            "fault" => self.fault = Some(parse(what, body)?),
            _ => match what.strip_prefix("azure/events/") {
                Some(id) => self.azure.schedule(id, parse(what, body)?, now),
                None => return Err(ControlError::Unknown(what.to_owned())),
            },
        }
        Ok(())
    }

    pub fn delete(&mut self, what: &str) -> Result<(), ControlError> {
        match what {
            "aws/instance-action" => self.aws.action = None,
            "aws/rebalance" => self.aws.rebalance = None,
            "aws/lifecycle" => self.aws.lifecycle = None,
            "aws/token-ttl" => self.aws.token_ttl_s = None,
            "aws/tokens" => self.aws.tokens.clear(),
            "gcp/preempted" => self.gcp.preempted = false,
            "gcp/maintenance-event" => self.gcp.maintenance = gcp::NO_MAINTENANCE.into(),
            "skew" => self.skew_ms = 0,
            "fault" => self.fault = None,
            _ => match what.strip_prefix("azure/events/") {
                Some(id) => self.azure.remove(id),
                None => return Err(ControlError::Unknown(what.to_owned())),
            },
        }
        Ok(())
    }
}

/// A number that goes with the text (FNV-1a).
pub fn number(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn parse<T: DeserializeOwned>(what: &str, body: &Value) -> Result<T, ControlError> {
    serde_json::from_value(body.clone())
        .map_err(|source| ControlError::Body { what: what.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_be_is_refused() {
        let mut machine = Machine::new("w1");
        assert!(machine.put("aws/instance-action", &json!({"action": "stop", "in_ms": 1000})).is_ok());
        let bad = [
            ("aws/instance-action", json!({"in_ms": 1})),
            ("aws/price", json!(1)),
            ("gcp/machine", json!({"image": "debian-12"})),
            ("azure/compute", json!(["vmId"])),
            ("azure/events/e", json!({"typ": "Preempt"})),
            ("fault", json!({"kind": "fire"})),
        ];
        for (what, body) in bad {
            assert!(machine.put(what, &body).is_err(), "{what}");
        }
        assert!(machine.delete("aws").is_err());
    }
}
