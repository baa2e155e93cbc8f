//! Groups of machines of clouds, for tests: real servers over real HTTP that answer as the documentation of each cloud says, check what
//! they are asked (method, path, headers, token, version of the API), keep the groups' bounds and record every call. Never compared
//! with a real cloud.
//!
//! `gcp`: Compute Engine's managed instance groups with both ways to a token. `azure`: virtual machine scale sets, the same.
//! `serve_json`: what they share: a server, its record of calls, its faults.
//!
//! Machines come and go when the test says so (`settle`), never by themselves. A group whose size is lowered chooses a victim as its
//! cloud would, a running one too: a driver that leaves the choice to the group is seen by what it did.

pub mod azure;
pub mod gcp;
pub mod serve_json;
