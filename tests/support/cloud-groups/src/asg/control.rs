//! What tests say happens in the groups, and what they see of it.

use super::group::{Change, Group, Lifecycle};
use super::{Asg, signature};
use crate::control::{ControlError, parse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHand {
    state: Option<Lifecycle>,
    protected: Option<bool>,
}

pub fn put(asg: &mut Asg, what: &str, body: &Value, now: Duration) -> Result<(), ControlError> {
    asg.settle(now);
    match what.split_once('/').unwrap_or((what, "")) {
        ("groups", name) => {
            let change: Change = parse(what, body)?;
            let group = asg.groups.entry(name.to_owned()).or_default();
            name.clone_into(&mut group.name);
            group.change(change);
        }
        ("in-service", "") => {
            let ids: Option<Vec<String>> = parse(what, body)?;
            let all = asg.groups.values_mut().flat_map(|group| group.instances.iter_mut());
            for (id, instance) in all {
                if instance.state == Lifecycle::Pending && ids.as_ref().is_none_or(|ids| ids.contains(id)) {
                    instance.state = Lifecycle::InService;
                }
            }
        }
        ("instances", id) => {
            let ByHand { state, protected } = parse(what, body)?;
            let instance = held_by(asg, what, id)?.instances.get_mut(id).ok_or_else(|| unknown(what))?;
            instance.state = state.unwrap_or(instance.state);
            instance.protected = protected.unwrap_or(instance.protected);
        }
        ("reclaim", id) => held_by(asg, what, id)?.end(id, now),
        ("key", "") => asg.key = Some(parse::<signature::Key>(what, body)?),
        ("empty-pages", "") => asg.empty_pages = parse(what, body)?,
        _ => return Err(unknown(what)),
    }
    asg.settle(now);
    Ok(())
}

pub fn delete(asg: &mut Asg, what: &str, now: Duration) -> Result<(), ControlError> {
    match what.split_once('/').unwrap_or((what, "")) {
        ("groups", name) => drop(asg.groups.remove(name)),
        ("instances", id) => drop(held_by(asg, what, id)?.instances.remove(id)),
        ("key", "") => asg.key = None,
        _ => return Err(unknown(what)),
    }
    asg.settle(now);
    Ok(())
}

pub fn seen(asg: &mut Asg, now: Duration) -> Value {
    asg.settle(now);
    json!(asg.groups)
}

fn held_by<'a>(asg: &'a mut Asg, what: &str, id: &str) -> Result<&'a mut Group, ControlError> {
    asg.group_of(id).ok_or_else(|| unknown(what))
}

fn unknown(what: &str) -> ControlError {
    ControlError::Unknown(format!("asg/{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_be_is_refused() {
        let mut asg = Asg::default();
        let now = Duration::ZERO;
        put(&mut asg, "groups/g", &json!({"max": 2, "desired": 1, "boots": "at_once"}), now).unwrap();
        assert_eq!(seen(&mut asg, now)["g"]["instances"].as_object().unwrap().len(), 1);
        let bad = [
            ("groups/g", json!({"maximum": 2})),
            ("instances/i-1", json!({})),
            ("reclaim/i-1", Value::Null),
            ("price", json!(1)),
            ("key", json!({"id": "a"})),
        ];
        for (what, body) in bad {
            assert!(put(&mut asg, what, &body, now).is_err(), "{what}");
        }
        assert!(delete(&mut asg, "instances/i-1", now).is_err());
    }
}
