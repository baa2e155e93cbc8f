//! The interfaces by which clouds are asked for machines, for tests: Auto Scaling of AWS ([`asg`]), as its documentation and its own
//! error messages describe it: signatures, bounds, lifecycle hooks with their heartbeats, protection, refusals. Over real HTTP. Never
//! compared with a real cloud; no machine exists, only what its cloud would say of it.
//!
//! What happens in the cloud is said to `/_control/…` over HTTP, or to [`Emulator::put`] from within:
//!
//! | `PUT` (`DELETE` takes it back) | body |
//! |---|---|
//! | `asg/groups/NAME` | what is named of `min max desired template tags hooks boots linger available protect_new`: a group is made, or changed by hand |
//! | `asg/in-service` | `null`: all machines that are pending have come up; `["i-1"]`: these |
//! | `asg/instances/ID` | `{"state": "Standby", "protected": true}`; `DELETE`: the machine is gone without a word |
//! | `asg/reclaim/ID` | `null`: the cloud wants this machine back (a spot interruption): hooks hold it, another one is started |
//! | `asg/key` | `{"id": "AKIDEXAMPLE", "secret": "…"}`: whose signatures are accepted (default: anybody's) |
//! | `asg/empty-pages` | `1`: so many pages of a description have nothing but a token for the next |
//! | `passed` | `3600`: so many seconds have passed |
//! | `faults` | `{"kind": "throttle", "action": "SetDesiredCapacity", "times": 1}`, see [`Fault`]; `DELETE`: none of them any more |
//!
//! `gcp`: Compute Engine's managed instance groups with both ways to a token. `azure`: virtual machine scale sets, the same.
//! `serve_json`: what these two share: a server, its record of calls, its faults. A group whose size is lowered chooses a victim as its
//! cloud would, a running one too: a driver that leaves the choice to the group is seen by what it did.
//!
//! `GET /_control` tells what was asked in its order (`calls`) and what became of the groups (`asg`).

pub mod asg;
pub mod azure;
mod call;
mod control;
mod fault;
pub mod gcp;
mod serve;
pub mod serve_json;

pub use call::Call;
pub use control::ControlError;
pub use fault::{Fault, FaultKind};

use parking_lot::Mutex;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// A running emulator; it ends with its value.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

/// All that it knows.
#[derive(Debug)]
struct State {
    asg: asg::Asg,
    calls: Vec<Call>,
    faults: Vec<Fault>,
    started: Instant,
    /// What a test says has passed besides.
    passed: Duration,
}

impl State {
    /// Time since the start, by the clouds' clock.
    fn now(&self) -> Duration {
        self.started.elapsed() + self.passed
    }
}

impl Emulator {
    /// Listens on `address`; port 0 takes one that is free.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            asg: asg::Asg::default(),
            calls: Vec::new(),
            faults: Vec::new(),
            started: Instant::now(),
            passed: Duration::ZERO,
        }));
        let server = tokio::spawn(serve::accept(listener, state.clone()));
        Ok(Self { address, state, server })
    }

    /// `http://127.0.0.1:PORT`, the endpoint of all of its clouds.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `PUT /_control/WHAT` does.
    ///
    /// # Errors
    /// There is no such thing, or the body does not fit it.
    pub fn put(&self, what: &str, body: &Value) -> Result<(), ControlError> {
        control::put(&mut self.state.lock(), what, body)
    }

    /// What `DELETE /_control/WHAT` does.
    ///
    /// # Errors
    /// There is no such thing.
    pub fn delete(&self, what: &str) -> Result<(), ControlError> {
        control::delete(&mut self.state.lock(), what)
    }

    /// Every call so far, the first one first; those that were refused or fell to a fault too.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    /// What `GET /_control` tells.
    #[must_use]
    pub fn seen(&self) -> Value {
        control::seen(&mut self.state.lock())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}
