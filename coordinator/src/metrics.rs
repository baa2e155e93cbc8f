//! `/metrics`: what is counted while it happens, and the text that is made of it and of the state at each scrape.
//!
//! `counters` counts on the member that leads, so that a sum over the members counts nothing twice; a new leader goes on from its own numbers, as
//! `rate()` expects. `scrape` reads state, signals and measurements. `text` writes both formats: the crates that write OpenMetrics don't write the
//! older text that `promtool check metrics` reads, and the others know no OpenMetrics.
//!
//! Architecture invariant: the number of series is bounded by what an operator configures and by the machines there are, never by jobs, users or
//! tasks (`scrape` has the limits).

mod counters;
mod histogram;
mod scrape;
mod text;

pub use counters::Counters;
pub use histogram::{Histogram, Snapshot};
pub use text::Format;
