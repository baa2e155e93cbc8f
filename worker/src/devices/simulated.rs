//! GPUs that are not there, from a specification such as `8xH100-80GB` or `4xA100-40GB,2xL4-24GB`.

use super::{Device, Devices, Event, Health, Link, LinkClass, Mig, Sample};
use muster_core::model::gpu_spec::{self, GpuSpecError};

/// A worker's simulated GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulated {
    devices: Vec<Device>,
}

impl Simulated {
    /// Reads a specification; `7xH100/1g.10gb-10GB` are MIG instances of that profile. The UUIDs follow from the worker's name and the position, so they are the same after a restart and
    /// never those of another worker. An empty specification is no GPUs.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(spec: &str, worker: &str) -> Result<Self, GpuSpecError> {
        let devices = (0_u32..).zip(gpu_spec::parse(spec)?).map(|(index, device)| {
            let capability = device.compute_capability;
            let links = device.links.iter().map(|link| Link {
                peer: u32::from(link.peer),
                // A specification makes no other.
                class: LinkClass::Nvlink,
                lanes: u32::from(link.lanes),
            });
            Device {
                uuid: uuid(worker, index),
                index,
                memory_bytes: device.memory,
                compute_capability: (capability > 0).then_some((capability / 10, capability % 10)),
                numa: device.numa.map(u32::from),
                links: links.collect(),
                mig: device.mig.as_deref().map(instance),
                simulated: true,
                model: device.model,
                ..Device::default()
            }
        });
        Ok(Self { devices: devices.collect() })
    }
}

impl Devices for Simulated {
    fn fingerprint(&self) -> Vec<Device> {
        self.devices.clone()
    }

    fn health(&self) -> Vec<(String, Health)> {
        self.devices.iter().map(|d| (d.uuid.clone(), Health::Healthy)).collect()
    }

    /// Nothing: there is nobody who could measure them.
    fn sample(&self) -> Vec<Sample> {
        self.devices.iter().map(|d| Sample { uuid: d.uuid.clone(), ..Sample::default() }).collect()
    }

    fn events(&self) -> Vec<Event> {
        Vec::new()
    }
}

/// An instance of a GPU that is not shown.
fn instance(profile: &str) -> Mig {
    Mig { profile: profile.to_owned(), parent: String::new(), caps: Vec::new() }
}

/// `GPU-` and a UUID of version 8 (free form), so that it has the shape of a real one.
fn uuid(worker: &str, index: u32) -> String {
    let hash = blake3::hash(format!("muster simulated gpu\0{worker}\0{index}").as_bytes());
    let mut hex = hash.to_hex()[..32].to_owned();
    hex.replace_range(12..13, "8");
    hex.replace_range(16..17, "a");
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_devices() {
        let gpus = Simulated::parse("2xH100-80GB, 1xA100-SXM4-40GiB", "w1").unwrap().fingerprint();
        let shown: Vec<_> =
            gpus.iter().map(|d| (d.index, d.model.as_str(), d.memory_bytes, d.simulated)).collect();
        let expected = [
            (0, "H100", 80_000_000_000, true),
            (1, "H100", 80_000_000_000, true),
            (2, "A100-SXM4", 40 << 30, true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(gpus[0].compute_capability, Some((9, 0)));
    }

    #[test]
    fn uuids_are_stable_and_unique_across_workers() {
        let of = |worker| Simulated::parse("8xH100-80GB", worker).unwrap();
        assert_eq!(of("w1"), of("w1"));
        let mut all: Vec<String> =
            ["w1", "w2", "w11"].iter().flat_map(|w| of(w).fingerprint()).map(|d| d.uuid).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 24);
        assert!(all.iter().all(|u| u.len() == 40 && u.starts_with("GPU-")));
    }

    #[test]
    fn no_specification_is_no_devices() {
        assert_eq!(Simulated::parse("", "w1").unwrap().fingerprint(), []);
    }
}
