//! Real GPUs, through NVIDIA's management library, which is opened at run time.
//!
//! ```text
//!  agent ── events, samples, residue ──► Board (memory) ◄── reader thread: a round every 2 s, or at once when somebody waits
//!                                            ▲                    all calls but one, in order
//!                                            └────────────── listener thread: waits for XID and ECC events
//! ```
//! Architecture invariant: no call of the library is made on a thread of the agent. A driver that hangs holds the reader only; whoever asks
//! the board learns that the round under way is older than the deadline, and the devices are unhealthy for as long as it lasts.
//!
//! What it leaves out: changing anything on a device (modes, clocks, resets), and what an XID means (the coordinator's policy).

mod board;
mod inventory;
mod library;
mod listener;
mod reader;
mod residue;
mod sampler;
mod topology;
mod watch;

#[cfg(test)]
mod nvml_test;

use super::{Device, Devices, Driver, Event, Health, Residue, Sample};
use board::Board;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// What the loader looks for when the configuration names no library.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// How the devices are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A path, or a name for the loader.
    pub library: OsString,
    /// Between two rounds of reading.
    pub period: Duration,
    /// A round that takes longer means a driver that does not answer.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { library: LIBRARY.into(), period: Duration::from_secs(2), deadline: Duration::from_secs(10) }
    }
}

/// Why there are no real devices.
#[derive(Debug, thiserror::Error)]
pub enum NvmlError {
    #[error("cannot open {library}")]
    Open { library: String, source: nvml_wrapper::error::NvmlError },
    #[error("{call} failed")]
    Call { call: &'static str, source: nvml_wrapper::error::NvmlError },
    #[error("the driver does not answer for {} s", .0.as_secs_f32())]
    Hung(Duration),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("the thread that reads the devices ended")]
    Ended,
}

impl NvmlError {
    /// Whether it only means that the machine has no driver.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        use nvml_wrapper::error::NvmlError as E;
        matches!(
            self,
            Self::Open { source: E::LibloadingError(_) | E::DriverNotLoaded | E::LibraryNotFound, .. }
        )
    }
}

/// The GPUs of this machine.
#[derive(Debug)]
pub struct Nvml {
    devices: Vec<Device>,
    driver: Driver,
    board: Arc<Board>,
}

impl Nvml {
    /// Opens the library, reads what is there, and goes on reading until this is dropped.
    ///
    /// # Errors
    /// There is no library or no driver, or it does not answer within the deadline.
    pub fn open(options: &Options) -> Result<Self, NvmlError> {
        let board = Arc::new(Board::new(options.deadline));
        let found = reader::start(options, &board)?;
        let (devices, driver) = match found.recv_timeout(options.deadline) {
            Ok(found) => found?,
            Err(RecvTimeoutError::Timeout) => {
                board.stop();
                return Err(NvmlError::Hung(options.deadline));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(NvmlError::Ended),
        };
        listener::start(options, &board, &devices)?;
        Ok(Self { devices, driver, board })
    }
}

impl Drop for Nvml {
    /// The threads end by themselves; one that hangs in the driver is not waited for.
    fn drop(&mut self) {
        self.board.stop();
    }
}

impl Devices for Nvml {
    fn fingerprint(&self) -> Vec<Device> {
        self.devices.clone()
    }

    fn driver(&self) -> Driver {
        self.driver.clone()
    }

    fn health(&self) -> Vec<(String, Health)> {
        self.board.health(&self.devices)
    }

    fn sample(&self) -> Vec<Sample> {
        self.board.samples()
    }

    fn events(&self) -> Vec<Event> {
        self.board.take_events(&self.devices)
    }

    fn granted(&self, uuids: &[String]) {
        self.board.granted(uuids);
    }

    fn residue(&self, uuid: &str, shared: bool, ended: Instant) -> Residue {
        self.board.residue(uuid, shared, ended)
    }

    fn probe(&self, uuids: &[String]) -> Vec<Event> {
        self.board.probe(uuids);
        Vec::new()
    }

    fn not_clean(&self, uuid: &str, reason: &str) {
        self.board.not_clean(uuid, reason);
    }
}
