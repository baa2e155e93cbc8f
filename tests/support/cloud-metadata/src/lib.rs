//! The metadata services of three clouds, for tests: AWS (version 2 with its tokens), Google (with its hanging GET) and Azure
//! (scheduled events), as their documentation describes them: headers, tokens, errors, times. Never compared with a real cloud.
//!
//! One server has many machines: a machine `w1` is asked under `/w1/…`, one without a name at the root. What happens to a machine is
//! said to `/_control/MACHINE/…` over HTTP, or to [`Emulator::put`] from within:
//!
//! | `PUT` (`DELETE` takes it back) | body |
//! |---|---|
//! | `aws/machine` | `{"id": "i-0abc", "image": "ami-0abc", "zone": "eu-west-1a"}`; what is left out is not there |
//! | `gcp/machine` | the same: `{"id": "4711", "zone": "projects/1/zones/us-central1-a"}` |
//! | `azure/compute` | `{"vmId": "…", "location": "westeurope", "zone": "1", "storageProfile": {"imageReference": {"id": "…"}}}` |
//! | `aws/instance-action` | `{"action": "terminate", "in_ms": 120000}` |
//! | `aws/rebalance` | `null` |
//! | `aws/lifecycle` | `"Terminated"` |
//! | `aws/token-ttl` | `2`: tokens live so many seconds at most |
//! | `aws/tokens` | `DELETE` only: all of them are void |
//! | `gcp/preempted` | `true` |
//! | `gcp/maintenance-event` | `"TERMINATE_ON_HOST_MAINTENANCE"` |
//! | `azure/name` | `"gpu-vm_7"` (default: the machine's) |
//! | `azure/events/ID` | `{"type": "Preempt", "in_ms": 30000, "resources": ["gpu-vm_7"], "status": "Scheduled"}` |
//! | `skew` | `-3600000`: the service's clock is so many ms ahead of this machine's |
//! | `fault` | `{"kind": "status", "status": 500, "path": "/latest/api/token"}`; kinds `status hang junk large slow cut` |
//!
//! `GET /_control/MACHINE` tells what was asked (`requests`) and what Azure was told to begin (`acknowledged`).

mod aws;
mod azure;
mod fault;
mod gcp;
mod machine;
mod serve;

pub use machine::ControlError;

use machine::Machine;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A running emulator; it ends with its value.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    clouds: Arc<Clouds>,
    server: tokio::task::JoinHandle<()>,
}

/// All machines.
#[derive(Debug)]
struct Clouds {
    machines: Mutex<BTreeMap<String, Machine>>,
    /// Goes up with every change: whoever waits looks again.
    changes: watch::Sender<u64>,
}

impl Emulator {
    /// Listens on `address`; port 0 takes one that is free.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let clouds = Arc::new(Clouds { machines: Mutex::default(), changes: watch::channel(0).0 });
        let server = tokio::spawn(serve::accept(listener, clouds.clone()));
        Ok(Self { address, clouds, server })
    }

    /// The endpoint of a machine: `http://127.0.0.1:PORT/MACHINE`.
    #[must_use]
    pub fn endpoint(&self, machine: &str) -> String {
        format!("http://{}/{machine}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `PUT /_control/MACHINE/WHAT` does.
    ///
    /// # Errors
    /// There is no such thing, or the body does not fit it.
    pub fn put(&self, machine: &str, what: &str, body: &Value) -> Result<(), ControlError> {
        self.clouds.change(machine, |m| m.put(what, body))
    }

    /// What `DELETE /_control/MACHINE/WHAT` does.
    ///
    /// # Errors
    /// There is no such thing.
    pub fn delete(&self, machine: &str, what: &str) -> Result<(), ControlError> {
        self.clouds.change(machine, |m| m.delete(what))
    }

    /// What `GET /_control/MACHINE` tells.
    #[must_use]
    pub fn seen(&self, machine: &str) -> Value {
        self.clouds.with(machine, |m| m.seen())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Clouds {
    fn with<T>(&self, machine: &str, look: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machines = self.machines.lock();
        look(machines.entry(machine.to_owned()).or_insert_with(|| Machine::new(machine)))
    }

    fn change<T>(&self, machine: &str, change: impl FnOnce(&mut Machine) -> T) -> T {
        let result = self.with(machine, change);
        self.changes.send_modify(|n| *n += 1);
        result
    }
}
