//! The shim's socket: `DIR/shim.sock`, for processes of the same user only.
//!
//! A socket address holds 107 bytes of path and a worker's directory may be longer, so both sides go through
//! `/proc/self/fd/N/shim.sock`, with `N` a descriptor of the directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Name of the socket in the directory.
pub const NAME: &str = "shim.sock";

fn through(dir: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let fd = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", fd.as_raw_fd()));
    Ok((fd, path))
}

/// Listens in `dir`, in place of a dead shim's socket. The caller holds the lock of the directory.
///
/// # Errors
/// As `bind` and `chmod`.
pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let (_fd, path) = through(dir)?;
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the shim that serves `dir`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when there is none.
pub fn connect(dir: &Path) -> io::Result<UnixStream> {
    let (_fd, path) = through(dir)?;
    UnixStream::connect(path)
}

/// May the process at the other end give orders? Only the shim's own user and root may.
#[must_use]
pub fn trusted(stream: &impl AsFd) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_beyond_108_bytes_works() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("x".repeat(200));
        std::fs::create_dir(&dir).unwrap();
        let listener = listen(&dir).unwrap();
        let client = connect(&dir).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(trusted(&server) && trusted(&client));
    }

    #[test]
    fn a_dead_socket_is_replaced_and_refuses_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(connect(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(listen(dir.path()).unwrap());
        assert_eq!(connect(dir.path()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _listener = listen(dir.path()).unwrap();
        assert!(connect(dir.path()).is_ok());
    }
}
