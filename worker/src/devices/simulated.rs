//! GPUs that are not there, from a specification such as `8xH100-80GB` or `4xA100-40GB,2xL4-24GB`.

use thiserror::Error;

use super::{Device, Devices, Event, Health, Link, LinkClass, Mig, Sample};

/// Most devices of one worker.
pub const DEVICES_MAX: usize = 1024;

/// Devices of one NUMA node: a board of eight has two.
const BOARD_HALF: u32 = 4;

/// What is wrong with a specification.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Not of the form `8xH100-80GB`.
    #[error("bad GPU specification `{0}`: expected COUNTxMODEL-MEMORY, such as `8xH100-80GB`")]
    Form(String),
    /// Not a size.
    #[error("bad GPU memory `{0}`: expected a number and GB or GiB, such as `80GB`")]
    Memory(String),
    /// More than [`DEVICES_MAX`].
    #[error("{0} GPUs; a worker has at most {DEVICES_MAX}")]
    TooMany(usize),
}

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
    pub fn parse(spec: &str, worker: &str) -> Result<Self, SpecError> {
        let mut devices = Vec::new();
        for part in spec.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let form = || SpecError::Form(part.to_owned());
            let (count, rest) = part.split_once(['x', 'X']).ok_or_else(form)?;
            let count: usize = count.trim().parse().map_err(|_| form())?;
            let (model, memory) = rest.rsplit_once('-').ok_or_else(form)?;
            if count == 0 || model.is_empty() {
                return Err(form());
            }
            let memory_bytes = size(memory).ok_or_else(|| SpecError::Memory(memory.to_owned()))?;
            let (model, mig) = model.split_once('/').map_or((model, None), |(m, p)| (m, Some(instance(p))));
            let board = devices.len()..devices.len() + count;
            if devices.len() + count > DEVICES_MAX {
                return Err(SpecError::TooMany(devices.len() + count));
            }
            for _ in 0..count {
                let index = u32::try_from(devices.len()).unwrap_or(u32::MAX);
                devices.push(Device {
                    uuid: uuid(worker, index),
                    index,
                    model: model.to_owned(),
                    memory_bytes,
                    compute_capability: capability(model),
                    numa: Some(index / BOARD_HALF),
                    links: if mig.is_none() { links(index, &board, model) } else { Vec::new() },
                    mig: mig.clone(),
                    simulated: true,
                    ..Device::default()
                });
            }
        }
        Ok(Self { devices })
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

/// As on the boards of these models: each has an `NVLink` to each other of its part of the specification.
fn links(index: u32, board: &std::ops::Range<usize>, model: &str) -> Vec<Link> {
    let class = match capability(model) {
        Some((9.., _) | (8 | 7, 0)) => LinkClass::Nvlink,
        _ => return Vec::new(),
    };
    let others = board.clone().filter_map(|n| u32::try_from(n).ok()).filter(|n| *n != index);
    others.map(|peer| Link { peer, class, lanes: 1 }).collect()
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

fn size(text: &str) -> Option<u64> {
    let units = [
        ("GiB", 1u64 << 30),
        ("MiB", 1 << 20),
        ("TiB", 1 << 40),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let (number, unit) = units.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)))?;
    let number: u64 = number.trim().parse().ok()?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// Of the models that constraints are usually written for.
fn capability(model: &str) -> Option<(u32, u32)> {
    Some(match model.to_ascii_uppercase().as_str() {
        "B200" | "GB200" => (10, 0),
        "H100" | "H200" | "GH200" => (9, 0),
        "L4" | "L40" | "L40S" => (8, 9),
        "A10" | "A10G" | "A40" | "A6000" => (8, 6),
        "A100" | "A30" => (8, 0),
        "T4" => (7, 5),
        "V100" => (7, 0),
        _ => return None,
    })
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

    #[test]
    fn bad_ones_say_what_is_expected() {
        for spec in ["8", "xH100-80GB", "0xH100-80GB", "8xH100", "8x-80GB"] {
            assert_eq!(Simulated::parse(spec, "w"), Err(SpecError::Form(spec.to_owned())), "{spec}");
        }
        assert_eq!(Simulated::parse("8xH100-80", "w"), Err(SpecError::Memory("80".to_owned())));
        assert_eq!(Simulated::parse("9999xH100-80GB", "w"), Err(SpecError::TooMany(9999)));
    }
}
