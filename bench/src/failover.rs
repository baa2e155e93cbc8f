//! `muster bench failover`: how long nothing is acknowledged when the leader is killed, beside etcd in the same harness.
//!
//! A write every 5 ms by users whose clients are the command line's and who are spread over the members. SIGKILL to the leader; the gap runs from
//! the last acknowledgement before to the first after. The member is started again and has caught up before the next round.

use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::etcd::Etcd;
use crate::jobs;
use crate::pace::{Pace, USERS};
use crate::report::{Recorder, percentile, say};
use anyhow::{Context, Result};
use muster_proto::api::Mutation;
use muster_proto::caller::{Api, Caller};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Response, Status};

const MEMBERS: usize = 3;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster bench failover --count 200\n  muster bench failover --planned")]
pub struct FailoverArgs {
    /// Leaders that are killed, one after the other.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Milliseconds between the beginnings of two writes.
    #[arg(long, value_name = "MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    every: u64,
    /// Let the leader hand over (`muster cluster transfer-leader`) instead of killing it.
    #[arg(long)]
    planned: bool,
    /// Leave etcd out.
    #[arg(long)]
    alone: bool,
}

pub async fn run(args: FailoverArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    if args.planned {
        let gaps = planned(&args, env).await?;
        figures(record, "planned", &gaps);
        record.note(format!(
            "{} handovers by `muster cluster transfer-leader`, a write every {} ms",
            args.count, args.every
        ));
        return Ok(());
    }
    let Gaps { gaps, elections } = killed(&args, env).await?;
    let ours = figures(record, "failover", &gaps);
    figures(record, "election", &elections);
    if !args.alone {
        match etcd(&args, env).await? {
            None => record.note("etcd is not on PATH: nothing beside it was measured"),
            Some((version, gaps)) => {
                let theirs = figures(record, "etcd", &gaps);
                record.figure("of_etcd_p50", ours.0 / theirs.0, "ratio");
                record.figure("of_etcd_p99", ours.1 / theirs.1, "ratio");
                record.note(format!(
                    "beside {version} with its default timing (heartbeat 100 ms, election 1,000 ms)"
                ));
            }
        }
    }
    record.note(format!(
        "{} kills, {MEMBERS} members, a write every {} ms; election: until a member that is left names another leader",
        args.count, args.every
    ));
    Ok(())
}

/// p50 and p99.
fn figures(record: &mut Recorder, name: &str, gaps: &[f64]) -> (f64, f64) {
    let mut ms = gaps.to_vec();
    ms.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&ms, 50), percentile(&ms, 99));
    record.figure(format!("{name}_p50"), p50, "ms");
    record.figure(format!("{name}_p99"), p99, "ms");
    (p50, p99)
}

/// The users: each has a client with a connection of its own, and turns to another member when its own does not serve.
#[derive(Clone)]
pub(crate) struct Clients(Arc<Mutex<Vec<Caller>>>);

impl Clients {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self(Arc::new(Mutex::new((0..USERS).map(|user| cluster.caller(user % MEMBERS + 1)).collect())))
    }

    /// A write by one of them.
    ///
    /// # Errors
    /// What its client would have said.
    pub(crate) async fn call<T>(
        &self,
        ask: impl AsyncFnMut(&mut Api) -> Result<Response<T>, Status>,
    ) -> Result<T> {
        let mut user = self.0.lock().pop().context("more writes at once than users")?;
        let answer = user.call(ask).await;
        // To the end of the queue, so that all take their turns.
        self.0.lock().insert(0, user);
        Ok(answer?)
    }
}

/// Small acknowledged commands: `hold` of one job, as in `bench raft`.
pub(crate) fn writes(clients: &Clients, job: &str, every: Duration) -> Pace {
    let (clients, job) = (clients.clone(), job.to_owned());
    Pace::start(every, None, USERS, move |_| {
        let (clients, job) = (clients.clone(), job.clone());
        async move {
            let request =
                Mutation { request_id: client::request_id(), target: job, user: "bench".to_owned() };
            clients.call(async |api| api.hold(request.clone()).await).await.map(drop)
        }
    })
}

pub(crate) async fn held_job(cluster: &Cluster) -> Result<String> {
    Ok(client::submit(&mut cluster.connect().await?, &jobs::single(), true).await?.job.to_string())
}

struct Gaps {
    gaps: Vec<f64>,
    elections: Vec<f64>,
}

async fn killed(args: &FailoverArgs, env: &Env<'_>) -> Result<Gaps> {
    let mut cluster = Cluster::start(&env.dir, MEMBERS, env.options.keep).await?;
    let job = held_job(&cluster).await?;
    let clients = Clients::of(&cluster);
    let pace = writes(&clients, &job, Duration::from_millis(args.every));
    let mut found = Gaps { gaps: Vec::new(), elections: Vec::new() };
    for round in 1..=args.count {
        pace.until_flowing(Instant::now()).await?;
        let leader = cluster.leader().await?;
        let left = (1..=MEMBERS).filter(|number| *number != leader);
        let left = left.map(|number| cluster.target().addresses[number - 1].clone()).collect();
        let dead = cluster.target().addresses[leader - 1].clone();
        let killed = Instant::now();
        cluster.end_member(leader, Signal::SIGKILL).await?;
        let elected = another_leads(&cluster, left, &dead).await? - killed;
        pace.until_flowing(killed).await?;
        let gap = pace.gap(killed);
        say(&format!(
            "kill {round}: {} ms without an acknowledgement, {} ms of them without a leader",
            gap.as_millis(),
            elected.as_millis()
        ));
        found.gaps.push(gap.as_secs_f64() * 1000.0);
        found.elections.push(elected.as_secs_f64() * 1000.0);
        cluster.start_again(leader)?;
        cluster.until_serving(leader).await?;
    }
    Ok(found)
}

/// When one of the members that are left names another leader.
async fn another_leads(cluster: &Cluster, left: Vec<String>, dead: &str) -> Result<Instant> {
    let mut apis = Vec::new();
    for address in &left {
        apis.push(client::connect_to(cluster.target(), address).await?);
    }
    let started = Instant::now();
    loop {
        for api in &mut apis {
            let status = client::cluster_status(api).await?;
            let leads = |id| status.members.iter().any(|member| member.id == id && member.address != dead);
            if status.leader.is_some_and(leads) {
                return Ok(Instant::now());
            }
        }
        anyhow::ensure!(started.elapsed() < Duration::from_secs(60), "no other leader within 60 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn planned(args: &FailoverArgs, env: &Env<'_>) -> Result<Vec<f64>> {
    let mut cluster = Cluster::start(&env.dir, MEMBERS, env.options.keep).await?;
    let job = held_job(&cluster).await?;
    let clients = Clients::of(&cluster);
    let pace = writes(&clients, &job, Duration::from_millis(args.every));
    let mut gaps = Vec::new();
    for round in 1..=args.count {
        pace.until_flowing(Instant::now()).await?;
        let leader = cluster.leader().await?;
        let asked = Instant::now();
        cluster.run(&["cluster", "transfer-leader"]).await.context("cannot transfer the leadership")?;
        while cluster.leader().await? == leader {
            anyhow::ensure!(asked.elapsed() < Duration::from_secs(60), "member {leader} still leads");
        }
        pace.until_flowing(Instant::now()).await?;
        let gap = pace.gap(asked);
        say(&format!("handover {round}: {} ms without an acknowledgement", gap.as_millis()));
        gaps.push(gap.as_secs_f64() * 1000.0);
    }
    Ok(gaps)
}

async fn etcd(args: &FailoverArgs, env: &Env<'_>) -> Result<Option<(String, Vec<f64>)>> {
    let Some(mut etcd) = Etcd::start(&env.dir, MEMBERS).await? else { return Ok(None) };
    let client = etcd.client()?;
    // No limit of users here: a follower of etcd holds a put for seconds when its leader is gone, so that 32 of them would soon wait for nothing
    // and the gap would be that of their timeout. A fresh put is served as soon as there is a leader; connections are shared.
    let limit = tokio::sync::Semaphore::MAX_PERMITS;
    let pace = Pace::start(Duration::from_millis(args.every), None, limit, move |number| {
        let client = client.clone();
        async move {
            client.put(number).await;
            Ok(())
        }
    });
    let mut gaps = Vec::new();
    for round in 1..=args.count {
        pace.until_flowing(Instant::now()).await?;
        let leader = etcd.leader().await?;
        let killed = Instant::now();
        etcd.end_member(leader).await?;
        pace.until_flowing(killed).await?;
        let gap = pace.gap(killed);
        say(&format!("etcd, kill {round}: {} ms without an acknowledgement", gap.as_millis()));
        gaps.push(gap.as_secs_f64() * 1000.0);
        etcd.start_again(leader).await?;
    }
    Ok(Some((etcd.version.clone(), gaps)))
}
