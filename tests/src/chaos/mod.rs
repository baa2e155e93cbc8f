//! `muster-chaos`: a real cluster in network namespaces, loaded and tormented from a seed, then healed and judged.
//!
//! Three members and six workers are processes of the binary under test, each in a network namespace of its own on a bridge, with mutual
//! TLS. One run is: start, load with faults, heal, demand that everything finishes, judge. What is judged does not trust the product:
//! tasks take the kernel's locks (`flock`) and write a ledger, clients write down what they called and what they heard.
//!
//! - [`sandbox`]: namespaces of this run, so that nothing of it is left on the machine, however it ends;
//! - [`net`], [`proxy`], [`node`], [`world`]: the cluster; [`pki`]: its certificates;
//! - [`schedule`], [`faults`], [`nemesis`]: what goes wrong, and when;
//! - [`task`], [`ledger`]: the program that the tasks run, and what it writes;
//! - [`client`], [`jobs`], [`load`], [`history`]: who submits, and what was answered;
//! - [`oracles`]: the judges; [`run`]: the order of it all.
//!
//! What it leaves out: clocks and faults in virtual time (`muster-sim`), failpoints inside the store (the coordinator's own tests).

pub mod client;
pub mod evidence;
pub mod faults;
pub mod history;
pub mod jobs;
pub mod ledger;
pub mod load;
pub mod nemesis;
pub mod net;
pub mod node;
pub mod options;
pub mod oracles;
pub mod pki;
pub mod proxy;
pub mod run;
pub mod sandbox;
pub mod schedule;
pub mod sweep;
pub mod sys;
pub mod task;
pub mod world;
