//! One worker without programs: the real session, the real reconnects and the real agent; in place of the shim, [`Tasks`].
//!
//! It follows the loop of `muster_worker::run`. Left out: the journal, files, logs, processes. A machine that was lost is replaced by one of
//! another name, as in a cloud: the same name again and again would be a flapping worker, which the leader rests.

use super::fleet::{Gate, name};
use super::tally::{Launch, Tally, Worker};
use super::tasks::Tasks;
use futures::future::{BoxFuture, OptionFuture};
use muster_agent::{Action, Agent, Input, Instruction};
use muster_core::model::ids::Token;
use muster_core::model::worker::WorkerSpec;
use muster_proto::channel::{Tls, dial_lazy};
use muster_proto::convert::{pack, unpack};
use muster_proto::worker::worker_message::Kind as Up;
use muster_proto::worker::{Heartbeat, MemberMessage, Register, Reports, member_message::Kind as Down};
use muster_worker::session::{Members, Session, SessionError, UNHEARD, open, open_over};
use muster_worker::shim::clock::boot_ms;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

/// What a worker is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Run,
    /// Its machine is gone without a word: nothing is sent, nothing is closed.
    Gone,
}

/// How connections are made.
#[derive(Clone)]
pub enum Connections {
    /// Each session has one, as in the field.
    Own,
    /// Sessions of one member share this one.
    Shared(HashMap<String, Channel>),
}

impl Connections {
    /// One connection to each member.
    ///
    /// # Errors
    /// Unusable certificates.
    pub fn shared(addresses: &[String], tls: Option<&Tls>) -> anyhow::Result<Self> {
        let channel = |address: &String| anyhow::Ok((address.clone(), dial_lazy(address, tls)?));
        Ok(Self::Shared(addresses.iter().map(channel).collect::<anyhow::Result<_>>()?))
    }
}

/// What a worker needs to know.
pub struct Config {
    pub spec: WorkerSpec,
    pub token: String,
    pub gate: Gate,
    pub addresses: Arc<[String]>,
    pub connections: Connections,
    pub tls: Option<Tls>,
    pub seen: Arc<Worker>,
    pub tally: Arc<Tally>,
}

/// Runs until the mode's sender is gone.
pub async fn run(mut config: Config, mut modes: watch::Receiver<Mode>) {
    for number in 1.. {
        if modes.wait_for(|mode| *mode == Mode::Run).await.is_err() {
            return;
        }
        if number > 1 {
            config.spec.name = name(config.seen.number, number);
            match config.gate.join(config.spec.name.clone()).await {
                Ok(token) => config.token = token,
                // It stays away, and whoever waits for it says so.
                Err(_) => return,
            }
        }
        let mut machine = Machine::boot(&config);
        if machine.serve(&mut modes).await.is_none() {
            return;
        }
        config.seen.holds.store(0, Relaxed);
        // Silent, and nothing is closed until it is back.
        if modes.wait_for(|mode| *mode == Mode::Run).await.is_err() {
            return;
        }
        drop(machine);
    }
}

type Opening = BoxFuture<'static, Result<Session, SessionError>>;

struct Machine<'a> {
    config: &'a Config,
    agent: Agent,
    tasks: Tasks,
    members: Members,
    incarnation: String,
    session: Option<Session>,
    heard: Instant,
}

impl<'a> Machine<'a> {
    fn boot(config: &'a Config) -> Self {
        Self {
            config,
            agent: Agent::new(Vec::new(), Token(0), 0),
            tasks: Tasks::default(),
            members: Members::new(config.addresses.iter().cloned()),
            incarnation: format!("{:032x}", rand::random::<u128>()),
            session: None,
            heard: Instant::now(),
        }
    }

    /// Until its machine goes (some) or the herd ends (none).
    async fn serve(&mut self, modes: &mut watch::Receiver<Mode>) -> Option<()> {
        let mut opening: Option<Opening> = None;
        let mut retry_at = Instant::now();
        loop {
            if self.session.is_none() && opening.is_none() && retry_at <= Instant::now() {
                opening = Some(self.dial());
            }
            let wake = self.wake(opening.is_none().then_some(retry_at));
            let mut inputs = Vec::new();
            let message: OptionFuture<_> = self.session.as_mut().map(|s| s.incoming.message()).into();
            let opened: OptionFuture<_> = opening.as_mut().into();
            tokio::select! {
                changed = modes.changed() => {
                    changed.ok()?;
                    if *modes.borrow_and_update() == Mode::Gone {
                        return Some(());
                    }
                }
                Some(message) = message => match message {
                    Ok(Some(message)) => self.heard_message(message, &mut inputs),
                    Ok(None) => retry_at = self.lost(&SessionError::Ended, &mut inputs),
                    Err(status) => retry_at = self.lost(&SessionError::Status(Box::new(status)), &mut inputs),
                },
                Some(opened) = opened => {
                    opening = None;
                    match opened {
                        Ok(session) => self.opened(session, &mut inputs),
                        Err(error) => retry_at = Instant::now() + self.members.failed(&error),
                    }
                }
                () = sleep_until(wake) => {
                    if self.session.is_some() && self.heard + UNHEARD <= Instant::now() {
                        self.config.tally.unheard.fetch_add(1, Relaxed);
                        retry_at = self.lost(&SessionError::Silent, &mut inputs);
                    }
                    if self.tasks.fence_at().is_some_and(|at| at <= boot_ms()) {
                        let fenced = self.tasks.fence(&mut inputs);
                        self.config.tally.fenced.fetch_add(fenced, Relaxed);
                    }
                    inputs.push(Input::Tick);
                }
            }
            self.turn(inputs);
        }
    }

    /// When something is due; `retry_at` when no session is being opened.
    fn wake(&self, retry_at: Option<Instant>) -> Instant {
        let boot = boot_ms();
        let at = |ms: u64| Instant::now() + Duration::from_millis(ms.saturating_sub(boot));
        let beat = self.agent.next_wake().map(at);
        let fence = self.tasks.fence_at().map(at);
        let session = if self.session.is_some() { Some(self.heard + UNHEARD) } else { retry_at };
        let wakes = [beat, fence, session].into_iter().flatten();
        wakes.min().unwrap_or_else(|| Instant::now() + UNHEARD)
    }

    fn dial(&mut self) -> Opening {
        let held = self.agent.held().into_iter().map(|token| token.0).collect();
        let register =
            Register { spec: pack(&self.config.spec), incarnation: self.incarnation.clone(), held };
        let (member, token) = (self.members.pick(), self.config.token.clone());
        match &self.config.connections {
            Connections::Own => Box::pin(open(member, token, self.config.tls.clone(), register)),
            Connections::Shared(channels) => {
                let channel = channels.get(&member).cloned();
                Box::pin(async move {
                    let channel = channel.ok_or(SessionError::Ended)?;
                    open_over(channel, member, &token, register).await
                })
            }
        }
    }

    fn opened(&mut self, session: Session, inputs: &mut Vec<Input>) {
        self.members.opened(&session.member);
        let member = self.config.addresses.iter().position(|address| *address == session.member);
        self.config.seen.opened(member.unwrap_or(usize::MAX), self.config.tally.micros());
        self.config.tally.opened.fetch_add(1, Relaxed);
        self.heard = Instant::now();
        self.session = Some(session);
        inputs.push(Input::SessionOpened);
    }

    fn lost(&mut self, error: &SessionError, inputs: &mut Vec<Input>) -> Instant {
        self.session = None;
        inputs.push(Input::SessionClosed);
        Instant::now() + self.members.lost(error)
    }

    fn heard_message(&mut self, message: MemberMessage, inputs: &mut Vec<Input>) {
        let Some(Down::Instructions(message)) = message.kind else { return };
        let Ok(instructions) = unpack::<Vec<Instruction>>(&message.instructions) else { return };
        for instruction in &instructions {
            if let Instruction::Renewed { term, .. } = instruction {
                self.heard = Instant::now();
                self.config.tally.renewals.fetch_add(1, Relaxed);
                self.config.seen.renewed(*term, self.config.tally.micros());
            }
        }
        inputs.extend(instructions.into_iter().map(Input::Instruction));
    }

    /// Gives what happened to the agent and does what it asks, until nothing follows.
    fn turn(&mut self, mut inputs: Vec<Input>) {
        while !inputs.is_empty() {
            let now = boot_ms();
            let mut actions = Vec::new();
            for input in inputs {
                actions.append(&mut self.agent.step(now, input));
            }
            inputs = self.perform(actions);
        }
        self.config.seen.holds.store(self.tasks.count() as u64, Relaxed);
    }

    fn perform(&mut self, actions: Vec<Action>) -> Vec<Input> {
        let mut inputs = Vec::new();
        for action in actions {
            match action {
                Action::Heartbeat { seq, held } => {
                    let held = held.into_iter().map(|token| token.0).collect();
                    self.say(Up::Heartbeat(Heartbeat { seq, held }));
                }
                Action::Report(reports) => self.say(Up::Reports(Reports { reports: pack(&reports) })),
                Action::Launch { order, deadline } => {
                    if self.tasks.launch(&order, deadline, &mut inputs) {
                        let launch =
                            Launch { worker: self.config.seen.number, at: order.at, number: order.number };
                        self.config.tally.launched(launch);
                    }
                }
                Action::Renew { deadline } => self.tasks.renew(deadline),
                Action::Stop { token, signal, .. } => {
                    self.tasks.end(token, signal, &mut inputs);
                }
                Action::Kill { token } => {
                    if self.tasks.end(token, 9, &mut inputs) {
                        self.config.tally.killed.fetch_add(1, Relaxed);
                    }
                }
                // Nothing of it outlives its machine.
                Action::Journal(_) | Action::Forget { .. } => {}
                // It has no devices.
                Action::DeviceEvents(_) | Action::Probe { .. } => {}
                // Its tasks save nothing, and nobody takes its machine away.
                Action::Notice(_) | Action::Verdict { .. } => {}
            }
        }
        inputs
    }

    fn say(&self, message: Up) {
        if let Some(session) = &self.session {
            session.outbox.send(message);
        }
    }
}
