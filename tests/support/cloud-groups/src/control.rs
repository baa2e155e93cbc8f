//! What tests say happens in the clouds.

use crate::State;
use crate::asg;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// What is wrong with what it is told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no {0:?} to set")]
    Unknown(String),
    #[error("the body does not fit {what:?}: {source}")]
    Body { what: String, source: serde_json::Error },
}

pub fn put(state: &mut State, what: &str, body: &Value) -> Result<(), ControlError> {
    let now = state.now();
    match what {
        "passed" => state.passed += Duration::from_secs(parse(what, body)?),
        "faults" => state.faults.push(parse(what, body)?),
        _ => match what.split_once('/') {
            Some(("asg", rest)) => asg::control::put(&mut state.asg, rest, body, now)?,
            _ => return Err(ControlError::Unknown(what.to_owned())),
        },
    }
    Ok(())
}

pub fn delete(state: &mut State, what: &str) -> Result<(), ControlError> {
    let now = state.now();
    match what {
        "faults" => state.faults.clear(),
        _ => match what.split_once('/') {
            Some(("asg", rest)) => asg::control::delete(&mut state.asg, rest, now)?,
            _ => return Err(ControlError::Unknown(what.to_owned())),
        },
    }
    Ok(())
}

pub fn seen(state: &mut State) -> Value {
    let now = state.now();
    json!({ "calls": state.calls, "asg": asg::control::seen(&mut state.asg, now) })
}

pub fn parse<T: DeserializeOwned>(what: &str, body: &Value) -> Result<T, ControlError> {
    serde_json::from_value(body.clone())
        .map_err(|source| ControlError::Body { what: what.to_owned(), source })
}
