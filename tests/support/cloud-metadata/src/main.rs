//! The emulator as a process, for tests of real workers and for trying things by hand.

use clap::Parser;
use muster_cloud_metadata::Emulator;
use std::net::SocketAddr;

/// Serves the metadata of AWS, GCP and Azure machines that do not exist.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  muster-cloud-metadata --listen 127.0.0.1:7171 &\n  MUSTER_NOTICE_SOURCES=aws MUSTER_NOTICE_AWS_ENDPOINT='http://127.0.0.1:7171/{worker}' muster dev --workers 2 --spot\n  curl -X PUT -d '{\"action\": \"terminate\", \"in_ms\": 120000}' http://127.0.0.1:7171/_control/w1/aws/instance-action"
)]
struct Args {
    /// Where it listens; port 0 takes one that is free.
    #[arg(long, default_value = "127.0.0.1:7171")]
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
