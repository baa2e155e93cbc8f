//! Auto Scaling groups of AWS.
//!
//! Every call names its victim: a machine is ended by id, with one less wanted. The two ways in which AWS could choose by itself are
//! closed: a number is lowered only to where all machines in service stay, and these are protected from scale-in before it is
//! ([`scale`]). Protection is against scale-in alone: a machine that is ended by id, taken back by the spot market or found unhealthy
//! goes all the same.
//!
//! What AWS cannot be told: `generation`. No call has a place for it; an older leader's late call is harmless because numbers are
//! absolute, and a machine that is on its way out is not ended (and counted off) a second time.
//!
//! Left out: groups that count something other than machines (weights, vCPUs), warm pools, hooks at the start of a machine, and queues
//! of events (a worker hears of its end from its own machine's metadata).

mod client;
mod config;
mod driver;
mod failure;
mod scale;
mod view;

pub use config::AwsAsgConfig;
pub(crate) use driver::AwsAsg;
