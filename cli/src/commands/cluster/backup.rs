//! `muster cluster backup FILE`: all the replicated state in one file, while the cluster works.

use crate::args::Global;
use crate::client::{Client, is_transient};
use crate::failure::{DONE, Done, Failure};
use crate::output::progress::bar;
use crate::output::time::size;
use crate::output::{self, OutputArgs};
use indicatif::ProgressBar;
use muster_coordinator::backup::{BackupError, Verified, verify};
use muster_proto::api::BackupRequest;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A member that goes away in the middle: another is asked, from the beginning.
const TRIES: u32 = 5;

/// Writes all the replicated state to a file: jobs, tasks, workers, history, request ids. It holds what was acknowledged before the call. Not in
/// it: the store (job directories, artifacts, logs) and the cluster's secret, so that no token can be made from it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster cluster backup muster.backup\n  muster cluster backup muster.backup --output json"
)]
pub struct Args {
    /// Where to; it must not exist. FILE.partial is written, checked, synced and renamed.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// A file that exists or cannot be written; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        if self.file.exists() {
            return Err(Failure::new("EXISTS", format!("{} exists", self.file.display()))
                .hint("a backup is never written over: choose another name"));
        }
        let partial = partial(&self.file);
        let mut client = Client::new(global)?;
        let written = fetch(&mut client, &partial).await.and_then(|()| check(&partial));
        let verified = match written {
            Ok(verified) => verified,
            Err(failure) => {
                let _ = fs::remove_file(&partial);
                return Err(failure);
            }
        };
        place(&partial, &self.file)?;
        if self.output.is_json() {
            let mut document = describe(&verified);
            document["file"] = json!(self.file);
            output::data(&document.to_string())?;
        }
        output::talk(&format!(
            "{}: {}, cluster {} up to entry {}, checksum {}",
            self.file.display(),
            size(verified.bytes),
            verified.head.cluster_id,
            verified.head.index,
            verified.checksum
        ));
        output::talk(&format!("not in it: the store {}; copy that too", verified.head.store_url));
        Ok(DONE)
    }
}

/// What programs are told of a backup.
pub fn describe(verified: &Verified) -> serde_json::Value {
    let head = &verified.head;
    json!({
        "cluster_id": head.cluster_id,
        "member": head.member,
        "last_applied": head.index,
        "term": head.term,
        "created": head.created,
        "version": head.version,
        "format": muster_coordinator::backup::FORMAT,
        "store_url": head.store_url,
        "bytes": verified.bytes,
        "checksum": verified.checksum,
    })
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    file.with_file_name(name)
}

async fn fetch(client: &mut Client, partial: &Path) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        let mut stream = client.call(async |api| api.backup(BackupRequest {}).await).await?;
        let _ = fs::remove_file(partial);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(partial)
            .map_err(|error| Failure::io("create", partial, &error))?;
        let mut shown: Option<ProgressBar> = None;
        let broken = loop {
            match stream.message().await {
                Ok(Some(chunk)) => {
                    file.write_all(&chunk.data).map_err(|error| Failure::io("write", partial, &error))?;
                    shown.get_or_insert_with(|| bar("backup", chunk.total)).inc(chunk.data.len() as u64);
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        if let Some(shown) = shown {
            shown.finish_and_clear();
        }
        match broken {
            None => return file.sync_all().map_err(|error| Failure::io("sync", partial, &error)),
            Some(status) if is_transient(&status) && tries < TRIES => {
                tries += 1;
                output::talk(&format!("the member went away ({}); once more", status.message()));
                client.turn();
            }
            Some(status) => return Err(status.into()),
        }
    }
}

/// Reads back what is on disk: a file that was never read is not a backup.
fn check(partial: &Path) -> Result<Verified, Failure> {
    let bytes = fs::metadata(partial).map_err(|error| Failure::io("read", partial, &error))?.len();
    let shown = bar("checking", bytes);
    let verified = verify(partial, |at| shown.set_position(at)).map_err(refused);
    shown.finish_and_clear();
    verified
}

fn place(partial: &Path, file: &Path) -> Result<(), Failure> {
    // Another backup of the same name may have come meanwhile: a link, unlike a rename, does not write over it.
    fs::hard_link(partial, file).map_err(|error| Failure::io("create", file, &error))?;
    fs::remove_file(partial).map_err(|error| Failure::io("remove", partial, &error))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Failure::io("sync", dir, &error))
}

/// A backup that is not used.
pub fn refused(error: BackupError) -> Failure {
    let hint = error.hint();
    Failure::new("BAD_BACKUP", crate::commands::daemon::chain(&error)).hint(hint)
}
