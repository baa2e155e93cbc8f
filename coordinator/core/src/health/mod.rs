//! Which events take a device out of service: a table that ships with the program, and whose rows an operator's file may replace.

mod policy;

pub use policy::{Action, Class, PolicyError, Rule, XidPolicy};
