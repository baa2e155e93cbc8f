//! The drivers against what they drive. AWS: moto, which others wrote, for what it can do, and our own emulator for what it lacks (hooks,
//! bounds, signatures, faults). Google and Azure: emulators. Programs, servers over real HTTP, and a real Slurm.

#![allow(clippy::print_stderr)] // a test that is skipped says why

mod aws_emulator;
mod aws_moto;
mod azure;
mod exec;
mod faults;
mod gcp;
#[path = "../../../../store/tests/store/moto.rs"]
mod moto;
mod slurm;
mod slurm_cluster;
mod webhook;
mod webhook_server;

use muster_drivers::{Driver, DriverConfig, DriverError};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

/// The driver of a pool whose table says this.
pub fn driver(table: Value) -> Arc<dyn Driver> {
    let config: DriverConfig = serde_json::from_value(table).unwrap();
    muster_drivers::open(&config, "gpu").unwrap().unwrap()
}

/// A key of AWS in a file, as an administrator would give it.
pub struct Key {
    pub file: tempfile::NamedTempFile,
    pub id: String,
    pub secret: String,
}

impl Key {
    pub fn new(id: &str, secret: &str) -> Self {
        let key =
            Self { file: tempfile::NamedTempFile::new().unwrap(), id: id.into(), secret: secret.into() };
        key.write();
        key
    }

    pub fn write(&self) {
        let text =
            format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", self.id, self.secret);
        let mut file = std::fs::File::create(self.file.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The driver of group `gpu` there, with this key.
    pub fn asg(&self, endpoint: &str, hook: &str) -> Arc<dyn Driver> {
        driver(json!({
            "kind": "aws-asg", "group": "gpu", "region": "eu-west-1", "endpoint": endpoint, "lifecycle_hook": hook,
            "credentials_file": self.file.path(),
        }))
    }
}

/// The driver of the pool `spot`, of a configuration as it stands in a file.
fn open(toml: &str) -> Result<Arc<dyn Driver>, DriverError> {
    let config: DriverConfig = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    muster_drivers::open(&config, "spot").map(|driver| driver.expect("a kind that is not `none`"))
}
