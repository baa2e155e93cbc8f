//! A file of this machine that appears whole or not at all.

use crate::StoreError;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Written beside its place and renamed at the end; removed when that does not come.
#[derive(Debug)]
pub(crate) struct Target {
    pub file: File,
    path: PathBuf,
    kept: bool,
}

impl Target {
    pub(crate) fn beside(to: &Path) -> Result<Self, StoreError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let path = to.with_file_name(format!(".{name}.{:016x}.part", rand::random::<u64>()));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(StoreError::local("write", &path))?;
        Ok(Self { file, path, kept: false })
    }

    pub(crate) fn keep_as(mut self, to: &Path) -> Result<(), StoreError> {
        std::fs::rename(&self.path, to).map_err(StoreError::local("write", to))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
