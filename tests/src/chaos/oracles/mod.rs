//! The judges. Each is a function from what was written down to what is wrong with it, so that each can be shown a wrong history in a test
//! and has to find it.
//!
//! - [`kernel`]: what the tasks saw with the kernel's help (I3, I4, I5);
//! - [`promises`]: what clients were told against how it ended (I1, I2, I10, I11);
//! - [`order`]: is there one order of all calls that explains all answers (I14);
//! - [`agreement`]: do all members say the same (I15);
//! - [`books`]: is every GPU-second accounted for (I21).

pub mod agreement;
pub mod books;
pub mod kernel;
pub mod order;
pub mod promises;

use serde::Serialize;
use std::fmt;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// Of `RELIABILITY`'s list: `I1` to `I21`.
    pub invariant: &'static str,
    pub text: String,
}

impl Violation {
    /// A finding.
    #[must_use]
    pub fn new(invariant: &'static str, text: impl Into<String>) -> Self {
        Self { invariant, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}
