//! Verbs about this program itself.

pub mod completions;
pub mod man;
pub mod schema;
