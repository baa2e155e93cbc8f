//! A copy of the library for one test, and the file that drives it.

use crate::scenario::Scenario;
use std::io;
use std::path::{Path, PathBuf};

/// A library in a directory of its own.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What the worker opens.
    pub library: PathBuf,
}

/// Copies the library that was built beside the running test into `dir`, with `scenario`.
///
/// # Errors
/// As the file system says; not found: the package `muster-fake-nvml` was not built.
pub fn install(dir: &Path, scenario: &Scenario) -> io::Result<Installed> {
    let built = built()?;
    let library = dir.join("libnvidia-ml.so.1");
    std::fs::copy(&built, &library)?;
    let installed = Installed { library };
    installed.set(scenario)?;
    Ok(installed)
}

impl Installed {
    /// From now on the library says this.
    ///
    /// # Errors
    /// As the file system says.
    pub fn set(&self, scenario: &Scenario) -> io::Result<()> {
        let (file, fresh) = (self.library.with_extension("1.json"), self.library.with_extension("1.fresh"));
        std::fs::write(&fresh, serde_json::to_vec_pretty(scenario)?)?;
        std::fs::rename(fresh, file)
    }
}

/// Cargo leaves it beside the tests, and, when it was asked for by name, one directory higher.
fn built() -> io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let found = exe.ancestors().skip(1).take(3).map(|dir| dir.join("libmuster_fake_nvml.so"));
    found.into_iter().find(|path| path.exists()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "libmuster_fake_nvml.so is not beside the test: cargo build -p muster-fake-nvml",
        )
    })
}
