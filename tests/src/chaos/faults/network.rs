//! Packets that do not arrive: rules of nftables inside the nodes, the bridge, and a rate.

use super::{Injected, Kind, On, Target};
use crate::chaos::net::Rule;
use crate::chaos::node::Role;
use crate::chaos::sys;
use crate::chaos::world::World;
use anyhow::Result;
use std::sync::Arc;

pub const KINDS: &[Kind] = &[
    Kind::new("cut-leader", "12", On::Leader, (500, 12_000), 7, isolate).unless(no_nft),
    Kind::new("cut-follower", "12", On::Follower, (1_000, 15_000), 4, isolate).unless(no_nft),
    Kind::new("cut-bridge", "12", On::Members, (300, 3_000), 2, cut_bridge),
    Kind::new("mute-leader", "13", On::Leader, (500, 10_000), 5, mute).unless(no_nft),
    Kind::new("cut-one-way", "13", On::Member, (1_000, 12_000), 5, cut_one_way).unless(no_nft),
    Kind::new("cut-pair", "13", On::Member, (1_000, 12_000), 5, cut_pair).unless(no_nft),
    Kind::new("flap-member", "13", On::Member, (2_000, 8_000), 4, flap).unless(no_nft),
    Kind::new("lose-at-member", "14", On::Member, (3_000, 12_000), 4, lose).unless(no_nft),
    Kind::new("lose-at-worker", "14", On::Worker, (3_000, 15_000), 4, lose).unless(no_nft),
    Kind::new("slow-link-of-member", "14", On::Member, (3_000, 12_000), 3, slow_link).unless(no_tbf),
    Kind::new("slow-link-of-worker", "14", On::Worker, (3_000, 12_000), 3, slow_link).unless(no_tbf),
    Kind::new("cut-worker", "15", On::Worker, (1_000, 17_000), 8, isolate).unless(no_nft),
    Kind::new("cut-worker-from-leader", "15", On::Worker, (1_000, 15_000), 4, cut_from_leader).unless(no_nft),
    Kind::new("flap-worker", "13", On::Worker, (3_000, 12_000), 4, flap).unless(no_nft),
];

/// The rate of a slow link: row 14.
const RATE: &str = "1mbit";

fn no_nft(_: &World) -> Option<String> {
    if !sys::has("nft") {
        return Some("`nft` is not installed (Debian: nftables)".into());
    }
    sys::run("nft", &["list", "ruleset"]).err().map(|error| format!("nft does not work here: {error:#}"))
}

fn no_tbf(_: &World) -> Option<String> {
    if !sys::has("tc") {
        return Some("`tc` is not installed (Debian: iproute2)".into());
    }
    let try_it = sys::run(
        "tc",
        &["qdisc", "add", "dev", "lo", "root", "tbf", "rate", RATE, "burst", "32kb", "latency", "400ms"],
    );
    let _ = sys::run("tc", &["qdisc", "del", "dev", "lo", "root"]);
    try_it.err().map(|error| format!("the kernel has no tbf: {error:#}"))
}

/// Rules on nodes that are lifted together.
fn impose(world: &World, rules: Vec<(String, Rule)>, detail: String) -> Result<Injected> {
    let mut imposed = Vec::new();
    for (node, rule) in rules {
        let id = world.net.impose(&node, rule)?;
        imposed.push((node, id));
    }
    Ok(Injected::new(detail, move |world| {
        imposed.iter().try_for_each(|(node, id)| world.net.lift(node, *id))
    }))
}

fn isolate(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    impose(world, vec![(target.node.clone(), Rule::Isolated)], "from everybody, both ways".into())
}

/// It hears everybody and nobody hears it.
fn mute(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let others = others(world, &target.node);
    let rules = others.iter().map(|o| (target.node.clone(), Rule::CutTo(world.node(o).address)));
    impose(world, rules.collect(), "nothing it sends reaches a member".into())
}

fn others(world: &World, node: &str) -> Vec<String> {
    world.names(Role::Member).into_iter().filter(|name| name != node).collect()
}

fn another(world: &World, target: &mut Target) -> String {
    let others = others(world, &target.node);
    others[target.rng.index(others.len())].clone()
}

fn cut_one_way(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let other = another(world, target);
    let rule = Rule::CutTo(world.node(&other).address);
    impose(world, vec![(target.node.clone(), rule)], format!("nothing it sends reaches {other}"))
}

/// Two members do not see each other, the third sees both.
fn cut_pair(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let other = another(world, target);
    let there = Rule::CutTo(world.node(&other).address);
    let back = Rule::CutTo(world.node(&target.node).address);
    let rules = vec![(target.node.clone(), there), (other.clone(), back)];
    impose(world, rules, format!("from {other}, both ways"))
}

fn cut_from_leader(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let leader = world.leader().unwrap_or_else(|| "c1".to_owned());
    let rule = Rule::CutTo(world.node(&leader).address);
    impose(world, vec![(target.node.clone(), rule)], format!("nothing it sends reaches {leader}"))
}

/// In and out of the network, 50 to 500 ms each.
fn flap(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let (name, mut rng) = (target.node.clone(), target.rng.clone());
    let heal = super::again(world, move |world, pause| {
        let imposed = world.net.impose(&name, Rule::Isolated);
        pause(rng.range(50, 500));
        if let Ok(id) = imposed {
            let _ = world.net.lift(&name, id);
        }
        pause(rng.range(50, 500));
    });
    Ok(Injected::new("in and out, 50 to 500 ms each", heal))
}

fn lose(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let percent = u8::try_from(target.rng.range(1, 15)).unwrap_or(1);
    let rules = vec![(target.node.clone(), Rule::Loss(percent))];
    impose(world, rules, format!("{percent} % of its packets, each way"))
}

fn slow_link(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let _ = world;
    let name = target.node.clone();
    sys::run(
        "ip",
        &[
            "netns", "exec", &name, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", RATE,
            "burst", "32kb", "latency", "400ms",
        ],
    )?;
    Ok(Injected::new(format!("{RATE}/s out"), move |_| {
        sys::run("ip", &["netns", "exec", &name, "tc", "qdisc", "del", "dev", "eth0", "root"]).map(drop)
    }))
}

/// Nobody hears anybody.
fn cut_bridge(_: &Arc<World>, _: &mut Target) -> Result<Injected> {
    sys::run("ip", &["link", "set", "hub", "down"])?;
    Ok(Injected::new("the bridge is down", |_| sys::run("ip", &["link", "set", "hub", "up"]).map(drop)))
}
