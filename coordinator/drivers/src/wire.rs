//! What somebody's own program or web hook is told and may answer: the JSON of the drivers `exec` and `webhook`.

use crate::{Group, Instance, Phase};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of an answer: ten thousand machines have room in it.
pub const ANSWER_MAX: usize = 1 << 20;
/// Most bytes of a machine's id; a label's value has no more.
const ID_MAX: usize = 256;

/// A verb of [`crate::Driver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Describe,
    SetDesired,
    Terminate,
    Hold,
    Release,
    Protect,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::SetDesired => "set_desired",
            Self::Terminate => "terminate",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Protect => "protect",
        }
    }
}

/// What is to be done. What does not belong to the action is left out.
#[derive(Debug, Serialize)]
pub struct Order<'a> {
    pub pool: &'a str,
    pub action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<&'a [String]>,
    /// Of `protect`: whether they are to be protected from now on, or no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    pub sent: Timestamp,
}

impl<'a> Order<'a> {
    pub fn new(pool: &'a str, action: Action) -> Self {
        Self {
            pool,
            action,
            desired: None,
            instance: None,
            instances: None,
            on: None,
            generation: None,
            sent: Timestamp::now(),
        }
    }

    pub fn set_desired(pool: &'a str, desired: u32, generation: u64) -> Self {
        let (desired, generation) = (Some(desired), Some(generation));
        Self { desired, generation, ..Self::new(pool, Action::SetDesired) }
    }

    pub fn terminate(pool: &'a str, instance: &'a str, generation: u64) -> Self {
        Self { generation: Some(generation), ..Self::of(pool, Action::Terminate, instance) }
    }

    /// `hold` and `release`.
    pub fn of(pool: &'a str, action: Action, instance: &'a str) -> Self {
        Self { instance: Some(instance), ..Self::new(pool, action) }
    }

    pub fn protect(pool: &'a str, instances: &'a [String], on: bool) -> Self {
        Self { instances: Some(instances), on: Some(on), ..Self::new(pool, Action::Protect) }
    }

    /// As JSON.
    ///
    /// # Errors
    /// None that can happen: there is nothing in it that JSON lacks.
    pub fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// Why an answer is no group.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("an id of a machine is empty, begins with `-`, has spaces or more than {ID_MAX} bytes")]
    Id,
    #[error("machine {0:?} is there twice")]
    Twice(String),
}

#[derive(Deserialize)]
struct Answer {
    desired: u32,
    #[serde(default)]
    min: u32,
    /// Without: no bound.
    max: Option<u32>,
    instances: Vec<Machine>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Machine {
    id: String,
    phase: PhaseWord,
    #[serde(default)]
    protected: bool,
    image: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PhaseWord {
    Booting,
    InService,
    Held,
    Going,
}

/// Reads the answer to `describe`: a group; nothing, or `null`, where it cannot say.
///
/// # Errors
/// [`AnswerError`].
pub fn group(answer: &[u8]) -> Result<Option<Group>, AnswerError> {
    if answer.trim_ascii().is_empty() {
        return Ok(None);
    }
    let Some(answer) = serde_json::from_slice::<Option<Answer>>(answer)? else { return Ok(None) };
    let mut seen = BTreeSet::new();
    for machine in &answer.instances {
        if !is_id(&machine.id) {
            return Err(AnswerError::Id);
        }
        if !seen.insert(&machine.id) {
            return Err(AnswerError::Twice(machine.id.clone()));
        }
    }
    let instances = answer.instances.into_iter().map(Instance::from).collect();
    Ok(Some(Group {
        desired: answer.desired,
        min: answer.min,
        max: answer.max.unwrap_or(u32::MAX),
        instances,
        labels: answer.labels,
    }))
}

/// Whether the machines that an order names may be named to a program or in a header: where the group is not described, their ids are what
/// the workers themselves say.
///
/// # Errors
/// [`AnswerError::Id`].
pub fn check(order: &Order<'_>) -> Result<(), AnswerError> {
    let listed = order.instances.unwrap_or_default().iter().map(String::as_str);
    if order.instance.into_iter().chain(listed).all(is_id) { Ok(()) } else { Err(AnswerError::Id) }
}

/// It becomes an argument and part of a header, so it is one plain word that is no option.
fn is_id(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len()) && !id.starts_with('-') && id.bytes().all(|b| b.is_ascii_graphic())
}

impl From<Machine> for Instance {
    fn from(machine: Machine) -> Self {
        let phase = match machine.phase {
            PhaseWord::Booting => Phase::Booting,
            PhaseWord::InService => Phase::InService,
            PhaseWord::Held => Phase::Held,
            PhaseWord::Going => Phase::Going,
        };
        Self { id: machine.id, phase, protected: machine.protected, image: machine.image }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_with_its_defaults() {
        let text = r#"{"desired": 2, "instances": [{"id": "a", "phase": "in_service"}, {"id": "b", "phase": "held", "protected": true, "image": "v2"}], "labels": {"zone": "b"}}"#;
        let instances = vec![
            Instance { id: "a".into(), phase: Phase::InService, protected: false, image: None },
            Instance { id: "b".into(), phase: Phase::Held, protected: true, image: Some("v2".into()) },
        ];
        let labels = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
        let group = group(text.as_bytes()).expect("a group");
        assert_eq!(group, Some(Group { desired: 2, min: 0, max: u32::MAX, instances, labels }));
    }

    #[test]
    fn nothing_is_no_answer_and_half_a_group_is_an_error() {
        for nothing in ["", " \n", "null"] {
            assert_eq!(group(nothing.as_bytes()).expect("no group"), None, "{nothing:?}");
        }
        // Without its list of machines a group would look empty, and machines that run would be taken for gone.
        for half in [
            r#"{"desired": 2}"#,
            r#"{"instances": []}"#,
            r#"{"desired": -1, "instances": []}"#,
            r#"{"desired": 1, "instances": [{"id": "a", "phase": "up"}]}"#,
            r#"{"desired": 1, "instances": [{"id": "", "phase": "held"}]}"#,
            r#"{"desired": 1, "instances": [{"id": "--all", "phase": "held"}]}"#,
            r#"{"desired": 1, "instances": [{"id": "a", "phase": "held"}, {"id": "a", "phase": "held"}]}"#,
            "[]",
            "ok",
        ] {
            assert!(group(half.as_bytes()).is_err(), "{half}");
        }
    }

    #[test]
    fn an_order_has_what_belongs_to_its_action() {
        let mut order = Order::terminate("spot", "i-1", 7);
        order.sent = Timestamp::UNIX_EPOCH;
        let text = String::from_utf8(order.json().expect("JSON")).expect("text");
        assert_eq!(
            text,
            r#"{"pool":"spot","action":"terminate","instance":"i-1","generation":7,"sent":"1970-01-01T00:00:00Z"}"#
        );
    }
}
