//! etcd beside us: as many members on the same disk, and the two calls that are needed, declared by hand.

use crate::cluster::{Daemon, free_address, until};
use anyhow::{Context, Result, bail};
use muster_proto::channel::dial;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// Bytes of a value: with its key about as much as one of our commands.
const VALUE_BYTES: usize = 128;
const KEY_BYTES: usize = 16;

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
}

/// A temporary group.
#[derive(Debug)]
pub struct Etcd {
    pub version: String,
    leader: String,
    // Ends before its directory goes.
    _members: Vec<Daemon>,
    _dir: TempDir,
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
            addresses.push((free_address()?, free_address()?));
        }
        let group: Vec<String> =
            addresses.iter().enumerate().map(|(at, (_, peer))| format!("e{at}=http://{peer}")).collect();
        let mut daemons = Vec::new();
        for (at, (client, peer)) in addresses.iter().enumerate() {
            let name = format!("e{at}");
            let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
            let mut command = Command::new(&program);
            command.args(["--name", &name, "--initial-cluster", &group.join(","), "--log-level", "warn"]);
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.arg("--data-dir").arg(dir.path().join(&name));
            daemons.push(Daemon::start(&name, command, dir.path().join(format!("{name}.log")))?);
        }
        let (leader, version) = until("a group of etcd with a leader", &mut daemons, async || {
            for (client, _) in &addresses {
                let status = status(client).await.ok()?;
                if status.leader != 0
                    && status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
                {
                    return Some((client.clone(), status.version));
                }
            }
            None
        })
        .await?;
        Ok(Some(Self { version: format!("etcd {version}"), leader, _members: daemons, _dir: dir }))
    }

    /// Channels to the leader.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connections_to_leader(&self, count: usize) -> Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(dial(&self.leader, None).await?);
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

async fn status(address: &str) -> Result<Status> {
    unary(dial(address, None).await?, "/etcdserverpb.Maintenance/Status", Nothing {}).await
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
