//! The emulator as a process, for tests of real coordinators and for trying things by hand.

use clap::Parser;
use muster_cloud_groups::Emulator;
use std::net::SocketAddr;

/// Serves groups of machines that do not exist, as clouds do.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  muster-cloud-groups --listen 127.0.0.1:7272 &\n  curl -X PUT -d '{\"max\": 8, \"hooks\": {\"drain\": 3600}}' http://127.0.0.1:7272/_control/asg/groups/gpu\n  curl http://127.0.0.1:7272/_control"
)]
struct Args {
    /// Where it listens; port 0 takes one that is free.
    #[arg(long, default_value = "127.0.0.1:7272")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)] // its one line of data
async fn main() -> anyhow::Result<()> {
    let emulator = Emulator::start(Args::parse().listen).await?;
    println!("{}", emulator.address());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
