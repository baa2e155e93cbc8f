//! What our own proxy does to connections between nodes and members: delay, silence, cut and half-closed connections.

use super::{Injected, Kind, On, Target};
use crate::chaos::net::Address;
use crate::chaos::node::Role;
use crate::chaos::proxy::{Blow, Link, Shape};
use crate::chaos::world::World;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;

pub const KINDS: &[Kind] = &[
    Kind::new("delay-member", "14", On::Member, (3_000, 12_000), 5, delay),
    Kind::new("delay-worker", "14", On::Worker, (3_000, 15_000), 4, delay),
    Kind::new("silence-member", "12, 13", On::Member, (1_000, 10_000), 4, silence),
    Kind::new("silence-worker", "15", On::Worker, (1_000, 15_000), 3, silence),
    Kind::new("cut-connections", "12", On::Member, (0, 0), 4, cut),
    Kind::new("half-close-connections", "13", On::Member, (0, 0), 4, half_close),
];

/// Every link that begins or ends at the node.
fn links(world: &World, node: &str) -> Vec<Link> {
    let members: Vec<Address> = world.names(Role::Member).iter().map(|n| world.node(n).address).collect();
    let workers = world.names(Role::Worker);
    let all: Vec<Address> =
        members.iter().copied().chain(workers.iter().map(|n| world.node(n).address)).collect();
    let here = world.node(node).address;
    let every = all.iter().flat_map(|from| members.iter().map(|to| (*from, *to)));
    every.filter(|(from, to)| from != to && (*from == here || *to == here)).collect()
}

fn shape(world: &World, node: &str, shape: Shape, detail: String) -> Injected {
    let links = links(world, node);
    links.iter().for_each(|link| world.proxy.shape(*link, shape));
    Injected::new(detail, move |world| {
        links.iter().for_each(|link| world.proxy.shape(*link, Shape::default()));
        Ok(())
    })
}

fn delay(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let (delay, jitter) = (target.rng.range(50, 300), target.rng.range(0, 200));
    let of_links =
        Shape { delay: Duration::from_millis(delay), jitter: Duration::from_millis(jitter), silent: false };
    Ok(shape(world, &target.node, of_links, format!("{delay} to {} ms each way", delay + jitter)))
}

fn silence(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let silent = Shape { silent: true, ..Shape::default() };
    Ok(shape(world, &target.node, silent, "its connections stay open and nothing moves".into()))
}

fn cut(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    links(world, &target.node).into_iter().for_each(|link| world.proxy.strike(link, Blow::Cut));
    Ok(Injected::blow("all its connections are closed"))
}

fn half_close(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    links(world, &target.node).into_iter().for_each(|link| world.proxy.strike(link, Blow::HalfClose));
    Ok(Injected::blow("its connections are closed in one direction"))
}
