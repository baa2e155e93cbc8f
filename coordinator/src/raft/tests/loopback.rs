//! Three real members over loopback gRPC: elections, a killed member that catches up from disk, snapshots, membership.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

use super::ledger::{Ledger, Writes};
use crate::raft::node::{Config, Node, ProposeError, Role};

/// A member with a runtime of its own, as a process would have: what it leaves running ends with that.
struct Running {
    node: Node<Ledger>,
    server: JoinHandle<()>,
    runtime: Process,
}

struct Process(Option<Runtime>);

impl Process {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self(Some(runtime.expect("runtime")))
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.as_ref().expect("runs").spawn(work).await.expect("no panic")
    }

    /// Returns when all that ran in it is gone, locks and connections too.
    async fn end(mut self) {
        let runtime = self.0.take().expect("runs");
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(60)));
        ended.await.expect("no panic");
    }
}

/// A database that is still being closed when the test's process ends aborts it: RocksDB's statics are gone by then.
impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            let ended = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(60)));
            let _ = ended.join();
        }
    }
}

impl Running {
    async fn start(dir: &Path, member: u64, listener: TcpListener, tune: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(dir.join(member.to_string()), "loopback", member, "secret");
        tune(&mut config);
        let listener = listener.into_std().expect("std");
        let runtime = Process::start();
        let (node, server) = runtime
            .run(async move {
                let listener = TcpListener::from_std(listener).expect("tokio");
                let node =
                    Node::start(config, Arc::new(RwLock::new(Ledger::default()))).await.expect("start");
                let service = node.service();
                let address: SocketAddr = listener.local_addr().expect("address");
                let server = tokio::spawn(async move {
                    let mut server = muster_proto::channel::listen(address, None).expect("listen");
                    server
                        .add_service(service)
                        .serve_with_incoming(TcpListenerStream::new(listener))
                        .await
                        .expect("serve");
                });
                (node, server)
            })
            .await;
        Self { node, server, runtime }
    }

    /// Stops Raft and the listener without a goodbye to the others; the process and its connections live on.
    async fn kill(self) -> Process {
        self.server.abort();
        let _ = self.server.await;
        self.node.shutdown().await;
        self.runtime
    }

    fn writes(&self) -> usize {
        self.node.machine().read().writes.len()
    }
}

pub struct Cluster {
    dir: PathBuf,
    members: Vec<Option<Running>>,
    /// What is left of killed members.
    graves: Vec<Option<Process>>,
    addresses: Vec<SocketAddr>,
}

impl Cluster {
    pub async fn start(dir: &Path, tune: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self {
            dir: dir.to_owned(),
            members: Vec::new(),
            graves: vec![None, None, None],
            addresses: Vec::new(),
        };
        for member in 1..=3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            cluster.addresses.push(listener.local_addr().expect("address"));
            cluster.members.push(Some(Running::start(dir, member, listener, &tune).await));
        }
        let members =
            cluster.addresses.iter().enumerate().map(|(at, address)| (at as u64 + 1, address.to_string()));
        cluster.node(1).bootstrap(members).await.expect("bootstrap");
        cluster
    }

    fn running(&self, member: u64) -> &Running {
        self.members[member as usize - 1].as_ref().expect("runs")
    }

    pub fn node(&self, member: u64) -> &Node<Ledger> {
        &self.running(member).node
    }

    /// Waits until one of the running members knows a running leader other than `not`.
    pub async fn leader(&self, not: u64) -> u64 {
        let (_, any) = self
            .members
            .iter()
            .enumerate()
            .find(|(at, member)| member.is_some() && *at as u64 + 1 != not)
            .expect("one runs");
        let mut status = any.as_ref().expect("runs").node.status();
        let known = status
            .wait_for(|status| status.leader.as_ref().is_some_and(|(id, _)| *id != not))
            .await
            .expect("status")
            .clone();
        let id = known.leader.expect("a leader").0;
        self.node(id).status().wait_for(|status| status.role == Role::Leader).await.expect("it leads");
        id
    }

    pub async fn kill(&mut self, member: u64) {
        let at = member as usize - 1;
        self.graves[at] = Some(self.members[at].take().expect("runs").kill().await);
    }

    /// Kills a member and waits until nothing of it is left: its files are closed.
    pub async fn end(&mut self, member: u64) {
        self.kill(member).await;
        self.bury(member).await;
    }

    async fn bury(&mut self, member: u64) {
        if let Some(process) = self.graves[member as usize - 1].take() {
            process.end().await;
        }
    }

    pub async fn restart(&mut self, member: u64, tune: impl FnOnce(&mut Config)) {
        self.bury(member).await;
        let listener = TcpListener::bind(self.addresses[member as usize - 1]).await.expect("bind");
        let dir = self.dir.clone();
        self.members[member as usize - 1] = Some(Running::start(&dir, member, listener, tune).await);
    }
}

pub async fn propose_many(node: &Node<Ledger>, client: u64, count: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..50 {
        let node = node.clone();
        tasks.spawn(async move {
            for write in (0..count).filter(|write| write % 50 == task) {
                node.propose(&Writes(vec![(client, write)])).await.expect("acknowledged");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_restarts_from_disk_and_catches_up() {
    super::trace();
    let dir = tempfile::tempdir().expect("dir");
    let mut cluster = Cluster::start(dir.path(), |_| {}).await;
    let leader = cluster.leader(0).await;
    propose_many(cluster.node(leader), 1, 1_000).await;

    let follower = leader % 3 + 1;
    let refused = cluster.node(follower).propose(&Writes(vec![(9, 9)])).await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader { leader: Some((id, _)) }) if id == leader),
        "{refused:?}"
    );
    cluster.node(follower).linearizable_read_index().await.expect("a follower serves a linearizable read");
    assert_eq!(cluster.running(follower).writes(), 1_000);

    cluster.kill(leader).await;
    let second = cluster.leader(leader).await;
    propose_many(cluster.node(second), 2, 1_000).await;
    cluster.restart(leader, |_| {}).await;
    let index = cluster.node(second).confirm_leadership().await.expect("leads");
    cluster.node(leader).wait_applied(index).await.expect("catches up");
    assert_eq!(cluster.running(leader).writes(), 2_000);
    assert_eq!(cluster.node(leader).machine().read().digest, cluster.node(second).machine().read().digest);

    // Handing over is quick and loses nothing.
    cluster.node(second).transfer_leader(Some(leader)).await.expect("it takes over");
    let third = cluster.leader(second).await;
    propose_many(cluster.node(third), 3, 10).await;
    for member in 1..=3 {
        cluster.kill(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_behind_a_purged_log_gets_a_snapshot_and_goes_on_from_it_after_a_restart() {
    super::trace();
    let dir = tempfile::tempdir().expect("dir");
    let tune = |config: &mut Config| (config.snapshot_entries, config.keep_entries) = (200, 10);
    let mut cluster = Cluster::start(dir.path(), tune).await;
    let leader = cluster.leader(0).await;
    propose_many(cluster.node(leader), 1, 100).await;
    let behind = leader % 3 + 1;
    cluster.kill(behind).await;
    propose_many(cluster.node(leader), 2, 1_000).await;
    propose_many(cluster.node(leader), 3, 1_000).await;
    cluster.node(leader).snapshot().await.expect("snapshot");
    cluster.node(leader).wait_log_begins(200).await.expect("what the lost member lacks is gone from the log");

    cluster.restart(behind, tune).await;
    let index = cluster.node(leader).confirm_leadership().await.expect("leads");
    cluster.node(behind).wait_applied(index).await.expect("catches up");
    assert_eq!(cluster.running(behind).writes(), 2_100);
    cluster
        .node(behind)
        .wait_log_begins(200)
        .await
        .expect("what it lacked never was in its log: it had a snapshot");

    cluster.kill(behind).await;
    propose_many(cluster.node(leader), 4, 50).await;
    cluster.restart(behind, tune).await;
    let index = cluster.node(leader).confirm_leadership().await.expect("leads");
    cluster.node(behind).wait_applied(index).await.expect("catches up");
    assert_eq!(cluster.node(behind).machine().read().digest, cluster.node(leader).machine().read().digest);
    for member in 1..=3 {
        cluster.kill(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_alone_grows_to_three_and_a_stranger_is_refused() {
    super::trace();
    let dir = tempfile::tempdir().expect("dir");
    let mut members = Vec::new();
    let mut addresses = Vec::new();
    for member in 1..=3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        addresses.push(listener.local_addr().expect("address").to_string());
        let secret = |config: &mut Config| {
            if member == 3 {
                config.secret = "wrong".into();
            }
        };
        members.push(Running::start(dir.path(), member, listener, secret).await);
    }
    let first = members[0].node.clone();
    first.bootstrap([(1, addresses[0].clone())]).await.expect("bootstrap");
    assert!(first.bootstrap([(1, addresses[0].clone())]).await.is_err(), "only once");
    first.status().wait_for(|status| status.role == Role::Leader).await.expect("leads");
    propose_many(&first, 1, 100).await;
    first.add_learner(2, addresses[1].clone()).await.expect("learner");
    first.wait_caught_up(2).await.expect("it has the log");
    first.promote(2, None).await.expect("promote");
    assert_eq!(first.status().borrow().members.len(), 2);
    let index = first.confirm_leadership().await.expect("leads with two");
    members[1].node.wait_applied(index).await.expect("applied");
    assert_eq!(members[1].writes(), 100);

    // The third shows another secret: nobody hears it, and it hears nobody.
    first.add_learner(3, addresses[2].clone()).await.expect("it need not be there");
    let late = tokio::time::timeout(Duration::from_secs(1), first.wait_caught_up(3)).await;
    assert!(late.is_err(), "a stranger never catches up");
    assert_eq!(members[2].node.status().borrow().members.len(), 0);
    for member in members {
        member.kill().await;
    }
}

/// A machine whose data directory was lost comes back at its old address, as a new member, beside the one it was: what is meant for the old
/// one must not be answered by the new, or one process is two votes, of which one forgot what it promised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_at_a_dead_ones_address_answers_for_itself_alone_and_takes_its_place() {
    super::trace();
    let dir = tempfile::tempdir().expect("dir");
    let mut cluster = Cluster::start(dir.path(), |_| {}).await;
    let leader = cluster.leader(0).await;
    propose_many(cluster.node(leader), 1, 100).await;
    let dead = leader % 3 + 1;
    cluster.kill(dead).await;
    cluster.bury(dead).await;
    let address = cluster.addresses[dead as usize - 1];
    let listener = TcpListener::bind(address).await.expect("bind");
    let fresh = Running::start(&dir.path().join("fresh"), 4, listener, |_| {}).await;

    let node = cluster.node(leader).clone();
    node.add_learner(4, address.to_string()).await.expect("learner");
    node.wait_caught_up(4).await.expect("it has the log");
    let behind = node.peers().expect("it leads").into_iter().find(|peer| peer.id == dead).expect("a member");
    propose_many(&node, 2, 100).await;
    let still = node.peers().expect("it leads").into_iter().find(|peer| peer.id == dead).expect("a member");
    assert_eq!(still.matched, behind.matched, "the dead member acknowledges nothing");

    node.promote(4, Some(dead)).await.expect("one change");
    let status = node.status().borrow().clone();
    let mut ids: Vec<(u64, bool)> = status.members.iter().map(|member| (member.id, member.voter)).collect();
    ids.sort_unstable();
    let mut expected: Vec<(u64, bool)> = (1..=4).filter(|id| *id != dead).map(|id| (id, true)).collect();
    expected.sort_unstable();
    assert_eq!((ids, status.joint), (expected, false));
    let index = node.confirm_leadership().await.expect("leads");
    fresh.node.wait_applied(index).await.expect("applied");
    assert_eq!(fresh.writes(), 200);
    assert!(node.is_absent(dead).await.expect("leads") && !node.is_absent(4).await.expect("leads"));
    fresh.kill().await;
    for member in (1..=3).filter(|member| *member != dead) {
        cluster.kill(member).await;
    }
}

/// What a leader decided waits in a queue while it loses the leadership and wins it again: in the later term it may be wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_of_an_earlier_term_of_the_same_leader_is_refused() {
    super::trace();
    let dir = tempfile::tempdir().expect("dir");
    let mut cluster = Cluster::start(dir.path(), |_| {}).await;
    let leader = cluster.leader(0).await;
    let node = cluster.node(leader).clone();
    let term = node.status().borrow().term;
    node.propose_in(Some(term), &Writes(vec![(1, 1)])).await.expect("its own term");

    let other = leader % 3 + 1;
    node.transfer_leader(Some(other)).await.expect("it takes over");
    let second = cluster.leader(leader).await;
    // Asked at once: it has not heard of the other yet.
    cluster.node(second).transfer_leader(Some(leader)).await.expect("it gives it back");
    let again = node.status().wait_for(|status| status.role == Role::Leader).await.expect("status").term;
    assert!(again > term);

    let late = node.propose_in(Some(term), &Writes(vec![(1, 2)])).await;
    assert!(matches!(late, Err(ProposeError::NotLeader { .. })), "{late:?}");
    node.propose_in(Some(again), &Writes(vec![(1, 3)])).await.expect("the term that it leads");
    let written: Vec<_> = node.machine().read().writes.keys().copied().collect();
    assert_eq!(written, [(1, 1), (1, 3)]);
    for member in 1..=3 {
        cluster.kill(member).await;
    }
}
