//! The worker daemon: build in order, then one loop that moves inputs to the agent and does what it asks.
//!
//! One task, no locks: everything slow (files from and to the store, dialling, log readers, removing directories) is spawned or polled
//! and comes back as an input. What queued while the loop was busy is taken in one turn: one journal write, one report message, one
//! batch to the shim.

mod attempt;
mod error;
mod going;
mod hands;
mod prepare;
mod vacate;

pub use error::WorkerError;

use crate::blobs::{Cache, Store};
use crate::checkpoint::{Savers, socket};
use crate::config::WorkerConfig;
use crate::devices::mps;
use crate::devices::nodes::Majors;
use crate::devices::open::{self, Opened};
use crate::executor::{Dirs, Held, HostEnv, ShimClient, ShimConfig, ShimEvent};
use crate::join::{Identity, identity};
use crate::journal::{Journal, JournalError};
use crate::notice::{Notices, Pace, Which};
use crate::session::{Members, Session, SessionError, UNHEARD};
use crate::shim::clock::boot_ms;
use crate::telemetry::Gauge;
use crate::{logs_upload, machine, shim, telemetry};
use futures::future::{BoxFuture, OptionFuture};
use going::Going;
use hands::{Hands, Internal};
use muster_agent::{Agent, Input};
use muster_core::model::ids::Token;
use muster_core::model::notice::Notice;
use muster_proto::convert::{pack, unpack};
use muster_proto::worker::worker_message::Kind as Up;
use muster_proto::worker::{MemberMessage, Register, Telemetry, member_message::Kind as Down};
use prepare::Preparer;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// A predecessor that was killed a moment ago may still hold the journal.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Most events taken in one turn.
const TURN_MAX: usize = 4096;
/// How long tasks have to end when the worker ends them.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// How often the devices are asked what happened to them.
const LOOK_EVERY: Duration = Duration::from_millis(500);
// A sick device is out of service within 5 s: the wait for the driver is as long, and from there on nothing is waited for but a commit
// (worker/agent/tests/quarantine.rs).
const _: () = assert!(2 * LOOK_EVERY.as_millis() < 5_000);

/// What becomes of the tasks when the worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// They run on, and the next agent in the same directory adopts them.
    LeaveTasks,
    /// They get SIGTERM, 2 s later SIGKILL.
    StopTasks,
    /// They are evicted as at any other notice, and the worker ends with the last of them.
    Evict,
}

/// Runs a worker until `shutdown` says how to end.
///
/// # Errors
/// [`WorkerError`]: something without which there is no worker. A member that does not answer is no error.
pub async fn run(
    mut config: WorkerConfig,
    shutdown: impl Future<Output = Shutdown>,
) -> Result<(), WorkerError> {
    let mut shutdown = std::pin::pin!(shutdown);
    // 1. Who and where: before anything is started.
    config.validate()?;
    make_data_dir(&config.data_dir)?;
    let identity = tokio::select! {
        identity = identity(&config) => identity?,
        _ = &mut shutdown => return Ok(()),
    };
    let boot = shim::boot_id().map_err(WorkerError::BootId)?;
    // Beside what follows: a machine that does not say what it is must not hold up tasks whose leases run.
    let which = Which::here(&config, &identity.name, &boot);
    let which = AbortOnDropHandle::new(tokio::spawn(async move { which.labels().await }));
    // 2. Where its files are.
    let url = config.store.address()?.unwrap_or_else(|| identity.store_url.clone());
    if url.is_empty() {
        return Err(WorkerError::NoStore);
    }
    let store = Store::open(&url)?;
    let cache = Arc::new(Cache::open(config.data_dir.join("cache"), store.clone(), config.cache.bytes())?);
    // 3. What it ran before, and what still runs.
    // The journal's lock also guards the directories.
    let journal = open_journal(&config.data_dir, &boot).await?;
    let dirs = Arc::new(Dirs::open(&config.data_dir).map_err(data_dir(&config.data_dir))?);
    let shim_config = ShimConfig {
        program: config.shim_program.clone(),
        args: config.shim_args.clone(),
        ..ShimConfig::new(&config.data_dir)
    };
    let (client, held, shim_events) = ShimClient::start(shim_config).await?;
    // A store that is down, or closed to us, ends no task that runs.
    if held.running.is_empty() && held.exited.is_empty() {
        tokio::select! {
            checked = look_at(&store) => checked?,
            _ = &mut shutdown => return Ok(()),
        }
    } else {
        let store = store.clone();
        tokio::spawn(async move {
            if let Err(error) = look_at(&store).await {
                tracing::error!(%error, hint = error.hint(), "nothing is stored until this is mended");
            }
        });
    }
    // 4. What the machine offers. A driver may take its time, or all of it.
    let opened = open_devices(&config, &identity.name).await?;
    let devices = opened.devices.fingerprint();
    let isolation = client.backend().kind.name();
    // What the operator says of the machine counts before what it says of itself.
    for (label, value) in which.await.unwrap_or_default() {
        config.labels.entry(label).or_insert(value);
    }
    let spec = machine::describe(&config, &identity.name, (&devices, &opened.devices.driver()), isolation);
    tracing::info!(
        name = spec.name,
        isolation = spec.isolation,
        reason = client.backend().reason,
        "worker starts"
    );
    // Of simulated ones there is nothing to open.
    if let (Some(why), true) =
        (&client.backend().devices_open, devices.iter().any(|device| !device.simulated))
    {
        tracing::warn!(why, "tasks can open the GPUs of others: only the environment keeps them apart");
    }
    let incarnation = format!("{}-{:016x}", journal.incarnation().boot, journal.incarnation().journal);
    let register = Register { spec: pack(&spec), incarnation, held: Vec::new() };
    // 5. The loop.
    let (internal, internal_events) = unbounded_channel();
    let told = internal.clone();
    let tell = move |token, saved| drop(told.send(Internal::Saved { token, saved }));
    let place = socket::place(&config.data_dir).map_err(WorkerError::TaskSocket)?;
    let savers = Arc::new(Savers::new(store.clone(), place.clone(), Box::new(tell)));
    let listener = socket::listen(&place).map_err(WorkerError::TaskSocket)?;
    let preparer = Preparer {
        worker: spec.name.clone(),
        pool: spec.pool.clone(),
        spot: spec.spot,
        devices,
        majors: Majors::read(),
        mps: mps::find(),
        host: HostEnv::capture(&config.env),
        dirs,
        cache,
        savers: savers.clone(),
        log_cap: config.log_cap.bytes(),
    };
    let notices = Notices::start(&config.notice, &identity.name, Pace::default())
        .map_err(crate::config::ConfigError::from)?;
    let gauge = Gauge::new(config.data_dir.clone());
    let hands = Hands::new(Arc::new(preparer), opened.devices.clone(), client, journal, store, internal);
    let members = Members::new(config.join.iter().chain(&identity.members).cloned());
    let mut worker = Worker {
        agent: Agent::new(Vec::new(), Token(0), 0),
        hands,
        config,
        identity,
        members,
        register,
        session: None,
        heard: Instant::now(),
        opened,
        gauge,
        going: Going::default(),
    };
    worker.adopt(held);
    // Only now is every attempt known that may ask.
    let _tasks = AbortOnDropHandle::new(tokio::spawn(socket::serve(listener, savers)));
    worker.serve(shim_events, internal_events, notices, shutdown).await;
    Ok(())
}

/// The loop's state.
struct Worker {
    agent: Agent,
    hands: Hands,
    config: WorkerConfig,
    identity: Identity,
    members: Members,
    /// Without the held tokens.
    register: Register,
    session: Option<Session>,
    /// When the leader was last heard through the session.
    heard: Instant,
    /// Its devices, and with them the claim on them.
    opened: Opened,
    gauge: Gauge,
    /// What the machine's notice makes of this process.
    going: Going,
}

type Opening = BoxFuture<'static, Result<Session, SessionError>>;

impl Worker {
    /// Compares the journal with what the shim holds and makes the agent of it.
    fn adopt(&mut self, held: Held) {
        let hands = &mut self.hands;
        let journaled: Vec<_> = hands.restore();
        let (floor, term) = (Token(hands.journal.highest_token()), hands.journal.term());
        let mut inputs = Vec::new();
        let mut known: std::collections::BTreeSet<u64> = held.running.iter().map(|r| r.token).collect();
        known.extend(held.exited.iter().map(|e| e.token));
        for running in held.running {
            hands.started(running.token, running.started_boot_ms);
            inputs.push(Input::Started { token: Token(running.token) });
        }
        for exit in held.exited {
            inputs.extend(hands.exited(exit));
        }
        for entry in journaled.iter().filter(|j| j.result.is_none() && !known.contains(&j.token.0)) {
            inputs.extend(hands.vanished(entry.token.0));
        }
        hands.sweep();
        tracing::info!(held = journaled.len(), "took over what an earlier agent left");
        self.agent = Agent::new(journaled, floor, term);
        self.turn(inputs);
    }

    async fn serve(
        &mut self,
        mut shim_events: UnboundedReceiver<ShimEvent>,
        mut internal: UnboundedReceiver<Internal>,
        mut notices: Notices,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = Shutdown>>,
    ) {
        let mut opening: Option<Opening> = None;
        let mut retry_at = Instant::now();
        let mut upload_at = Instant::now() + logs_upload::EVERY;
        let mut look_at = Instant::now();
        let mut measure_at = Instant::now();
        let mut stop_by: Option<Instant> = None;
        let (mut events, mut results) = (Vec::new(), Vec::new());
        loop {
            if stop_by.is_some_and(|by| self.hands.is_idle() || by <= Instant::now()) {
                return;
            }
            if self.going.is_under() && self.is_gone(&notices) {
                return;
            }
            if self.session.is_none() && opening.is_none() && retry_at <= Instant::now() {
                opening = Some(self.dial());
            }
            let mut wake = upload_at.min(look_at).min(measure_at).min(stop_by.unwrap_or(upload_at));
            wake = wake.min(self.going.wake().unwrap_or(wake));
            if self.session.is_some() {
                wake = wake.min(self.heard + UNHEARD);
                let beat = self.agent.next_wake().unwrap_or(0).saturating_sub(boot_ms());
                wake = wake.min(Instant::now() + Duration::from_millis(beat));
            } else if opening.is_none() {
                wake = wake.min(retry_at);
            }
            let mut inputs = Vec::new();
            let message: OptionFuture<_> = self.session.as_mut().map(|s| s.incoming.message()).into();
            let opened: OptionFuture<_> = opening.as_mut().into();
            tokio::select! {
                how = &mut shutdown, if stop_by.is_none() && !self.going.is_ending() => match how {
                    Shutdown::LeaveTasks => return,
                    Shutdown::StopTasks => {
                        self.hands.stop_all();
                        stop_by = Some(Instant::now() + STOP_PATIENCE);
                    }
                    Shutdown::Evict => {
                        self.going.end();
                        if let Some(notice) = notices.sigterm() {
                            self.noticed(notice, &mut inputs);
                        }
                    }
                },
                notice = notices.next() => self.noticed(notice, &mut inputs),
                Some(message) = message => match message {
                    Ok(Some(message)) => self.heard_message(message, &mut inputs),
                    Ok(None) => retry_at = self.lost(&SessionError::Ended, &mut inputs),
                    Err(status) => retry_at = self.lost(&SessionError::Status(Box::new(status)), &mut inputs),
                },
                Some(opened) = opened => {
                    opening = None;
                    match opened {
                        Ok(session) => self.opened(session, &mut inputs),
                        Err(error) => retry_at = self.not_opened(&error),
                    }
                }
                _ = shim_events.recv_many(&mut events, TURN_MAX) => self.shim_said(&mut events, &mut inputs),
                _ = internal.recv_many(&mut results, TURN_MAX) => {
                    // One that was not clean after its task is said before the task's end.
                    inputs.extend(self.hands.device_events());
                    inputs.extend(results.drain(..).filter_map(|result| self.hands.done(result, boot_ms())));
                }
                () = sleep_until(wake) => {
                    if upload_at <= Instant::now() {
                        self.hands.upload_running();
                        upload_at = Instant::now() + logs_upload::EVERY;
                    }
                    if look_at <= Instant::now() {
                        inputs.extend(self.hands.device_events());
                        self.hands.ask_to_save(boot_ms());
                        look_at = Instant::now() + LOOK_EVERY;
                    }
                    if measure_at <= Instant::now() {
                        self.measure();
                        measure_at = Instant::now() + telemetry::EVERY;
                    }
                    if self.session.is_some() && self.heard + UNHEARD <= Instant::now() {
                        retry_at = self.lost(&SessionError::Silent, &mut inputs);
                    }
                    inputs.push(Input::Tick);
                }
            }
            // What came with it belongs to the same turn.
            while let Ok(event) = shim_events.try_recv() {
                events.push(event);
            }
            self.shim_said(&mut events, &mut inputs);
            self.turn(inputs);
        }
    }

    /// Gives what happened to the agent and does what it asks, until nothing follows.
    fn turn(&mut self, mut inputs: Vec<Input>) {
        while !inputs.is_empty() {
            let now = boot_ms();
            let mut actions = Vec::new();
            for input in inputs {
                actions.append(&mut self.agent.step(now, input));
            }
            inputs = self.hands.perform(actions, self.agent.term(), self.session.as_ref().map(|s| &s.outbox));
        }
    }

    /// The machine goes, or stays: everything that follows is the agent's.
    fn noticed(&mut self, notice: Notice, inputs: &mut Vec<Input>) {
        self.going.noticed(&notice);
        inputs.push(Input::Notice(notice));
    }

    /// Tells whoever waits for the tasks to be gone; true when the agent is to end with them.
    fn is_gone(&mut self, notices: &Notices) -> bool {
        let holds_nothing = self.agent.held().is_empty();
        notices.evicted(self.going.is_evicted(holds_nothing));
        self.going.is_over(self.hands.is_idle(), holds_nothing, Instant::now())
    }

    /// Without a session nobody wants to know.
    fn measure(&mut self) {
        if let Some(session) = &self.session {
            let measured = self.gauge.measure(&*self.opened.devices);
            session.outbox.send(Up::Telemetry(Telemetry { telemetry: pack(&measured) }));
        }
    }

    fn dial(&mut self) -> Opening {
        let held = self.agent.held().into_iter().map(|token| token.0).collect();
        let register = Register { held, ..self.register.clone() };
        Box::pin(crate::session::open(
            self.members.pick(),
            self.identity.token.clone(),
            self.config.tls.clone(),
            register,
        ))
    }

    fn opened(&mut self, session: Session, inputs: &mut Vec<Input>) {
        tracing::info!(member = session.member, worker = session.registered.worker, "session opened");
        let named = &session.registered.members;
        if !named.is_empty() && *named != self.identity.members {
            self.identity.members.clone_from(named);
            if let Err(error) = crate::join::save(&self.config.data_dir, &self.identity) {
                tracing::warn!(%error, "the list of members was not kept");
            }
        }
        self.members.learn(named);
        self.members.opened(&session.member);
        self.heard = Instant::now();
        self.session = Some(session);
        inputs.push(Input::SessionOpened);
    }

    fn not_opened(&mut self, error: &SessionError) -> Instant {
        let pause = self.members.failed(error);
        tracing::warn!(
            error = error as &dyn std::error::Error,
            pause_ms = pause.as_millis(),
            "no session yet"
        );
        Instant::now() + pause
    }

    fn lost(&mut self, error: &SessionError, inputs: &mut Vec<Input>) -> Instant {
        tracing::warn!(error = error as &dyn std::error::Error, "session lost");
        self.session = None;
        self.hands.session_lost();
        inputs.push(Input::SessionClosed);
        Instant::now() + self.members.lost(error)
    }

    fn heard_message(&mut self, message: MemberMessage, inputs: &mut Vec<Input>) {
        match message.kind {
            Some(Down::Instructions(message)) => {
                match unpack::<Vec<muster_agent::Instruction>>(&message.instructions) {
                    Ok(instructions) => {
                        if instructions.iter().any(|i| matches!(i, muster_agent::Instruction::Renewed { .. }))
                        {
                            self.heard = Instant::now();
                        }
                        if instructions.contains(&muster_agent::Instruction::NoticeHeard) {
                            self.going.heard();
                        }
                        inputs.extend(instructions.into_iter().map(Input::Instruction));
                    }
                    Err(error) => tracing::error!(%error, "instructions cannot be read"),
                }
            }
            Some(Down::Log(request)) => {
                if let Some(session) = &self.session {
                    self.hands.log_requested(request, &session.outbox);
                }
            }
            Some(Down::Refused(refused)) => {
                tracing::error!(reason = refused.reason, "the member refused the worker")
            }
            Some(Down::Registered(_)) | None => {}
        }
    }

    fn shim_said(&mut self, events: &mut Vec<ShimEvent>, inputs: &mut Vec<Input>) {
        for event in events.drain(..) {
            match event {
                ShimEvent::Started { token, boot_ms, .. } => {
                    self.hands.started(token, boot_ms);
                    inputs.push(Input::Started { token: Token(token) });
                }
                ShimEvent::LaunchFailed { token, reason } => {
                    inputs.extend(self.hands.launch_failed(token, &reason))
                }
                ShimEvent::Exited(exit) => {
                    // A fault that took the task with it is said before its end.
                    inputs.extend(self.hands.device_events());
                    inputs.extend(self.hands.exited(exit));
                }
                ShimEvent::Vanished { token } => inputs.extend(self.hands.vanished(token)),
                ShimEvent::Unkillable { token } => {
                    tracing::error!(token, "processes survive SIGKILL; the machine needs a look")
                }
            }
        }
    }
}

/// Refuses a store that this machine may not use; one that does not answer may do so later.
async fn look_at(store: &Store) -> Result<(), WorkerError> {
    match store.check().await {
        Err(error) if error.is_passing() => {
            tracing::warn!(%error, hint = error.hint(), "goes on without it, tasks that need it fail");
            Ok(())
        }
        checked => Ok(checked?),
    }
}

fn make_data_dir(dir: &Path) -> Result<(), WorkerError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(data_dir(dir))
}

fn data_dir(dir: &Path) -> impl FnOnce(std::io::Error) -> WorkerError {
    let dir = dir.to_owned();
    move |source| WorkerError::DataDir { dir, source }
}

/// Reads the devices on a thread of their own.
async fn open_devices(config: &WorkerConfig, name: &str) -> Result<Opened, WorkerError> {
    let (config, name) = (config.clone(), name.to_owned());
    let opened = tokio::task::spawn_blocking(move || open::open(&config, &name)).await;
    let opened = opened.map_err(|_| WorkerError::Devices)?;
    Ok(opened.map_err(crate::config::ConfigError::from)?)
}

async fn open_journal(dir: &Path, boot: &str) -> Result<Journal, WorkerError> {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match Journal::open(&dir.join("journal"), boot) {
            Err(JournalError::Locked { .. }) if Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            opened => return Ok(opened?),
        }
    }
}
