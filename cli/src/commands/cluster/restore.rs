//! `muster cluster restore FILE`: a new cluster of one member from a backup, offline.

use super::backup::{describe, refused};
use crate::args::Global;
use crate::commands::daemon::{block_on, coordinator};
use crate::config::coordinator::socket;
use crate::context::{self, Context, Contexts};
use crate::failure::{DONE, Done, Failure};
use crate::output::progress::bar;
use crate::output::{self, OutputArgs};
use muster_coordinator::backup::{self, Restore, Restored};
use std::path::PathBuf;

/// Makes the data directory of a new cluster from a backup, after every byte of it was checked. The new cluster has its own id and secret: all
/// users and workers need its tokens, and nothing of the old cluster can speak to it. Its fencing tokens are above all that the old one can
/// have given; what was running then is lost and starts again. Other members join it as usual.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster cluster restore muster.backup --data-dir c1 --listen 127.0.0.1:7070\n  muster cluster restore muster.backup --verify-only"
)]
pub struct Args {
    /// A file that `muster cluster backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the new member's log, state and secrets will lie; absent, or empty.
    #[arg(long, value_name = "DIR", required_unless_present = "verify_only")]
    data_dir: Option<PathBuf>,
    /// Where the new member will listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    listen: String,
    /// How others will reach it, host:port [default: --listen].
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Where the store is now: file:///path [default: where it was].
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// Only check the file: every byte, and that every row in it reads. Needs room for a copy beside it.
    #[arg(long)]
    verify_only: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// A file that is no whole backup; a directory that is not empty.
    pub fn run(self, global: &Global) -> Done {
        let bytes =
            std::fs::metadata(&self.file).map_err(|error| Failure::io("read", &self.file, &error))?.len();
        if self.verify_only {
            let shown = bar("checking", bytes);
            let verified = backup::check_rows(&self.file, &self.file, |at| shown.set_position(at));
            shown.finish_and_clear();
            let verified = verified.map_err(refused)?;
            if self.output.is_json() {
                output::data(&describe(&verified).to_string())?;
            }
            output::talk(&format!(
                "{} is whole: cluster {} up to entry {}, written {}",
                self.file.display(),
                verified.head.cluster_id,
                verified.head.index,
                verified.head.created
            ));
            return Ok(DONE);
        }
        let data_dir = self.data_dir.clone().unwrap_or_default();
        let listen = socket(&self.listen)?;
        if listen.ip().is_unspecified() && self.advertise.is_none() {
            return Err(Failure::new("BAD_CONFIG", format!("nobody can reach {listen}"))
                .hint("set --advertise to an address of this machine that the others can reach"));
        }
        let address = self.advertise.clone().unwrap_or_else(|| listen.to_string());
        let wanted = Restore {
            file: self.file.clone(),
            data_dir: data_dir.clone(),
            address: address.clone(),
            store_url: self.store_url.clone(),
        };
        let named = global.context.clone();
        block_on(async {
            let shown = bar("restore", bytes);
            let moving = shown.clone();
            let restored = backup::restore(wanted, move |at| moving.set_position(at)).await;
            shown.finish_and_clear();
            let restored = restored.map_err(refused)?;
            // The old cluster's context stays: it may live yet.
            let free = || Contexts::load().map(|known| !known.contexts.contains_key(coordinator::CONTEXT));
            let name = match named {
                Some(name) => name,
                None if free()? => coordinator::CONTEXT.to_owned(),
                None => restored.cluster_id.clone(),
            };
            let context = Context { addresses: vec![address], token: restored.user_token.clone(), tls: None };
            let context = context::learn(&name, context, true)?;
            self.say(&restored, &data_dir, context.as_deref())
        })
    }

    fn say(&self, restored: &Restored, data_dir: &std::path::Path, context: Option<&str>) -> Done {
        let head = &restored.backup.head;
        if self.output.is_json() {
            let mut document = serde_json::json!({
                "cluster_id": restored.cluster_id,
                "member": restored.member,
                "data_dir": data_dir,
                "store_url": restored.store_url,
                "join_token_file": restored.join_token_file,
            });
            document["backup"] = describe(&restored.backup);
            output::data(&document.to_string())?;
        }
        output::talk(&format!(
            "cluster {} is in {}: cluster {} up to entry {}",
            restored.cluster_id,
            data_dir.display(),
            head.cluster_id,
            head.index
        ));
        let advertise =
            self.advertise.as_ref().map(|address| format!(" --advertise {address}")).unwrap_or_default();
        output::talk(&format!(
            "start it: muster coordinator --data-dir {} --listen {}{advertise}",
            data_dir.display(),
            self.listen
        ));
        if let Some(name) = context {
            output::talk(&format!("context {name}: {}", self.advertise.as_ref().unwrap_or(&self.listen)));
        }
        output::talk(&format!("join token, good for an hour: {}", restored.join_token_file.display()));
        output::talk(&format!("the store is not in a backup: {} must hold it", restored.store_url));
        Ok(DONE)
    }
}
