//! A `libnvidia-ml.so` without a GPU: the symbols that the worker uses, answered from a file.
//!
//! A test copies the shared object to a directory of its own ([`install()`]), and the copy reads the file `NAME.json` beside itself: devices,
//! links, processes, events, calls that fail or hang ([`Scenario`]). The file is read again when it changes, so a test turns a healthy
//! machine into a sick one while the worker runs. Each copy is a library of its own to the loader: tests run side by side.
//!
//! What it leaves out: everything that the worker does not call, and being right about timing and power.

// NVML names its functions, not we.
#![allow(non_snake_case)]

mod calls;
mod events;
mod install;
mod scenario;
mod state;

pub use install::{Installed, install};
pub use scenario::{Event, Failure, Gpu, Mig, NvLink, Path, Process, Remapped, Scenario};
