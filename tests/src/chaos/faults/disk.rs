//! A member's disk that is slow, hangs or fills up. Each member has one of its own, so that the others' go on.

use super::{Injected, Kind, On, Target};
use crate::chaos::sys;
use crate::chaos::world::World;
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

pub const KINDS: &[Kind] = &[
    Kind::new("slow-disk", "16", On::Member, (3_000, 12_000), 4, slow).unless(no_throttle),
    Kind::new("hung-disk-of-leader", "16", On::Leader, (1_000, 9_000), 4, hang).unless(no_freeze),
    Kind::new("hung-disk-of-follower", "16", On::Follower, (1_000, 9_000), 3, hang).unless(no_freeze),
    Kind::new("full-disk", "17", On::Member, (2_000, 10_000), 4, fill).unless(no_ballast),
];

/// The rate of a slow disk: row 16.
const BYTES_A_SECOND: u64 = 1 << 20;

fn disk(world: &World, node: &str) -> Result<PathBuf> {
    world.node(node).disk.clone().with_context(|| format!("{node} has no disk of its own"))
}

fn no_throttle(world: &World) -> Option<String> {
    let file = world.node("c1").group("blkio").join("blkio.throttle.write_bps_device");
    (!file.exists()).then(|| "there is no blkio throttle of cgroup v1 here".to_owned())
}

fn no_freeze(_: &World) -> Option<String> {
    (!sys::has("fsfreeze")).then(|| "`fsfreeze` is not installed (Debian: util-linux)".to_owned())
}

fn slow(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let device = std::fs::metadata(disk(world, &target.node)?)?.dev();
    let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let file = world.node(&target.node).group("blkio").join("blkio.throttle.write_bps_device");
    sys::put(&file, &format!("{device} {BYTES_A_SECOND}"))?;
    Ok(Injected::new("1 MiB a second", move |_| sys::put(&file, &format!("{device} 0"))))
}

fn hang(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let at = disk(world, &target.node)?.display().to_string();
    sys::run("fsfreeze", &["--freeze", &at])?;
    Ok(Injected::new("no write ends", move |_| sys::run("fsfreeze", &["--unfreeze", &at]).map(drop)))
}

fn no_ballast(world: &World) -> Option<String> {
    let held = world.node("c1").data.join("ballast").exists();
    (!held).then(|| "this version keeps no room for itself on a disk that fills up".to_owned())
}

/// Somebody else's file takes all but a little: less than the member's own reserve, more than it writes before it looks at the disk again.
fn fill(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let at = disk(world, &target.node)?;
    let left = target.rng.range(16, 160) << 20;
    let free = nix::sys::statvfs::statvfs(&at)?;
    let free = free.blocks_available() * free.fragment_size();
    let filler = at.join("filler");
    let file = std::fs::File::create(&filler)?;
    let bytes = i64::try_from(free.saturating_sub(left))?;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, bytes.max(1))?;
    Ok(Injected::new(format!("{} MiB are left", left >> 20), move |_| Ok(std::fs::remove_file(&filler)?)))
}
