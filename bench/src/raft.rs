//! `muster bench raft`: acknowledged small commands through three members that sync, beside etcd in the same run.
//!
//! A command is `hold` of a job with one task: idempotent, some hundred bytes, on disk on a majority before it is answered, with a
//! request id that is remembered. etcd's counterpart is a put of as many bytes. Clients share the machine with the members in both.

use crate::cli::Env;
use crate::client::{self, Api};
use crate::cluster::Cluster;
use crate::drive::{Load, drive};
use crate::etcd::Etcd;
use crate::jobs;
use crate::report::{Recorder, say};
use anyhow::{Context, Result};
use muster_proto::api::Mutation;
use std::time::Duration;

/// Connections that callers share; one would be a bottleneck of its own.
const CONNECTIONS: usize = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench raft --callers 1,64,1000 --seconds 10")]
pub struct RaftArgs {
    /// How many callers at once, one measurement each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 64, 1_000])]
    callers: Vec<usize>,
    /// How long each is measured, after a second that is not.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Members of the group.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
    members: u64,
}

pub async fn run(args: RaftArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let (warm_up, measured) = (Duration::from_secs(1), Duration::from_secs(args.seconds));
    let members = usize::try_from(args.members)?;
    let mut ours = Vec::new();
    {
        let cluster = Cluster::start(&env.dir, members, env.options.keep).await?;
        let apis = connections_to_leader(&cluster).await?;
        let job = client::submit(&mut apis[0].clone(), &jobs::single(), true).await?.job.to_string();
        for callers in &args.callers {
            let load = drive(*callers, warm_up, measured, |number| {
                let (api, target) = (apis[number % apis.len()].clone(), job.clone());
                move || {
                    let request = Mutation {
                        request_id: client::request_id(),
                        target: target.clone(),
                        user: "bench".to_owned(),
                    };
                    let mut api = api.clone();
                    async move {
                        api.hold(request).await.context("a command was refused")?;
                        Ok(())
                    }
                }
            })
            .await?;
            say(&format!("muster, {callers} callers: {:.0}/s", load.per_second));
            figures(record, "muster", *callers, load);
            ours.push(load);
        }
    }
    match Etcd::start(&env.dir, members).await? {
        None => record.note("etcd is not on PATH: nothing beside it was measured"),
        Some(mut etcd) => {
            let channels = etcd.connections_to_leader(CONNECTIONS).await?;
            for (callers, our) in args.callers.iter().zip(&ours) {
                let load = drive(*callers, warm_up, measured, |number| {
                    let channel = channels[number % channels.len()].clone();
                    move || {
                        let channel = channel.clone();
                        async move { Etcd::put(channel).await }
                    }
                })
                .await?;
                say(&format!("etcd, {callers} callers: {:.0}/s", load.per_second));
                figures(record, "etcd", *callers, load);
                record.figure(format!("of_etcd_{callers}"), our.per_second / load.per_second, "ratio");
            }
            record.note(format!("beside {}", etcd.version));
        }
    }
    record.note(format!(
        "{members} members, fsync on, {} s each after 1 s of warm-up, {CONNECTIONS} connections",
        args.seconds
    ));
    Ok(())
}

fn figures(record: &mut Recorder, who: &str, callers: usize, load: Load) {
    record.figure(format!("{who}_{callers}"), load.per_second, "acknowledged/s");
    record.figure(format!("{who}_{callers}_p50"), load.p50_ms, "ms");
    record.figure(format!("{who}_{callers}_p99"), load.p99_ms, "ms");
}

async fn connections_to_leader(cluster: &Cluster) -> Result<Vec<Api>> {
    let status = client::cluster_status(&mut cluster.connect().await?).await?;
    let leader = status
        .members
        .iter()
        .find(|member| Some(member.id) == status.leader)
        .context("there is no leader")?;
    let mut apis = Vec::new();
    for _ in 0..CONNECTIONS {
        apis.push(client::connect_to(cluster.target(), &leader.address).await?);
    }
    Ok(apis)
}
