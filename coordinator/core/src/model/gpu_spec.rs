//! GPUs as people write them, `8xH100-80GB` or `4xA100-40GB,2xL4-24GB`: for devices that are made up, and for those of machines that are yet
//! to be bought. `7xH100/1g.10gb-10GB` are MIG instances of that profile.

use super::worker::{Device, Link, LinkClass};

/// Most devices of one worker.
pub const DEVICES_MAX: usize = 1024;
/// Devices of one NUMA node: a board of eight has two.
const BOARD_HALF: usize = 4;

/// What is wrong with a specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuSpecError {
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

/// The devices of a specification, without UUIDs. An empty one is no GPUs. They are linked as on the boards of their models.
///
/// # Errors
/// What is wrong with it.
pub fn parse(spec: &str) -> Result<Vec<Device>, GpuSpecError> {
    let mut devices: Vec<Device> = Vec::new();
    for part in spec.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let form = || GpuSpecError::Form(part.to_owned());
        let (count, rest) = part.split_once(['x', 'X']).ok_or_else(form)?;
        let count: usize = count.trim().parse().map_err(|_| form())?;
        let (model, memory) = rest.rsplit_once('-').ok_or_else(form)?;
        if count == 0 || model.is_empty() {
            return Err(form());
        }
        let memory = size(memory).ok_or_else(|| GpuSpecError::Memory(memory.to_owned()))?;
        let (model, mig) = model.split_once('/').map_or((model, None), |(m, p)| (m, Some(p.to_owned())));
        let first = devices.len();
        if first.saturating_add(count) > DEVICES_MAX {
            return Err(GpuSpecError::TooMany(first.saturating_add(count)));
        }
        for number in first..first + count {
            devices.push(Device {
                model: model.to_owned(),
                memory,
                compute_capability: capability(model).map_or(0, |(major, minor)| major * 10 + minor),
                numa: u16::try_from(number / BOARD_HALF).ok(),
                links: if mig.is_none() { links(number, first..first + count, model) } else { Vec::new() },
                mig: mig.clone(),
                ..Device::default()
            });
        }
    }
    Ok(devices)
}

/// As on the boards of these models: each has an `NVLink` to each other of its part of the specification.
fn links(number: usize, board: std::ops::Range<usize>, model: &str) -> Vec<Link> {
    let class = match capability(model) {
        Some((9.., _) | (8 | 7, 0)) => LinkClass::Nvlink,
        _ => return Vec::new(),
    };
    let others = board.filter(|n| *n != number).filter_map(|n| u16::try_from(n).ok());
    others.map(|peer| Link { peer, class, lanes: 1 }).collect()
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

/// The compute capability of the models that constraints are usually written for.
#[must_use]
pub fn capability(model: &str) -> Option<(u32, u32)> {
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
        let gpus = parse("2xH100-80GB, 1xA100-SXM4-40GiB").expect("sound");
        let shown: Vec<_> = gpus.iter().map(|d| (d.model.as_str(), d.memory, d.compute_capability)).collect();
        assert_eq!(
            shown,
            [("H100", 80_000_000_000, 90), ("H100", 80_000_000_000, 90), ("A100-SXM4", 40 << 30, 0)]
        );
        assert_eq!(gpus[1].links, [Link { peer: 0, class: LinkClass::Nvlink, lanes: 1 }]);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn bad_ones_say_what_is_expected() {
        for spec in ["8", "xH100-80GB", "0xH100-80GB", "8xH100", "8x-80GB"] {
            assert_eq!(parse(spec), Err(GpuSpecError::Form(spec.to_owned())), "{spec}");
        }
        assert_eq!(parse("8xH100-80"), Err(GpuSpecError::Memory("80".to_owned())));
        assert_eq!(parse("9999xH100-80GB"), Err(GpuSpecError::TooMany(9999)));
    }
}
