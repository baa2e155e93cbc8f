//! Drivers against servers that answer as their providers do.

mod azure;
mod faults;
mod gcp;
