//! What was asked, for tests to read.

use serde::Serialize;
use std::collections::BTreeMap;

/// One call, whatever came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// `asg`, …
    pub cloud: &'static str,
    /// As the cloud names it: `SetDesiredCapacity`.
    pub action: String,
    /// Its parameters, without those that every call has.
    pub parameters: BTreeMap<String, String>,
    /// The status that was answered; 0: no answer, by a fault.
    pub status: u16,
    /// The code of the error, empty where there was none.
    pub code: String,
}

impl Call {
    /// A parameter, empty where it was not given.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}
