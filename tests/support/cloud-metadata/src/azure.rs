//! Azure's instance metadata service: which machine it is and its scheduled events.
//! Source: "Scheduled Events for Linux VMs" and "Azure Instance Metadata Service", Azure documentation.

use crate::machine::{Machine, number};
use crate::serve::{Ask, Reply, date};
use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const EVENTS_VERSIONS: [&str; 8] = [
    "2017-03-01",
    "2017-08-01",
    "2017-11-01",
    "2019-01-01",
    "2019-04-01",
    "2019-08-01",
    "2020-07-01",
    "2017-12-01",
];
const INSTANCE_VERSIONS: [&str; 4] = ["2019-06-01", "2020-06-01", "2021-01-01", "2021-02-01"];

#[derive(Debug)]
pub struct Azure {
    pub name: String,
    /// What else compute metadata has.
    pub compute: Map<String, Value>,
    events: BTreeMap<String, Event>,
    /// Goes up with every change of the document.
    incarnation: u64,
    pub acknowledged: Vec<String>,
}

#[derive(Debug)]
struct Event {
    kind: String,
    resources: Vec<String>,
    status: String,
    not_before: Timestamp,
}

/// As tests schedule it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    r#type: String,
    #[serde(default)]
    in_ms: i64,
    /// Default: this machine.
    resources: Option<Vec<String>>,
    #[serde(default = "scheduled")]
    status: String,
}

fn scheduled() -> String {
    "Scheduled".into()
}

impl Azure {
    pub fn new(name: &str) -> Self {
        let image = json!({
            "id": "", "publisher": "Canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts-gen2", "version": "latest",
        });
        let compute = [
            // The service writes it in either case.
            ("vmId", json!(format!("02AAB8A4-74EF-476E-8182-{:012X}", number(name) & 0xffff_ffff_ffff))),
            ("location", json!("westeurope")),
            ("zone", json!("1")),
            ("storageProfile", json!({ "imageReference": image })),
        ];
        Self {
            name: name.to_owned(),
            compute: compute.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            events: BTreeMap::new(),
            incarnation: 1,
            acknowledged: Vec::new(),
        }
    }

    fn instance(&self) -> Value {
        let mut compute = self.compute.clone();
        compute.insert("name".into(), json!(self.name));
        compute.into()
    }

    pub fn schedule(&mut self, id: &str, schedule: Schedule, now: Timestamp) {
        let event = Event {
            kind: schedule.r#type,
            resources: schedule.resources.unwrap_or_else(|| vec![self.name.clone()]),
            status: schedule.status,
            not_before: now + SignedDuration::from_millis(schedule.in_ms),
        };
        self.events.insert(id.to_owned(), event);
        self.incarnation += 1;
    }

    pub fn remove(&mut self, id: &str) {
        self.events.remove(id);
        self.incarnation += 1;
    }

    fn document(&self) -> Value {
        let events = self.events.iter().map(|(id, event)| {
            // One that has begun has no time any more.
            let not_before = if event.status == "Scheduled" { date(event.not_before) } else { String::new() };
            json!({
                "EventId": id, "EventType": event.kind, "ResourceType": "VirtualMachine", "Resources": event.resources,
                "EventStatus": event.status, "NotBefore": not_before, "Description": "", "EventSource": "Platform",
                "DurationInSeconds": -1,
            })
        });
        json!({ "DocumentIncarnation": self.incarnation, "Events": events.collect::<Vec<_>>() })
    }

    /// Starts what is named; nothing of it when one is unknown.
    fn start(&mut self, body: &[u8]) -> Option<()> {
        #[derive(Deserialize)]
        struct Requests {
            #[serde(rename = "StartRequests")]
            start: Vec<Request>,
        }
        #[derive(Deserialize)]
        struct Request {
            #[serde(rename = "EventId")]
            id: String,
        }
        let requests: Requests = serde_json::from_slice(body).ok()?;
        if requests.start.iter().any(|request| !self.events.contains_key(&request.id)) {
            return None;
        }
        for request in requests.start {
            if let Some(event) = self.events.get_mut(&request.id) {
                event.status = "Started".into();
            }
            self.acknowledged.push(request.id);
            self.incarnation += 1;
        }
        Some(())
    }
}

pub fn answer(machine: &mut Machine, ask: &Ask<'_>) -> Reply {
    let bad = |words: &str| Reply::new(400, json!({ "error": format!("Bad request. {words}") }).to_string());
    if !ask.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return bad("Required metadata header not specified");
    }
    if ask.headers.contains_key("x-forwarded-for") {
        return bad("Proxied requests are not allowed");
    }
    let version = ask.parameter("api-version");
    let known = |versions: &[&str]| version.is_some_and(|version| versions.contains(&version));
    match (ask.path, ask.method) {
        ("/metadata/scheduledevents", _) if !known(&EVENTS_VERSIONS) => {
            bad("api-version is invalid or was not specified")
        }
        ("/metadata/scheduledevents", &Method::GET) => json_reply(&machine.azure.document()),
        ("/metadata/scheduledevents", &Method::POST) => match machine.azure.start(ask.body) {
            Some(()) => Reply::new(200, ""),
            None => bad("The request names an event that does not exist"),
        },
        ("/metadata/instance/compute" | "/metadata/instance/compute/name", _)
            if !known(&INSTANCE_VERSIONS) =>
        {
            bad("api-version is invalid or was not specified")
        }
        ("/metadata/instance/compute", &Method::GET) => match ask.parameter("format") {
            None | Some("json") => json_reply(&machine.azure.instance()),
            Some(_) => bad("The requested resource is no leaf: ask for format=json"),
        },
        ("/metadata/instance/compute/name", &Method::GET) => match ask.parameter("format") {
            Some("text") => Reply::new(200, machine.azure.name.clone()),
            _ => bad("The requested resource is a leaf: ask for format=text"),
        },
        (
            "/metadata/scheduledevents" | "/metadata/instance/compute" | "/metadata/instance/compute/name",
            _,
        ) => Reply::new(405, ""),
        _ => Reply::new(404, json!({ "error": "Not found" }).to_string()),
    }
}

fn json_reply(body: &Value) -> Reply {
    Reply {
        headers: vec![("content-type", "application/json; charset=utf-8".into())],
        ..Reply::new(200, body.to_string())
    }
}
