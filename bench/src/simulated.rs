//! A worker that runs nothing: it speaks the session's protocol and says of every start order that it ran and ended with 0. It makes
//! the member do all of its work for a million indices without a million processes. Or it commits checkpoints that nobody stored.

use crate::client::Target;
use anyhow::{Context, Result, bail};
use muster_core::command::{Report, ReportKind};
use muster_core::leader::instruction::Instruction;
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::{Part, Saved, Sha256, Verdict};
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::lease::RENEW_MS;
use muster_core::model::worker::{Incarnation, WorkerSpec};
use muster_proto::channel::{Bearer, MESSAGE_BYTES_MAX, dial};
use muster_proto::convert::{pack, unpack};
use muster_proto::worker::member_message::Kind as Down;
use muster_proto::worker::worker_api_client::WorkerApiClient;
use muster_proto::worker::worker_message::Kind as Up;
use muster_proto::worker::{Heartbeat, JoinRequest, Register, Reports, WorkerMessage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

/// Reports of one message.
const REPORTS_MAX: usize = 1_000;

/// What its attempts do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// They end with 0 at once.
    Ends,
    /// They commit so many checkpoints, one after the other, and then end with 0.
    Saves(u64),
}

/// A worker at work. It ends with its value.
#[derive(Debug)]
pub struct Simulated {
    commits: Arc<Mutex<Vec<f64>>>,
    /// Ends that are on a majority's disks.
    pub settled: watch::Receiver<u64>,
    session: tokio::task::JoinHandle<Result<()>>,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl Simulated {
    /// Joins and opens a session as a worker of `slots` cores.
    ///
    /// # Errors
    /// It is refused.
    pub async fn start(
        name: &str,
        target: &Target,
        join_token_file: &Path,
        slots: u32,
        conduct: Conduct,
    ) -> Result<Self> {
        let token = std::fs::read_to_string(join_token_file).context("no join token")?;
        let channel = dial(&target.addresses[0], target.tls.as_ref()).await?;
        let mut joining = WorkerApiClient::with_interceptor(channel.clone(), Bearer::new(token.trim()));
        let token = joining
            .join(JoinRequest { name: name.to_owned() })
            .await
            .context("cannot join")?
            .into_inner()
            .token;
        let mut client = WorkerApiClient::with_interceptor(channel, Bearer::new(&token))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let spec = WorkerSpec {
            name: name.to_owned(),
            pool: "default".to_owned(),
            cpu_milli: u64::from(slots) * 1_000,
            memory: 1 << 40,
            disk: 1 << 40,
            isolation: "simulated".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: "bench".to_owned(),
            ..WorkerSpec::default()
        };
        let incarnation = Incarnation(format!("{:032x}", rand::random::<u128>()));
        let (send, outgoing) = unbounded_channel();
        let register = Register { spec: pack(&spec), incarnation: incarnation.0, held: Vec::new() };
        send.send(WorkerMessage { kind: Some(Up::Register(register)) })?;
        let mut incoming =
            client.session(UnboundedReceiverStream::new(outgoing)).await.context("no session")?.into_inner();
        match incoming.message().await?.and_then(|message| message.kind) {
            Some(Down::Registered(_)) => {}
            Some(Down::Refused(refused)) => bail!("the worker was refused: {}", refused.reason),
            other => bail!("the member answered the registration with {other:?}"),
        }
        let (count, settled) = watch::channel(0);
        let commits = Arc::new(Mutex::new(Vec::new()));
        let session = Session {
            send,
            count,
            held: BTreeSet::new(),
            seq: 0,
            conduct,
            saving: BTreeMap::new(),
            commits: commits.clone(),
        };
        Ok(Self { commits, settled, session: tokio::spawn(session.serve(incoming)) })
    }

    /// Milliseconds of each commit so far, from the report to the answer.
    #[must_use]
    pub fn commits(&self) -> Vec<f64> {
        self.commits.lock().clone()
    }

    /// Waits until at least `count` ends are durable.
    ///
    /// # Errors
    /// The session ended before.
    pub async fn until_settled(&mut self, count: u64) -> Result<()> {
        if self.settled.wait_for(|settled| *settled >= count).await.is_ok() {
            return Ok(());
        }
        match (&mut self.session).await {
            Ok(Ok(())) => bail!("the member ended the session of the simulated worker"),
            Ok(Err(error)) => Err(error.context("the simulated worker")),
            Err(error) => Err(error.into()),
        }
    }
}

struct Session {
    send: UnboundedSender<WorkerMessage>,
    count: watch::Sender<u64>,
    held: BTreeSet<Token>,
    seq: u64,
    conduct: Conduct,
    /// Where it is, its newest step, and when that was reported.
    saving: BTreeMap<Token, (IndexRef, u64, Instant)>,
    commits: Arc<Mutex<Vec<f64>>>,
}

fn ended() -> ReportKind {
    ReportKind::Ended { outcome: Outcome::Exit(0), artifacts: Vec::new(), ran_ms: 1 }
}

fn saved(step: u64) -> ReportKind {
    let part = Part { manifest: Sha256::default(), size: 1 << 20, files: 1 };
    ReportKind::Saved(Saved { step, part, single: false, took_ms: 1 })
}

impl Session {
    /// What the attempt says when its step is committed; nothing when that was said before.
    fn committed(&mut self, token: Token, step: u64) -> Option<Report> {
        let Conduct::Saves(count) = self.conduct else { return None };
        let (at, newest, since) = self.saving.get_mut(&token).filter(|(_, newest, _)| *newest == step)?;
        self.commits.lock().push(since.elapsed().as_secs_f64() * 1e3);
        (*newest, *since) = (step + 1, Instant::now());
        let kind = if step < count { saved(step + 1) } else { ended() };
        Some(Report { token, rank: 0, at: *at, kind })
    }

    async fn serve(mut self, mut incoming: Streaming<muster_proto::worker::MemberMessage>) -> Result<()> {
        let mut beat = tokio::time::interval(Duration::from_millis(RENEW_MS));
        loop {
            tokio::select! {
                _ = beat.tick() => self.heartbeat(),
                message = incoming.message() => match message?.and_then(|message| message.kind) {
                    Some(Down::Instructions(message)) => self.obey(unpack(&message.instructions)?),
                    Some(Down::Refused(refused)) => bail!("refused: {}", refused.reason),
                    Some(_) => {}
                    None => return Ok(()),
                },
            }
        }
    }

    fn say(&self, message: Up) {
        let _ = self.send.send(WorkerMessage { kind: Some(message) });
    }

    fn heartbeat(&mut self) {
        self.seq += 1;
        self.say(Up::Heartbeat(Heartbeat {
            seq: self.seq,
            held: self.held.iter().map(|token| token.0).collect(),
        }));
    }

    fn obey(&mut self, instructions: Vec<Instruction>) {
        let mut reports = Vec::new();
        let mut settled = 0;
        for instruction in instructions {
            match instruction {
                // An order that comes twice is answered once: the first answer is on its way.
                Instruction::Start(order) if self.held.insert(order.token) => {
                    let then = match self.conduct {
                        Conduct::Ends => ended(),
                        Conduct::Saves(_) => {
                            self.saving.insert(order.token, (order.at, 1, Instant::now()));
                            saved(1)
                        }
                    };
                    reports.extend([ReportKind::Running, then].map(|kind| Report {
                        token: order.token,
                        rank: order.rank,
                        at: order.at,
                        kind,
                    }));
                }
                Instruction::Checkpoint { token, step, verdict: Verdict::Committed { .. } } => {
                    reports.extend(self.committed(token, step));
                }
                Instruction::Settled { tokens } => {
                    settled += tokens.iter().filter(|token| self.held.remove(token)).count() as u64;
                }
                Instruction::Kill { token } => {
                    self.held.remove(&token);
                }
                Instruction::Start(_)
                | Instruction::Stop { .. }
                | Instruction::Heard { .. }
                | Instruction::Renewed { .. }
                | Instruction::EventsSettled { .. }
                | Instruction::Checkpoint { .. }
                | Instruction::NoticeHeard
                | Instruction::Notice(_)
                | Instruction::Probe { .. }
                | Instruction::Drill(_) => {}
            }
        }
        for reports in reports.chunks(REPORTS_MAX) {
            self.say(Up::Reports(Reports { reports: pack(&reports.to_vec()) }));
        }
        if settled > 0 {
            self.count.send_modify(|count| *count += settled);
        }
    }
}
