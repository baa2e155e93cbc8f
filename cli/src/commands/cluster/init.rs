//! `muster cluster init`: makes the data directory of a first member, its join token and a context, without staying.

use crate::args::Global;
use crate::commands::daemon::{block_on, coordinator};
use crate::config::coordinator::socket;
use crate::failure::{DONE, Done, Failure};
use crate::output;
use muster_coordinator::config::{CoordinatorConfig, StoreConfig};
use std::path::PathBuf;

/// Makes a new cluster: the first member's data directory, a join token and a context. Then start it with `muster coordinator`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  muster cluster init --data-dir c1 --listen 127.0.0.1:7070\n  muster coordinator --data-dir c1 --listen 127.0.0.1:7070 --bootstrap"
)]
pub struct Args {
    /// Where the first member's log, state and secrets will lie; must not hold a member yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where the first member will listen; loopback, as beyond it a configuration with TLS is needed.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    listen: String,
    /// Where blobs, artifacts, checkpoints and logs will lie, with its settings in the query: file:///path,
    /// s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
}

impl Args {
    /// # Errors
    /// A directory that holds a member already; a member that cannot start.
    pub fn run(self, global: &Global) -> Done {
        if self.data_dir.join("member.toml").exists() {
            return Err(Failure::new(
                "EXISTS",
                format!("{} holds a member already", self.data_dir.display()),
            )
            .hint(format!(
                "start it: muster coordinator --data-dir {} --listen {} --bootstrap",
                self.data_dir.display(),
                self.listen
            )));
        }
        let config = CoordinatorConfig {
            data_dir: self.data_dir.clone(),
            listen: socket(&self.listen)?,
            bootstrap: true,
            store: StoreConfig { url: self.store_url, ..StoreConfig::default() },
            ..CoordinatorConfig::default()
        };
        let name = global.context.clone().unwrap_or_else(|| coordinator::CONTEXT.to_owned());
        block_on(async {
            let running = muster_coordinator::start(config).await?;
            running.ready().await;
            coordinator::introduce(&running, &name, None, true)?;
            running.stop().await;
            output::talk(&format!(
                "a new cluster is in {}; start it: muster coordinator --data-dir {} --listen {} --bootstrap",
                self.data_dir.display(),
                self.data_dir.display(),
                self.listen
            ));
            Ok(DONE)
        })
    }
}
