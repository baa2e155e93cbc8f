//! The ledger: where every GPU-second and every USD went. Every thousandth of every device is in exactly one class at any moment
//! ([`class::Class`]); the classes sum to what there was, exactly, and each has a price.
//!
//! Event-sourced: the state books what has passed whenever what is changes (`state/apply/ledger.rs`), so the books are as durable and as equal
//! on all members as the log. Here is the arithmetic; what of the state means what is in `state/accounting.rs`. Left out: what a machine's
//! provider truly bills (a minimum of a minute, a discount), and the time of machines while they boot.

pub mod account;
pub mod amount;
pub mod books;
pub mod class;
pub mod forecast;
pub mod meter;
pub mod month;
pub mod price;
pub mod report;

pub use account::{Account, AccountKey};
pub use amount::{Amount, Amounts};
pub use books::{JobBooks, Ledger, Owner, Totals};
pub use class::Class;
pub use forecast::forecast;
pub use meter::{EmptyPart, Meter, Spell, Tab};
pub use month::Month;
pub use report::{BadQuery, By, Counters, Query};
