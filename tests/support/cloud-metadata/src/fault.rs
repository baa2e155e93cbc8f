//! What can be wrong with a service.

use serde::Deserialize;

/// Instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// Of kind `status`. Default: 500.
    #[serde(default = "internal")]
    pub status: u16,
    /// Only where the path has this in it.
    #[serde(default)]
    pub path: String,
}

fn internal() -> u16 {
    500
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Another status.
    Status,
    /// Nothing at all. The token of AWS behind one hop too many is lost so.
    Hang,
    /// 200, and bytes that mean nothing.
    Junk,
    /// 200, and far more than anybody wants.
    Large,
    /// 200, and a byte a second.
    Slow,
    /// 200, and a connection that ends in the middle.
    Cut,
}
