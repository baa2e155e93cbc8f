//! What this machine is: what a worker offers when it registers.

use crate::config::WorkerConfig;
use crate::devices::{Device, Driver, Link, LinkClass};
use muster_core::model::duration::Millis;
use muster_core::model::worker::{self, WorkerSpec};
use std::net::UdpSocket;
use std::path::Path;

/// The machine's host name, `worker` when it has none.
#[must_use]
pub fn host_name() -> String {
    sysinfo::System::host_name().ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "worker".into())
}

/// What the worker says of itself: the machine, overridden by the configuration.
#[must_use]
pub fn describe(
    config: &WorkerConfig,
    name: &str,
    (devices, driver): (&[Device], &Driver),
    isolation: &str,
) -> WorkerSpec {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // In thousandths; the configuration's bounds keep it small and positive.
    let cpu_milli = config.cpus.map_or(cores * 1000, |cpus| (cpus * 1000.0).round() as u64);
    let notices = crate::notice::sources(&config.notice);
    WorkerSpec {
        name: name.to_owned(),
        pool: config.pool.clone(),
        labels: config.labels.clone(),
        spot: config.spot,
        cpu_milli,
        memory: config.memory.map_or_else(memory, |m| m.bytes()),
        disk: config.disk.map_or_else(|| free_disk(&config.data_dir), |d| d.bytes()),
        devices: devices.iter().map(describe_device).collect(),
        isolation: isolation.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host_name(),
        address: address(config),
        driver: driver.version.clone(),
        cuda: driver.cuda,
        notice_ms: config.notice.shortest(&notices).map(Millis::get),
        notices,
    }
}

/// The address from which this machine reaches the members, which others of its network reach too; empty when there is no way to them.
/// Nothing is sent: connecting a datagram socket only asks the routing table.
fn address(config: &WorkerConfig) -> String {
    let local = |member: &String| {
        let socket = UdpSocket::bind("0.0.0.0:0").or_else(|_| UdpSocket::bind("[::]:0")).ok()?;
        socket.connect(member.as_str()).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    config.address.clone().unwrap_or_else(|| config.join.iter().find_map(local).unwrap_or_default())
}

fn describe_device(device: &Device) -> worker::Device {
    worker::Device {
        uuid: device.uuid.clone(),
        model: device.model.clone(),
        memory: device.memory_bytes,
        compute_capability: device.compute_capability.map_or(0, |(major, minor)| major * 10 + minor),
        numa: device.numa.and_then(|node| u16::try_from(node).ok()),
        links: device.links.iter().filter_map(describe_link).collect(),
        mig: device.mig.as_ref().map(|mig| mig.profile.clone()),
        simulated: device.simulated,
        absent: false,
    }
}

fn describe_link(link: &Link) -> Option<worker::Link> {
    let class = match link.class {
        LinkClass::Nvlink => worker::LinkClass::Nvlink,
        LinkClass::Board => worker::LinkClass::Board,
        LinkClass::Switch => worker::LinkClass::Switch,
        LinkClass::Switches => worker::LinkClass::Switches,
        LinkClass::HostBridge => worker::LinkClass::HostBridge,
        LinkClass::Node => worker::LinkClass::Node,
        LinkClass::System => worker::LinkClass::System,
    };
    let lanes = u16::try_from(link.lanes).unwrap_or(u16::MAX);
    Some(worker::Link { peer: u16::try_from(link.peer).ok()?, class, lanes })
}

/// Bytes of memory, or what the cgroup that the worker itself lives in allows; 0 when the machine does not say.
fn memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else { return 0 };
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|l| l.total_memory).filter(|bytes| *bytes > 0);
    limit.map_or(system.total_memory(), |limit| limit.min(system.total_memory()))
}

/// Bytes that are free where attempts write.
fn free_disk(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}
