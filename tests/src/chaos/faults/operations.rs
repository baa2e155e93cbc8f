//! What operators do while everything goes on: drains, and the verbs of `muster cluster`, by the command line that users have.

use super::{Injected, Kind, On, Target};
use crate::chaos::client::Answer;
use crate::chaos::net::PORT;
use crate::chaos::node::Role;
use crate::chaos::world::World;
use anyhow::{Context, Result, bail};
use muster_core::view_doc::ClusterDoc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const KINDS: &[Kind] = &[
    Kind::new("drain-worker", "26", On::Worker, (1_000, 8_000), 4, drain),
    Kind::new("transfer-leader", "20", On::Nothing, (0, 0), 5, transfer)
        .unless(|w| no_verb(w, "transfer-leader")),
    Kind::new("backup", "21", On::Nothing, (0, 0), 3, backup).unless(|w| no_verb(w, "backup")),
    Kind::new("replace-member", "22", On::Member, (1_000, 6_000), 5, replace).unless(|w| no_verb(w, "add")),
];

/// A replacement may have to wait for others' faults to be over.
const REPLACED_WITHIN: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(300);

fn no_verb(world: &World, verb: &str) -> Option<String> {
    let there = world.cli.run(&["cluster", verb, "--help"]).code == Some(0);
    (!there).then(|| format!("this version has no `muster cluster {verb}`"))
}

/// It may fail: there may be no majority just now.
fn transfer(world: &Arc<World>, _: &mut Target) -> Result<Injected> {
    let cli = world.cli.clone();
    Ok(Injected::work("another member is asked to lead", move || {
        cli.run(&["cluster", "transfer-leader"]);
        Ok(())
    }))
}

/// It may fail; a file that it leaves under its name is whole.
fn backup(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let (cli, file) = (world.cli.clone(), world.dir.join(format!("backup-{:x}", target.rng.bits())));
    let text = file.display().to_string();
    Ok(Injected::work("a backup under load", move || {
        cli.run(&["cluster", "backup", &text]);
        if !file.exists() {
            return Ok(());
        }
        let checked = cli.run(&["cluster", "restore", &text, "--verify-only"]);
        std::fs::remove_file(&file)?;
        if checked.code != Some(0) {
            bail!("a backup is not whole: {}", checked.stderr.trim());
        }
        Ok(())
    }))
}

/// A member and its disk are gone for ever; another takes its place, at its address, under a new id.
fn replace(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    // Two members of three without their disks would be a loss that nothing can make good.
    let Some(turn) = world.replace_one() else { bail!("another member is being replaced") };
    let address = format!("{}:{PORT}", world.node(&target.node).address.proxied());
    let members = cluster(world).context("no member says who the members are")?.members;
    let old = members.iter().find(|m| m.address == address).context("it is no member")?.id;
    {
        let mut node = world.node(&target.node);
        node.kill()?;
        turn.begun();
        std::fs::remove_dir_all(&node.data)?;
    }
    let (world, name, dead_for) =
        (Arc::clone(world), target.node.clone(), Duration::from_millis(target.millis));
    Ok(Injected::work(format!("member {old} lost its disk and is replaced"), move || {
        std::thread::sleep(dead_for);
        let token = world.dir.join(format!("token-{name}")).display().to_string();
        let start = Instant::now();
        let mut let_in = false;
        while start.elapsed() < REPLACED_WITHIN {
            if !let_in {
                let _ = std::fs::remove_file(&token);
                let add = ["cluster", "add", &address, "--replace", &old.to_string(), "--token-file", &token];
                let_in = world.cli.run(&add).code == Some(0);
                if let_in {
                    arrange(&world, &name, &token, old);
                }
            } else if !alive(&world, &name) {
                world.node(&name).start()?;
            } else if cluster(&world).is_some_and(|doc| is_replaced(&doc, &address, old)) {
                turn.done();
                return Ok(());
            }
            std::thread::sleep(AGAIN);
        }
        bail!("member {old} was not replaced within {} s", REPLACED_WITHIN.as_secs())
    }))
}

/// The newcomer is started as the command that `cluster add` prints.
fn arrange(world: &World, name: &str, token: &str, old: u64) {
    let others = world.names(Role::Member).into_iter().filter(|other| other != name);
    let joins: Vec<String> =
        others.map(|other| format!("{}:{PORT}", world.node(&other).address.proxied())).collect();
    let mut node = world.node(name);
    let mut args = std::mem::take(&mut node.args).into_iter();
    let mut kept = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bootstrap" => {}
            "--join" | "--join-token-file" | "--replace" => drop(args.next()),
            _ => kept.push(arg),
        }
    }
    kept.extend(["--join".to_owned(), joins.join(","), "--join-token-file".to_owned(), token.to_owned()]);
    kept.extend(["--replace".to_owned(), old.to_string()]);
    node.args = kept;
}

/// A newcomer that finds no leader ends, and has to be started again.
fn alive(world: &World, name: &str) -> bool {
    let mut node = world.node(name);
    node.ended().is_none() && node.is_running()
}

fn cluster(world: &World) -> Option<ClusterDoc> {
    let docs =
        (0..world.client.ways()).filter_map(|way| world.runtime.block_on(world.client.status(way)).heard());
    docs.filter(|doc| doc.leader.is_some()).max_by_key(|doc| doc.term)
}

fn is_replaced(doc: &ClusterDoc, address: &str, old: u64) -> bool {
    let votes = |role: &str| role == "leader" || role == "follower";
    doc.members.iter().all(|m| m.id != old)
        && doc.members.iter().any(|m| m.address == address && votes(&m.role))
}

/// Placements stop, what runs is evicted after a second; then the worker is given back.
fn drain(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let id = format!("drain-{:x}", target.rng.bits());
    let name = target.node.clone();
    let drained = world.runtime.spawn(until_heard(Arc::clone(world), id.clone(), name.clone(), Some(1_000)));
    let again = Arc::clone(world);
    // Whoever heals does not wait: there may be no leader before another fault is healed.
    Ok(Injected::new("drained with a deadline of 1 s, undrained", move |world| {
        world.runtime.spawn(async move {
            let _ = drained.await;
            until_heard(again, format!("un{id}"), name, None).await;
        });
        Ok(())
    }))
}

async fn until_heard(world: Arc<World>, request_id: String, worker: String, deadline_ms: Option<u64>) {
    for turn in 0.. {
        let way = turn % world.client.ways();
        match world.client.drain(way, &request_id, &worker, deadline_ms).await {
            Answer::Unknown(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Answer::Heard(_) | Answer::Refused(_) => return,
        }
    }
}
