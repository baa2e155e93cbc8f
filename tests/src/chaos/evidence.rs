//! What is kept of a run: schedule, faults as they happened, histories, ledger and logs, in one directory that people and programs read.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes values as JSON lines.
///
/// # Errors
/// The file cannot be written.
pub fn lines<T: Serialize>(path: &Path, values: impl IntoIterator<Item = T>) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for value in values {
        serde_json::to_writer(&mut file, &value)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(())
}

/// Copies what is worth keeping out of the run's directory.
///
/// # Errors
/// The place cannot be written.
pub fn keep(run: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(run)?.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "jsonl")) {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    fs::copy(run.join("tasks").join(super::ledger::LEDGER), to.join(super::ledger::LEDGER))?;
    fs::create_dir_all(to.join("logs"))?;
    for entry in fs::read_dir(run.join("logs"))?.flatten() {
        fs::copy(entry.path(), to.join("logs").join(entry.file_name()))?;
    }
    Ok(())
}
