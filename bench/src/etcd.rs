//! etcd beside us: as many members on the same disk, and the two calls that are needed, declared by hand. Its timing is its default:
//! heartbeat 100 ms, election 1,000 ms.

use crate::cluster::{Daemon, free_address, until};
use anyhow::{Context, Result, bail};
use muster_proto::channel::{dial, dial_lazy};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// Bytes of a value: with its key about as much as one of our commands.
const VALUE_BYTES: usize = 128;
const KEY_BYTES: usize = 16;

/// A member of ours holds a call until there is a leader, one of etcd refuses it; so no growing pause as in `muster_proto::caller`.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// A follower of etcd holds a put for 7 s when its leader is gone. Later puts do not wait for it.
const TRY_FOR: Duration = Duration::from_secs(2);

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A reply of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// `etcdserverpb.StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "5")]
    raft_index: u64,
    #[prost(uint64, tag = "7")]
    raft_applied_index: u64,
}

/// A temporary group.
#[derive(Debug)]
pub struct Etcd {
    pub version: String,
    program: PathBuf,
    /// Of each member: where clients and where members call.
    addresses: Vec<(String, String)>,
    // Ends before its directory goes.
    members: Vec<Daemon>,
    dir: TempDir,
}

impl Etcd {
    /// Starts `members` members below `parent`; none when there is no etcd on PATH.
    ///
    /// # Errors
    /// They do not form a group.
    pub async fn start(parent: &Path, members: usize) -> Result<Option<Self>> {
        let Some(program) = on_path("etcd") else { return Ok(None) };
        let dir = tempfile::Builder::new().prefix("muster-bench-etcd-").tempdir_in(parent)?;
        let mut addresses = Vec::new();
        for _ in 0..members {
            addresses.push((format!("http://{}", free_address()?), format!("http://{}", free_address()?)));
        }
        let mut etcd = Self { version: String::new(), program, addresses, members: Vec::new(), dir };
        for at in 0..members {
            etcd.members.push(etcd.member(at)?);
        }
        let leader = etcd.leader().await?;
        etcd.version = format!("etcd {}", status(&etcd.addresses[leader].0).await?.version);
        Ok(Some(etcd))
    }

    fn member(&self, at: usize) -> Result<Daemon> {
        let group: Vec<String> =
            self.addresses.iter().enumerate().map(|(at, (_, peer))| format!("e{at}={peer}")).collect();
        let name = format!("e{at}");
        let (client, peer) = &self.addresses[at];
        let mut command = Command::new(&self.program);
        command.args(["--name", &name, "--initial-cluster", &group.join(","), "--log-level", "warn"]);
        command.args(["--listen-client-urls", client, "--advertise-client-urls", client]);
        command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        command.arg("--data-dir").arg(self.dir.path().join(&name));
        Daemon::start(&name, command, self.dir.path().join(format!("{name}.log")))
    }

    /// The position of the member that leads.
    ///
    /// # Errors
    /// None does, for long.
    pub async fn leader(&mut self) -> Result<usize> {
        until("a group of etcd with a leader", &mut self.members, async || {
            for (at, (client, _)) in self.addresses.iter().enumerate() {
                let status = status(client).await.ok()?;
                if status.leader != 0
                    && status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
                {
                    return Some(at);
                }
            }
            None
        })
        .await
    }

    /// kill -9.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end_member(&mut self, at: usize) -> Result<()> {
        self.members[at].end(Signal::SIGKILL).await
    }

    /// Starts a member again and waits until it has applied what the others had committed.
    ///
    /// # Errors
    /// It does not.
    pub async fn start_again(&mut self, at: usize) -> Result<()> {
        self.members[at] = self.member(at)?;
        let other = self.addresses[(at + 1) % self.addresses.len()].0.clone();
        let committed = status(&other).await?.raft_index;
        let client = self.addresses[at].0.clone();
        until("a member of etcd that has caught up", &mut self.members, async || {
            let status = status(&client).await.ok()?;
            (status.leader != 0 && status.raft_applied_index >= committed).then_some(())
        })
        .await
    }

    /// A client that asks any member.
    ///
    /// # Errors
    /// An address that is none.
    pub fn client(&self) -> Result<EtcdClient> {
        let channels = self.addresses.iter().map(|(client, _)| dial_lazy(host(client), None));
        Ok(EtcdClient { channels: channels.collect::<Result<_, _>>()? })
    }

    /// Channels to the leader.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connections_to_leader(&mut self, count: usize) -> Result<Vec<Channel>> {
        let leader = self.leader().await?;
        let leader = host(&self.addresses[leader].0).to_owned();
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(dial(&leader, None).await?);
        }
        Ok(channels)
    }

    /// Puts one new key.
    ///
    /// # Errors
    /// It was not acknowledged.
    pub async fn put(channel: Channel) -> Result<()> {
        let key: [u8; KEY_BYTES] = rand::random();
        let request = PutRequest { key: key.to_vec(), value: vec![b'v'; VALUE_BYTES] };
        let _: Nothing = unary(channel, "/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }
}

/// Puts through any member: the next member at once, a pause after a whole round. It never gives up: what is measured is how long a
/// group acknowledges nothing, and [`crate::pace::Pace`] ends a run in which that takes a minute.
#[derive(Debug, Clone)]
pub struct EtcdClient {
    channels: Vec<Channel>,
}

impl EtcdClient {
    /// Puts one new key; write `number` begins with the member of that number.
    pub async fn put(&self, number: usize) {
        loop {
            for at in 0..self.channels.len() {
                let channel = self.channels[(number + at) % self.channels.len()].clone();
                if let Ok(Ok(())) = tokio::time::timeout(TRY_FOR, Etcd::put(channel)).await {
                    return;
                }
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

async fn status(address: &str) -> Result<Status> {
    unary(dial(host(address), None).await?, "/etcdserverpb.Maintenance/Status", Nothing {}).await
}

async fn unary<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.context("etcd does not answer")?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    match grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => bail!("etcd: {status}"),
    }
}

/// The program of this name on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
