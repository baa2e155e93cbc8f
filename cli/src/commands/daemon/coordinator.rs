//! `muster coordinator`: one member.

use super::death::die;
use super::{ConfigArgs, Flag, StoreArgs, TlsArgs, block_on, ending, warn};
use crate::args::Global;
use crate::client::Client;
use crate::config::coordinator::{CoordinatorFile, KEYS};
use crate::config::layers::{Merged, merge};
use crate::config::log;
use crate::context::{self, Context, TlsFiles};
use crate::failure::{DONE, Done, Failure};
use crate::output;
use muster_coordinator::Running;
use muster_coordinator::config::CoordinatorConfig;
use muster_coordinator::security::write_private;
use muster_proto::api::PrepareMemberRequest;

/// The context that a bootstrapped cluster gets when none is named with --context.
pub const CONTEXT: &str = "default";

/// Runs one member of the coordinator. The first has --bootstrap, the others --join.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster coordinator --data-dir c1 --listen 127.0.0.1:7070 --bootstrap\n  muster coordinator --data-dir c2 --listen 127.0.0.1:7071 --join 127.0.0.1:7070 --join-token-file c1/join-token\n  muster coordinator --config /etc/muster/coordinator.toml --check-config"
)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where log, state and secrets lie; made when absent.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The one port [default: 127.0.0.1:7070]. Beyond loopback only with TLS.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// How others reach this member, host:port [default: --listen].
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Make a new cluster of this one member; writes DIR/join-token and a context. A data directory that has a cluster just starts.
    #[arg(long)]
    bootstrap: bool,
    /// Members of the cluster to join, separated by commas. A data directory that has joined just starts.
    #[arg(long, value_name = "ADDR,…")]
    join: Vec<String>,
    /// The file with the join token. Without it a token is asked for with the current context's own.
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<String>,
    /// With --join: the member, dead or alive, whose place this one takes once it has caught up.
    #[arg(long, value_name = "ID")]
    replace: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// Kept back on the disk for what must go on when it is full [default: 256MiB, at most a sixteenth of the disk].
    #[arg(long, value_name = "SIZE")]
    ballast: Option<String>,
    /// Refuse new jobs when the disk is this full, per cent [default: 95].
    #[arg(long, value_name = "N")]
    disk_full_at: Option<String>,
    /// The cluster is for exercises: `muster drill` asks for no confirmation (cluster.staging). Give it to all members.
    #[arg(long)]
    staging: bool,
    /// A TOML file whose rows replace those of the shipped XID policy (health.xid_policy).
    #[arg(long, value_name = "FILE")]
    xid_policy: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

impl Args {
    /// # Errors
    /// A bad configuration, before any port opens; a member that cannot start or go on.
    pub fn run(self, global: &Global) -> Done {
        let Merged { mut settings, warnings } =
            merge::<CoordinatorFile>(self.config.config.as_deref(), &KEYS, &self.flags(), std::env::vars())?;
        warn(&warnings);
        let fetch_token = own_token(&mut settings);
        let config = settings.check(self.config.config.as_deref())?;
        if self.config.check_config {
            output::talk("the configuration is sound");
            return Ok(DONE);
        }
        log::start(settings.log.level.as_deref(), "info");
        let name = global.context.clone().unwrap_or_else(|| CONTEXT.to_owned());
        let global = global.clone();
        block_on(async move {
            if fetch_token {
                fetch_join_token(&config, &global).await?;
            }
            serve(config, name).await
        })
    }

    fn flags(&self) -> Vec<Flag> {
        let one = |text: &Option<String>| text.clone().into_iter().collect::<Vec<_>>();
        let mut flags = vec![
            ("coordinator", "data_dir", one(&self.data_dir)),
            ("coordinator", "listen", one(&self.listen)),
            ("coordinator", "advertise", one(&self.advertise)),
            ("coordinator", "bootstrap", if self.bootstrap { vec!["true".to_owned()] } else { Vec::new() }),
            ("coordinator", "join", self.join.clone()),
            ("coordinator", "join_token_file", one(&self.join_token_file)),
            ("coordinator", "replace", one(&self.replace)),
            ("coordinator", "ballast", one(&self.ballast)),
            ("coordinator", "disk_full_at", one(&self.disk_full_at)),
            ("cluster", "staging", if self.staging { vec!["true".to_owned()] } else { Vec::new() }),
            ("health", "xid_policy", one(&self.xid_policy)),
        ];
        flags.extend(self.store.flags());
        flags.extend(self.tls.flags());
        flags
    }
}

/// Whether a member that joins for the first time names no token: then the operator's own context gets it one.
fn own_token(settings: &mut CoordinatorFile) -> bool {
    let section = &mut settings.coordinator;
    let Some(dir) = section.data_dir.clone().filter(|_| !section.join.is_empty()) else { return false };
    if section.join_token_file.is_some() {
        return false;
    }
    section.join_token_file = Some(dir.join("join-token"));
    !dir.join("member.toml").exists()
}

/// # Errors
/// No context of that cluster; the cluster's refusal.
async fn fetch_join_token(config: &CoordinatorConfig, global: &Global) -> Result<(), Failure> {
    let Some(file) = &config.join_token_file else { return Ok(()) };
    let no_token = |failure: Failure| {
        let hint = "name the file with --join-token-file; `muster cluster add ADDRESS` writes one";
        Failure { hint: Some(failure.hint.unwrap_or_else(|| hint.to_owned())), ..failure }
    };
    let members = Global { address: config.join.clone(), ..global.clone() };
    let context = context::resolve(&members).map_err(no_token)?;
    let request =
        PrepareMemberRequest { address: config.address(), replace: config.replace.unwrap_or_default() };
    let prepared = Client::of(context).call(async |api| api.prepare_member(request.clone()).await).await;
    let token = prepared.map_err(no_token)?.join_token;
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|error| Failure::io("create", &config.data_dir, &error))?;
    write_private(file, &token).map_err(|error| Failure::new("IO", error.to_string()))
}

async fn serve(config: CoordinatorConfig, name: String) -> Done {
    let bootstrap = config.bootstrap;
    let tls = config.tls.as_ref().map(TlsFiles::from);
    // A start waits for ports, disks and other members: it too ends by a signal.
    let mut running = tokio::select! {
        running = muster_coordinator::start(config) => running?,
        _ = ending() => return Ok(DONE),
    };
    introduce(&running, &name, tls, bootstrap)?;
    let death = running.asked_to_die();
    let failed = tokio::select! {
        _ = ending() => None,
        away = death => return Err(die(away)),
        error = running.failed() => Some(error),
    };
    if failed.is_none() {
        running.hand_over().await;
    }
    running.stop().await;
    failed.map_or(Ok(DONE), |error| Err(Failure::from(error)))
}

/// Writes the context of a new cluster, or adds this member to the one that this machine knows, and says where it listens.
///
/// # Errors
/// The context cannot be written.
pub fn introduce(running: &Running, name: &str, tls: Option<TlsFiles>, create: bool) -> Result<(), Failure> {
    let context =
        Context { addresses: vec![running.advertised.clone()], token: running.user_token.clone(), tls };
    let context = context::learn(name, context, create)?;
    output::talk(&format!("member {} listens on {}", running.member, running.address));
    if let Some(name) = context {
        output::talk(&format!("context {name}: {}", running.advertised));
    }
    if let Some(file) = &running.join_token_file {
        output::talk(&format!("join token, good for an hour: {}", file.display()));
    }
    Ok(())
}
