//! A database is replaced by a copy: beside it first, then by renames of which each crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use muster_failpoint::{Point, hit};

/// The path with `.suffix` behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes what happened to the name of `path` durable.
///
/// # Errors
/// The disk's.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Puts a decided snapshot in place and removes what was received in part.
///
/// # Errors
/// The disk's.
pub fn finish(dir: &Path) -> io::Result<()> {
    finish_keep(dir)?;
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let prefix = format!("{name}.partial-");
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|found| found.starts_with(&prefix)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Puts a decided snapshot in place.
///
/// # Errors
/// The disk's.
pub fn finish_keep(dir: &Path) -> io::Result<()> {
    let next = with_suffix(dir, "next");
    if !next.exists() {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    hit(Point::InstallOldRemoved)?;
    fs::rename(&next, dir)?;
    hit(Point::InstallRenamed)?;
    sync_parent(dir)
}

/// Copies a checkpoint, synced. Table files never change and are linked; the rest is copied.
///
/// # Errors
/// The disk's.
pub fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let target = to.join(entry.file_name());
        let table = entry.path().extension().is_some_and(|extension| extension == "sst");
        if !table || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
        File::open(&target)?.sync_all()?;
    }
    File::open(to)?.sync_all()
}
