//! What can be wrong with a service.

use serde::{Deserialize, Serialize};

/// Instead of an answer, or before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// Only calls whose name has this in it.
    #[serde(default)]
    pub action: String,
    /// Of kind `error`: the status, the code and the words of the error.
    #[serde(default = "internal")]
    pub status: u16,
    #[serde(default = "code")]
    pub code: String,
    #[serde(default)]
    pub message: String,
    /// Of kind `throttle`: the header that says when to come back.
    #[serde(default)]
    pub after_s: Option<u64>,
    /// Of kind `slow`: how late the answer is.
    #[serde(default)]
    pub delay_ms: u64,
    /// It is over after so many calls. Default: when it is taken back.
    #[serde(default)]
    pub times: Option<u32>,
}

fn internal() -> u16 {
    500
}

fn code() -> String {
    "InternalFailure".into()
}

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Another answer, in the words of the cloud; nothing is done.
    Error,
    /// Too many calls; nothing is done.
    Throttle,
    /// A page of somebody in between, with `status`; nothing is done.
    Html,
    /// No answer at all; nothing is done.
    Hang,
    /// 200, and bytes that mean nothing; nothing is done.
    Junk,
    /// It is done, and the connection ends in the middle of the answer.
    Lost,
    /// It is done, and answered late.
    Slow,
}

impl FaultKind {
    /// Whether the call is carried out all the same.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Lost | Self::Slow)
    }
}

/// The first that fits; one that is over is forgotten.
pub fn take(faults: &mut Vec<Fault>, action: &str) -> Option<Fault> {
    let at = faults.iter().position(|fault| action.contains(fault.action.as_str()))?;
    let fault = faults[at].clone();
    if let Some(times) = &mut faults[at].times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            faults.remove(at);
        }
    }
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fault_counts_the_calls_that_it_is_for() {
        let fault = json!({"kind": "throttle", "action": "Set", "times": 2});
        let mut faults = vec![serde_json::from_value::<Fault>(fault).unwrap()];
        assert!(take(&mut faults, "DescribeAutoScalingGroups").is_none());
        assert!(take(&mut faults, "SetDesiredCapacity").is_some());
        assert!(take(&mut faults, "SetInstanceProtection").is_some());
        assert!(take(&mut faults, "SetDesiredCapacity").is_none() && faults.is_empty());
    }
}
