//! `$MUSTER_SOCKET`: one socket of the worker, where its tasks ask for commits. Who asks says so with its fencing token.
//!
//! `DIR/tasks.sock`; where that is longer than an address may be, a private directory for temporary files has it. Processes of other users
//! are not heard. An agent that is started again listens at the same place.

use super::CommitError;
use super::protocol::{Answer, LINE_MAX, parse};
use super::savers::Savers;
use crate::shim::socket::trusted;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Bytes of a path in a socket's address, without the zero at its end.
const ADDRESS_MAX: usize = 107;
/// Connections at once; more of them wait.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a connection may be silent before and between requests.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Where the socket of the worker in `dir` is.
///
/// # Errors
/// The directory for temporary files has no room for it, or somebody else has the place.
pub fn place(dir: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(dir)?.join("tasks.sock");
    if path.as_os_str().len() <= ADDRESS_MAX {
        return Ok(path);
    }
    let own = rustix::process::geteuid().as_raw();
    let name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let private = std::env::temp_dir().join(format!("muster-{own}-{}", &name[..16]));
    match std::fs::DirBuilder::new().mode(0o700).create(&private) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&private)?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        let what = format!("{} is not a private directory of this user", private.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(private.join("tasks.sock"))
}

/// Listens there, in place of an earlier agent's socket. The caller holds the lock of the worker's directory.
///
/// # Errors
/// As `bind` and `chmod`.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves tasks for as long as it is polled.
pub async fn serve(listener: UnixListener, savers: Arc<Savers>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if trusted(&stream) => {
                let savers = savers.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    converse(stream, &savers).await;
                });
            }
            Ok(_) => tracing::warn!("a process of another user asked for a commit; it is not heard"),
            Err(error) => {
                tracing::warn!(%error, "the socket of the tasks");
                // Out of descriptors, most likely: some are given back with time.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Request after request, until the other side ends, is silent, or says what cannot be read to its end.
async fn converse(stream: UnixStream, savers: &Savers) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Ok(Some(line)) = tokio::time::timeout(SILENCE_MAX, line(&mut read)).await {
        let (answer, is_last) = match line {
            Err(error) => (Answer::from(&error), true),
            Ok(line) => match parse(&line) {
                Ok(request) => (savers.serve(request).await, false),
                Err(error) => (Answer::from(&error), false),
            },
        };
        if !say(&mut write, &answer).await || is_last {
            return;
        }
    }
}

/// The next line without its end; none when there is none.
async fn line(read: &mut BufReader<OwnedReadHalf>) -> Option<Result<Vec<u8>, CommitError>> {
    let mut line = Vec::new();
    let count = read.take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line).await.ok()?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Some(Ok(line));
    }
    match count {
        0 => None,
        _ if count > LINE_MAX => {
            Some(Err(CommitError::Request(format!("a line is at most {LINE_MAX} bytes long"))))
        }
        _ => Some(Err(CommitError::Request("the line has no end".into()))),
    }
}

async fn say(write: &mut OwnedWriteHalf, answer: &Answer) -> bool {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    write.write_all(&line).await.is_ok()
}
