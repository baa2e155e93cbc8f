//! Azure: scheduled events. The service is switched on by the first question, which may take two minutes, and off by a day without
//! any: so it is asked every second from the worker's start. At the start the instance metadata service is asked which machine this is.

use super::Pace;
use super::http::{Answer, Ask, AskError, Endpoint, ask, object, parse_date};
use super::merge::{Standing, words};
use super::mouth::Mouth;
use super::which::Facts;
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const NAME: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const COMPUTE: &str = "/metadata/instance/compute?api-version=2021-02-01&format=json";
const HEADERS: [(&str, &str); 1] = [("metadata", "true")];
/// Most events of one document that are looked at.
const EVENTS_MAX: usize = 64;
/// Longest id of an event; they have 36 characters.
const ID_MAX: usize = 128;

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the document cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the machine's name cannot be read")]
    Name,
}

/// What the worker is asked to be told, and when.
pub struct Azure {
    pub endpoint: Endpoint,
    pub acknowledge: bool,
    /// True once nothing runs here under the notice any more.
    pub evicted: Receiver<bool>,
}

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(rename = "Events")]
    events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_id: String,
    event_type: String,
    #[serde(default)]
    event_status: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    not_before: String,
}

/// Asks for as long as the worker runs.
pub async fn watch(azure: Azure, pace: Pace, mouth: Mouth) {
    let mut known = Known::default();
    let (mut events, mut names) = (mouth.trouble("scheduledevents"), mouth.trouble("instance/compute/name"));
    let mut name: Option<String> = None;
    let mut first = true;
    loop {
        let asked = Instant::now();
        // 1. Whose events are ours. Other machines of a scale set have theirs in the same document.
        if name.is_none() {
            match own_name(&azure.endpoint, pace.answer).await {
                Ok(own) => {
                    names.over();
                    name = Some(own);
                }
                Err(error) => names.met(&error),
            }
        }
        // 2. What is scheduled; asked for even without a name, so that the service stays on.
        let within = if first { pace.azure_first } else { pace.answer };
        match document(&azure.endpoint, within).await {
            Ok((document, date)) => {
                first = false;
                events.over();
                if let Some(name) = &name {
                    known.take(document, name, (date, Instant::now()), &mouth);
                }
            }
            Err(error) => events.met(&error),
        }
        // 3. Nobody waits for us.
        if azure.acknowledge && *azure.evicted.borrow() {
            for id in known.unacknowledged() {
                if acknowledge(&azure.endpoint, &id, pace.answer).await {
                    tracing::info!(event = id, "told Azure to go ahead: nothing runs here any more");
                    known.acknowledged(&id);
                }
            }
        }
        sleep_until(asked + pace.azure).await;
    }
}

/// What compute metadata says, as far as it is of use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    vm_id: String,
    #[serde(default)]
    location: String,
    /// A number within the location; empty: the machine is in no zone.
    #[serde(default)]
    zone: String,
    #[serde(default)]
    storage_profile: Storage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    #[serde(default)]
    image_reference: Image,
}

/// An image of one's own has an id, one of the marketplace the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Image {
    id: Option<String>,
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
    version: Option<String>,
}

/// Which machine this is.
///
/// # Errors
/// The document cannot be had, or has no `vmId`.
pub async fn facts(endpoint: &Endpoint, within: Duration) -> Result<Facts, AzureError> {
    let answer = ask(endpoint, Ask::get(COMPUTE, &HEADERS, within)).await?;
    if answer.status != 200 {
        return Err(AzureError::Status(answer.status));
    }
    Ok(facts_of(object(&answer.body)?))
}

fn facts_of(compute: Compute) -> Facts {
    let Compute { vm_id, location, zone, storage_profile: Storage { image_reference: image } } = compute;
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let parts = [image.publisher, image.offer, image.sku, image.version];
    let parts = || parts.into_iter().map(said).collect::<Option<Vec<_>>>().map(|parts| parts.join(":"));
    Facts {
        // As the scale set's listing has it, whichever tool wrote it here.
        instance_id: vm_id.to_ascii_lowercase(),
        image: said(image.id).or_else(parts),
        // `1` is another zone in each location.
        zone: (!zone.is_empty()).then(|| format!("{location}-{zone}")),
    }
}

async fn own_name(endpoint: &Endpoint, within: Duration) -> Result<String, AzureError> {
    let answer = ask(endpoint, Ask::get(NAME, &HEADERS, within)).await?;
    if answer.status != 200 {
        return Err(AzureError::Status(answer.status));
    }
    let name = answer.text().filter(|name| (1..=ID_MAX).contains(&name.len()) && *name == words(name));
    Ok(name.ok_or(AzureError::Name)?.to_owned())
}

async fn document(endpoint: &Endpoint, within: Duration) -> Result<(Document, Timestamp), AzureError> {
    let answer: Answer = ask(endpoint, Ask::get(EVENTS, &HEADERS, within)).await?;
    if answer.status != 200 {
        return Err(AzureError::Status(answer.status));
    }
    Ok((object(&answer.body)?, answer.date()))
}

/// Whether the service took it.
async fn acknowledge(endpoint: &Endpoint, id: &str, within: Duration) -> bool {
    let body = serde_json::json!({ "StartRequests": [{ "EventId": id }] }).to_string();
    let headers = [HEADERS[0], ("content-type", "application/json")];
    let question = Ask { method: &Method::POST, body: &body, ..Ask::get(EVENTS, &headers, within) };
    ask(endpoint, question).await.is_ok_and(|answer| answer.status == 200)
}

/// The events of this machine.
#[derive(Debug, Default)]
struct Known {
    by: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    acknowledged: bool,
}

impl Known {
    /// Compares a document with what is known, and says what changed. `date` is the server's clock at `now`.
    fn take(&mut self, document: Document, name: &str, (date, now): (Timestamp, Instant), mouth: &Mouth) {
        let ours = document.events.into_iter().filter(|event| event.is_ours(name)).take(EVENTS_MAX);
        let ours: BTreeMap<String, Event> = ours.map(|event| (event.event_id.clone(), event)).collect();
        self.by.retain(|id, _| {
            let stays = ours.contains_key(id);
            if !stays {
                mouth.say(id, None);
            }
            stays
        });
        for (id, event) in ours {
            // One that did not change keeps the time that it had when it was seen first.
            if self.by.get(&id).is_some_and(|entry| entry.event == event) {
                continue;
            }
            mouth.say(&id, Some(event.standing(date, now)));
            let acknowledged = self.by.get(&id).is_some_and(|entry| entry.acknowledged);
            self.by.insert(id, Entry { event, acknowledged });
        }
    }

    /// Those that wait for our word. One that is of other machines too is not ours to start: it would start for all of them.
    fn unacknowledged(&self) -> Vec<String> {
        let waits = |entry: &&Entry| {
            !entry.acknowledged && entry.event.event_status == "Scheduled" && entry.event.resources.len() == 1
        };
        self.by.values().filter(waits).map(|entry| entry.event.event_id.clone()).collect()
    }

    fn acknowledged(&mut self, id: &str) {
        if let Some(entry) = self.by.get_mut(id) {
            entry.acknowledged = true;
        }
    }
}

impl Event {
    /// Names have no case on Azure.
    fn is_ours(&self, name: &str) -> bool {
        let known =
            ["Preempt", "Terminate", "Redeploy", "Reboot", "Freeze"].contains(&self.event_type.as_str());
        let open = ["", "Scheduled", "Started"].contains(&self.event_status.as_str());
        let sound = (1..=ID_MAX).contains(&self.event_id.len());
        known && open && sound && self.resources.iter().any(|resource| resource.eq_ignore_ascii_case(name))
    }

    fn standing(&self, date: Timestamp, now: Instant) -> Standing {
        // A started event has no time any more.
        let left = match parse_date(&self.not_before) {
            Some(time) => Some(Duration::try_from(time.duration_since(date)).unwrap_or_default()),
            None if self.not_before.is_empty() => Some(Duration::ZERO),
            None => None,
        };
        let at = left.map(|left| now + left);
        let detail = format!("scheduled event {}", self.event_type);
        // A freeze lasts some seconds and takes nothing away.
        if self.event_type == "Freeze" {
            Standing::advice(at, &detail)
        } else {
            Standing::preemption(at, &detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::Said;
    use super::*;
    use muster_core::model::notice::{NoticeKind, NoticeSource};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    const DATE: &str = "Mon, 19 Sep 2016 18:29:17 GMT";

    /// Kind and seconds left; none: taken back.
    type Heard = Option<(NoticeKind, Option<u64>)>;

    struct Case {
        known: Known,
        mouth: Mouth,
        said: UnboundedReceiver<Said>,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            let (out, said) = unbounded_channel();
            Self {
                known: Known::default(),
                mouth: Mouth::new(NoticeSource::Azure, out),
                said,
                now: Instant::now(),
            }
        }

        /// What a document makes it say of which event.
        fn take(&mut self, json: &str) -> Vec<(String, Heard)> {
            let document = serde_json::from_str(json).unwrap();
            self.known.take(document, "gpu-vm_7", (parse_date(DATE).unwrap(), self.now), &self.mouth);
            let mut said = Vec::new();
            while let Ok(Said { part, standing, .. }) = self.said.try_recv() {
                let left = |at: Instant| (at - self.now).as_secs();
                said.push((part, standing.map(|s| (s.kind, s.at.map(left)))));
            }
            said
        }
    }

    fn event(id: &str, kind: &str, rest: &str) -> String {
        format!(
            r#"{{"DocumentIncarnation": 1, "Events": [{{"EventId": "{id}", "EventType": "{kind}",
                "ResourceType": "VirtualMachine", "EventSource": "Platform", "DurationInSeconds": -1 {rest}}}]}}"#
        )
    }

    const SOON: &str = r#", "Resources": ["GPU-vm_7"], "EventStatus": "Scheduled", "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT""#;

    #[test]
    fn an_event_stands_until_it_leaves_the_document() {
        let mut case = Case::new();
        let preempt = event("e1", "Preempt", SOON);
        assert_eq!(case.take(&preempt), [("e1".into(), Some((NoticeKind::Preemption, Some(30))))]);
        assert_eq!(case.take(&preempt), []);
        let started = event(
            "e1",
            "Preempt",
            r#", "Resources": ["gpu-vm_7"], "EventStatus": "Started", "NotBefore": """#,
        );
        assert_eq!(case.take(&started), [("e1".into(), Some((NoticeKind::Preemption, Some(0))))]);
        assert_eq!(case.take(r#"{"DocumentIncarnation": 3, "Events": []}"#), [("e1".into(), None)]);
    }

    #[test]
    fn a_freeze_is_advice_and_events_of_others_are_none() {
        let mut case = Case::new();
        let freeze = event("e1", "Freeze", SOON);
        assert_eq!(case.take(&freeze), [("e1".into(), Some((NoticeKind::Advice, Some(30))))]);
        let mut case = Case::new();
        let other = r#", "Resources": ["gpu-vm_8"], "EventStatus": "Scheduled", "NotBefore": """#;
        for nothing in [event("e1", "Preempt", other), event("e2", "Dance", SOON), event("", "Preempt", SOON)]
        {
            assert_eq!(case.take(&nothing), [], "{nothing}");
        }
    }

    #[test]
    fn only_what_is_ours_alone_is_ours_to_start() {
        let mut case = Case::new();
        case.take(&event("e1", "Preempt", SOON));
        assert_eq!(case.known.unacknowledged(), ["e1"]);
        case.known.acknowledged("e1");
        assert!(case.known.unacknowledged().is_empty());
        let shared =
            r#", "Resources": ["gpu-vm_7", "gpu-vm_8"], "EventStatus": "Scheduled", "NotBefore": """#;
        case.take(&event("e2", "Reboot", shared));
        assert!(case.known.unacknowledged().is_empty());
    }

    #[test]
    fn a_time_that_cannot_be_read_is_unknown() {
        let mut case = Case::new();
        let odd = r#", "Resources": ["gpu-vm_7"], "EventStatus": "Scheduled", "NotBefore": "soon""#;
        assert_eq!(
            case.take(&event("e1", "Preempt", odd)),
            [("e1".into(), Some((NoticeKind::Preemption, None)))]
        );
        for bad in ["", "[]", "[[]]", "{}", "{\"Events\": 1}", "{\"Events\": [{}]}", "\u{0}"] {
            assert!(object::<Document>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
