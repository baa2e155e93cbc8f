//! muster-tests: a cluster of real processes on loopback, for tests of what crosses a network or a disk.
//!
//! One test binary a kind (`tests/cluster`), because each link of RocksDB is slow; [`chaos`] is the program `muster-chaos`. Nothing here sleeps for a result: it waits for
//! a state and fails with what it saw when the state does not come.

#[allow(clippy::print_stdout, clippy::print_stderr)] // a program's own output
pub mod chaos;
pub mod cluster;
pub mod http;
pub mod members;
pub mod process;
pub mod puppet;
pub mod wait;

pub use cluster::{Cluster, free_port, voters};
pub use http::{Answer, Http};
pub use members::{Submissions, job_ids};
pub use process::{Cli, Ran};
pub use puppet::Puppet;
pub use wait::until;
