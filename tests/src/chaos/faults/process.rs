//! Processes that die, stand still, or are frozen.

use super::{Injected, Kind, On, Target};
use crate::chaos::node::{Process, Role};
use crate::chaos::world::World;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use std::sync::Arc;
use std::time::Duration;

pub const KINDS: &[Kind] = &[
    Kind::new("kill-leader", "1", On::Leader, (200, 6_000), 14, kill_daemon),
    Kind::new("kill-follower", "2", On::Follower, (200, 8_000), 6, kill_daemon),
    Kind::new("kill-all-members", "2", On::Members, (500, 3_000), 3, kill_all_members),
    Kind::new("restart-member", "23", On::Member, (100, 2_000), 4, restart_daemon),
    Kind::new("stop-leader", "7", On::Leader, (200, 12_000), 8, stop_daemon),
    Kind::new("stop-follower", "7", On::Follower, (500, 15_000), 4, stop_daemon),
    Kind::new("flap-leader", "20", On::Members, (8_000, 16_000), 3, flap_leader),
    Kind::new("stop-agent", "8", On::Worker, (11_000, 17_000), 6, stop_daemon),
    Kind::new("stop-agent-briefly", "8", On::Worker, (500, 7_000), 4, stop_daemon),
    Kind::new("stop-agent-and-shim", "9", On::Worker, (11_000, 16_000), 4, stop_agent_and_shim),
    Kind::new("freeze-worker", "9", On::Worker, (11_000, 16_000), 5, freeze_worker).unless(no_freezer),
    Kind::new("kill-agent", "10", On::Worker, (300, 5_000), 8, kill_daemon),
    Kind::new("kill-agent-for-long", "8, 10", On::Worker, (11_000, 15_000), 3, kill_daemon),
    Kind::new("restart-agent", "10", On::Worker, (100, 3_000), 4, restart_daemon),
    Kind::new("kill-task", "11", On::Worker, (0, 0), 8, kill_task),
    Kind::new("kill-shim", "11", On::Worker, (1_000, 3_000), 6, kill_shim),
    Kind::new("kill-worker", "9", On::Worker, (1_000, 15_000), 6, kill_worker),
];

/// How long a daemon may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

fn kill_daemon(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    world.node(&target.node).kill()?;
    let name = target.node.clone();
    Ok(Injected::new("SIGKILL, started again", move |world| world.node(&name).start()))
}

/// As an operator does: SIGTERM, and the daemon ends in its own time.
fn restart_daemon(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let name = target.node.clone();
    let mut node = world.node(&name);
    let detail = match node.end(Signal::SIGTERM, PATIENCE) {
        Ok(()) => "SIGTERM, started again".to_owned(),
        Err(error) => {
            node.kill()?;
            format!("{error:#}; SIGKILL, started again")
        }
    };
    Ok(Injected::new(detail, move |world| world.node(&name).start()))
}

fn kill_all_members(world: &Arc<World>, _: &mut Target) -> Result<Injected> {
    let members = world.names(Role::Member);
    for name in &members {
        world.node(name).kill()?;
    }
    Ok(Injected::new("SIGKILL to all, started again", move |world| {
        members.iter().try_for_each(|name| world.node(name).start())
    }))
}

fn stop_daemon(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    world.node(&target.node).signal(Signal::SIGSTOP)?;
    let name = target.node.clone();
    Ok(Injected::new("SIGSTOP to the daemon", move |world| world.node(&name).signal(Signal::SIGCONT)))
}

/// Each leader in turn stands still until another is elected.
fn flap_leader(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let mut rng = target.rng.clone();
    let heal = super::again(world, move |world, pause| {
        if let Some(leader) = world.leader() {
            let stopped = world.node(&leader).signal(Signal::SIGSTOP).is_ok();
            pause(rng.range(1_600, 2_200));
            if stopped {
                let _ = world.node(&leader).signal(Signal::SIGCONT);
            }
        }
        pause(rng.range(400, 2_000));
    });
    Ok(Injected::new("each leader in turn is stopped for 2 s", heal))
}

fn of_verb(world: &World, name: &str, verb: &str) -> Vec<Process> {
    world.node(name).processes().into_iter().filter(|p| p.is(verb)).collect()
}

fn stop_agent_and_shim(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let name = target.node.clone();
    world.paused(&name);
    let mut stopped = of_verb(world, &name, "worker");
    stopped.extend(of_verb(world, &name, "shim"));
    for process in &stopped {
        let _ = kill(process.pid, Signal::SIGSTOP);
    }
    let detail = format!("SIGSTOP to the agent and {} shims", stopped.len().saturating_sub(1));
    Ok(Injected::new(detail, move |world| {
        for process in &stopped {
            let _ = kill(process.pid, Signal::SIGCONT);
        }
        world.resumed(&name);
        Ok(())
    }))
}

fn no_freezer(world: &World) -> Option<String> {
    let state = world.node("w1").group("freezer").join("freezer.state");
    (!state.exists()).then(|| "there is no cgroup v1 freezer here".to_owned())
}

fn freeze_worker(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let name = target.node.clone();
    world.paused(&name);
    world.node(&name).freeze(true)?;
    Ok(Injected::new("agent, shim and tasks frozen", move |world| {
        world.node(&name).freeze(false)?;
        world.resumed(&name);
        Ok(())
    }))
}

fn kill_task(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let tasks = of_verb(world, &target.node, "task");
    if tasks.is_empty() {
        return Ok(Injected::blow("it ran no task"));
    }
    let task = &tasks[target.rng.index(tasks.len())];
    let _ = kill(task.pid, Signal::SIGKILL);
    Ok(Injected::blow(format!("SIGKILL to one of {} tasks", tasks.len())))
}

fn kill_shim(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let shims = of_verb(world, &target.node, "shim");
    for shim in &shims {
        kill(shim.pid, Signal::SIGKILL).context("cannot kill a shim")?;
    }
    Ok(Injected::blow(format!("SIGKILL to {} shims", shims.len())))
}

/// All of it at once, as a machine that loses its power; its disk is there again afterwards.
fn kill_worker(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    world.node(&target.node).kill_everything()?;
    let name = target.node.clone();
    Ok(Injected::new("SIGKILL to everything, started again", move |world| world.node(&name).start()))
}
