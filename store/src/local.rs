//! A directory as a store: durable before it is acknowledged, and never made anew where its disk is gone.

use crate::StoreError;
use crate::copy::{CopyError, copy_hashed};
use crate::target::Target;
use muster_core::model::checkpoint::Sha256;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Local {
    files: LocalFileSystem,
    /// The same without waiting for the disk.
    soon: LocalFileSystem,
    root: PathBuf,
    /// Device and number of the directory when it was opened.
    identity: (u64, u64),
}

impl Local {
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Unusable { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(unusable)?;
        let files =
            LocalFileSystem::new_with_prefix(root).map_err(|error| unusable(io::Error::other(error)))?;
        let (files, soon) = (files.clone().with_fsync(true).with_automatic_cleanup(true), files);
        let identity = identity(root).map_err(unusable)?;
        Ok(Self { files, soon, root: root.to_owned(), identity })
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        &self.files
    }

    pub(crate) fn soon(&self) -> &dyn ObjectStore {
        &self.soon
    }

    /// Whether the directory is the one that was opened: a file system may have been unmounted below us.
    pub(crate) fn is_there(&self, key: &str) -> Result<(), StoreError> {
        match identity(&self.root) {
            Ok(now) if now == self.identity => Ok(()),
            Ok(_) => {
                let text = format!("{} is another directory than at the start", self.root.display());
                Err(StoreError::unreachable(key, text))
            }
            Err(error) => Err(StoreError::unreachable(key, format!("{}: {error}", self.root.display()))),
        }
    }

    /// Removes what is left in a folder whose objects are deleted: files of uploads whose machine died.
    pub(crate) async fn remove_folder(&self, path: &Key, key: &str) -> Result<(), StoreError> {
        let folder = self.files.path_to_filesystem(path).map_err(|error| StoreError::of(key, &error))?;
        let key = key.to_owned();
        blocking(move |_| match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::of_disk(&key, &error)),
            _ => Ok(()),
        })
        .await
    }

    pub(crate) async fn put_file(
        &self,
        path: &Key,
        key: &str,
        mut file: File,
        size: u64,
    ) -> Result<Sha256, StoreError> {
        let place = self.files.path_to_filesystem(path).map_err(|error| StoreError::of(key, &error))?;
        let key = key.to_owned();
        blocking(move |stop| {
            let read = |source| StoreError::Local {
                what: "read what is to become",
                path: PathBuf::from(&key),
                source,
            };
            io::Seek::rewind(&mut file).map_err(read)?;
            let mut staged = Staged::beside(&place).map_err(|error| StoreError::of_disk(&key, &error))?;
            let copied = copy_hashed(&mut file, &mut staged.file, size, stop);
            let digest = copied.map_err(|error| match error {
                CopyError::Read(error) => read(error),
                CopyError::Write(error) => StoreError::of_disk(&key, &error),
                CopyError::Length => StoreError::Changed { key: key.clone(), bytes: size },
                CopyError::Stopped => stopped(&key),
            })?;
            staged.publish(&place).map_err(|error| StoreError::of_disk(&key, &error))?;
            Ok(digest)
        })
        .await
    }

    pub(crate) async fn get_file(
        &self,
        path: &Key,
        key: &str,
        to: &Path,
        (size, sha256): (u64, Sha256),
    ) -> Result<(), StoreError> {
        let place = self.files.path_to_filesystem(path).map_err(|error| StoreError::of(key, &error))?;
        let (name, to) = (key.to_owned(), to.to_owned());
        let got = blocking(move |stop| {
            let key = &name;
            let of_disk = |error| StoreError::of_disk(key, &error);
            let mut file = File::open(place).map_err(of_disk)?;
            let found = file.metadata().map_err(of_disk)?.len();
            if found != size {
                return Err(StoreError::damaged(key, format!("it has {found} bytes, not {size}")));
            }
            let mut target = Target::beside(&to)?;
            let digest =
                copy_hashed(&mut file, &mut target.file, size, stop).map_err(|error| match error {
                    CopyError::Read(error) => of_disk(error),
                    CopyError::Write(error) => StoreError::local("write", &to)(error),
                    CopyError::Length => StoreError::damaged(key, "it changed while it was read"),
                    CopyError::Stopped => stopped(key),
                })?;
            if digest != sha256 {
                return Err(StoreError::damaged(key, format!("its SHA-256 is {digest}, not {sha256}")));
            }
            target.keep_as(&to)
        });
        match got.await {
            Err(missing @ StoreError::Missing { .. }) => Err(self.is_there(key).err().unwrap_or(missing)),
            got => got,
        }
    }
}

fn identity(root: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(root).map(|meta| (meta.dev(), meta.ino()))
}

fn stopped(key: &str) -> StoreError {
    StoreError::unreachable(key, "nobody waits for it any more")
}

/// Runs `work` on a thread that may block, and tells it to stop when nobody waits any more.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    struct Waits(Arc<AtomicBool>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let waits = Waits(Arc::default());
    let stop = waits.0.clone();
    match tokio::task::spawn_blocking(move || work(&stop)).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(stopped("a file")),
    }
}

/// A file of the store that is being written; lists leave out names that end in `#` and a number.
struct Staged {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Staged {
    fn beside(place: &Path) -> io::Result<Self> {
        loop {
            let mut path = place.as_os_str().to_owned();
            path.push(format!("#{}", rand::random::<u64>()));
            let path = PathBuf::from(path);
            match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path, published: false }),
                // Also when a deletion has just removed the folder, which was empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_folder(place)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn publish(mut self, place: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, place)?;
        self.published = true;
        sync_folder(place)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The folder of `place`, each new one durable in its own.
fn make_folder(place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Ok(()) };
    let new: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(folder)?;
    new.into_iter().try_for_each(sync_folder)
}

/// Makes the entry of `place` in its folder durable.
fn sync_folder(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
