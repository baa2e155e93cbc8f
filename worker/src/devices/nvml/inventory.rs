//! What is there: read once, when the worker starts.

use super::NvmlError;
use super::library::Library;
use super::topology::{self, near_cpus, numa_node};
use crate::devices::{Device, Driver, Mig};
use nvml_wrapper::Device as Handle;
use nvml_wrapper::Nvml;
use std::path::Path;

/// Where the driver lists the device files of capabilities.
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";

/// A device and its handles.
pub struct Found<'n> {
    pub device: Device,
    pub handle: Handle<'n>,
    /// Of the whole GPU, for an instance.
    pub parent: Option<Handle<'n>>,
}

/// All devices in the order of their numbers. A GPU in MIG mode is its instances, and nothing without any. One that does not answer is left
/// out, and said so.
///
/// # Errors
/// The library can't even count them.
pub fn read(library: &Library) -> Result<(Vec<Found<'_>>, Driver), NvmlError> {
    let nvml = &library.nvml;
    let count =
        nvml.device_count().map_err(|source| NvmlError::Call { call: "nvmlDeviceGetCount_v2", source })?;
    let mut found = Vec::new();
    for number in 0..count {
        if let Err(error) = add(library, number, &mut found) {
            tracing::error!(number, %error, "a GPU does not answer; it is not offered");
        }
    }
    topology::link(nvml, &mut found);
    Ok((found, driver(nvml)))
}

fn driver(nvml: &Nvml) -> Driver {
    let cuda = nvml.sys_cuda_driver_version().unwrap_or(0);
    let part = |n: i32| u16::try_from(n).unwrap_or(0);
    Driver {
        version: nvml.sys_driver_version().unwrap_or_default(),
        cuda: (part(cuda / 1000), part(cuda % 1000 / 10)),
    }
}

fn add<'n>(
    library: &'n Library,
    number: u32,
    found: &mut Vec<Found<'n>>,
) -> Result<(), nvml_wrapper::error::NvmlError> {
    let nvml = &library.nvml;
    let handle = nvml.device_by_index(number)?;
    let whole = describe(&handle)?;
    if handle.mig_mode().map_or(0, |mode| mode.current) == 0 {
        found.push(Found { device: Device { index: next(found), ..whole }, handle, parent: None });
        return Ok(());
    }
    let before = found.len();
    for slot in 0..handle.mig_device_count().unwrap_or(0) {
        let Ok(instance) = handle.mig_device_by_index(slot) else { continue };
        let attributes = instance.attributes().ok();
        let name = instance.name().unwrap_or_default();
        let memory = instance.memory_info().map(|m| m.total).unwrap_or(0);
        let slices = attributes.as_ref().map_or(0, |a| a.gpu_instance_slice_count);
        let caps = match (whole.minor, library.mig_ids(&instance)) {
            (Some(minor), Some((gpu, compute))) => caps(Path::new(CAPABILITIES), minor, gpu, compute),
            _ => Vec::new(),
        };
        let mig = Mig { profile: profile(&name, slices, memory), parent: whole.uuid.clone(), caps };
        let device = Device {
            uuid: instance.uuid()?,
            index: next(found),
            memory_bytes: memory,
            mig: Some(mig),
            ..whole.clone()
        };
        found.push(Found { device, handle: instance, parent: Some(nvml.device_by_index(number)?) });
    }
    if found.len() == before {
        tracing::warn!(
            uuid = whole.uuid,
            "this GPU is in MIG mode and has no instances; nothing of it is offered"
        );
    }
    Ok(())
}

fn next(found: &[Found<'_>]) -> u32 {
    u32::try_from(found.len()).unwrap_or(u32::MAX)
}

fn describe(handle: &Handle<'_>) -> Result<Device, nvml_wrapper::error::NvmlError> {
    let pci = handle.pci_info().map(|info| short_pci(&info.bus_id)).unwrap_or_default();
    let cpus = near_cpus(handle);
    let capability = handle.cuda_compute_capability().ok();
    let part = |n: i32| u32::try_from(n).unwrap_or(0);
    Ok(Device {
        uuid: handle.uuid()?,
        index: 0,
        model: model(&handle.name()?).to_owned(),
        memory_bytes: handle.memory_info()?.total,
        compute_capability: capability.map(|c| (part(c.major), part(c.minor))),
        numa: numa_node(Path::new("/sys"), &pci, &cpus),
        cpus,
        pci,
        minor: handle.minor_number().ok(),
        ..Device::default()
    })
}

/// `NVIDIA H100 80GB HBM3` is asked for as `H100`: the maker and what follows the first number of bytes say nothing that is not elsewhere.
fn model(name: &str) -> &str {
    let name = name.trim().trim_start_matches("NVIDIA ").trim_start_matches("Tesla ");
    let is_size = |word: &str| word.strip_suffix("GB").is_some_and(|n| n.parse::<u32>().is_ok());
    let end = name.split(' ').take_while(|word| !is_size(word)).map(|word| word.len() + 1).sum::<usize>();
    let kept = name.get(..end.saturating_sub(1)).unwrap_or(name);
    // `A100-SXM4-80GB`, `H100 PCIe`: the form of the board is told apart by links, not by name.
    let first = kept.split([' ', '-']).next().unwrap_or(kept);
    let is_number = first.chars().any(|c| c.is_ascii_digit());
    if is_number { first } else { kept }
}

/// Minor numbers in `/dev/nvidia-caps` of an instance: of the GPU instance and of the compute instance in it.
fn caps(top: &Path, minor: u32, gpu: u32, compute: u32) -> Vec<u32> {
    let instance = top.join(format!("gpu{minor}/mig/gi{gpu}"));
    let files = [instance.join("access"), instance.join(format!("ci{compute}/access"))];
    let number =
        |text: String| text.lines().find_map(|l| l.strip_prefix("DeviceFileMinor:")?.trim().parse().ok());
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).filter_map(number).collect()
}

/// From NVML's name `… MIG 1g.10gb`, else from what the instance has.
fn profile(name: &str, slices: u32, memory: u64) -> String {
    match name.rsplit_once("MIG ") {
        Some((_, profile)) => profile.trim().to_owned(),
        None => format!("{slices}g.{}gb", memory.div_ceil(1 << 30)),
    }
}

/// The kernel writes four digits of domain and small letters; NVML eight and large ones.
pub fn short_pci(bus_id: &str) -> String {
    let start = bus_id.len().saturating_sub(12);
    bus_id.get(start..).unwrap_or(bus_id).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_what_people_ask_for() {
        for (name, expected) in [
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA A100-SXM4-80GB", "A100"),
            ("NVIDIA H200", "H200"),
            ("NVIDIA L40S", "L40S"),
            ("Tesla T4", "T4"),
            ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
            ("NVIDIA RTX A6000", "RTX A6000"),
        ] {
            assert_eq!(model(name), expected, "{name}");
        }
    }

    #[test]
    fn a_profile_is_in_the_name_or_follows_from_the_size() {
        assert_eq!(profile("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 1, 0), "1g.5gb");
        assert_eq!(profile("NVIDIA A100-SXM4-40GB", 2, 10 << 30), "2g.10gb");
    }

    #[test]
    fn the_capabilities_of_an_instance_are_two_device_files() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("gpu0/mig/gi7/ci0");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(top.path().join("gpu0/mig/gi7/access"), "DeviceFileMinor: 66\nDeviceFileMode: 292\n")
            .unwrap();
        std::fs::write(dir.join("access"), "DeviceFileMinor: 67\nDeviceFileMode: 292\n").unwrap();
        assert_eq!(caps(top.path(), 0, 7, 0), [66, 67]);
        assert_eq!(caps(top.path(), 1, 7, 0), [0; 0]);
    }

    #[test]
    fn a_bus_id_is_written_as_the_kernel_writes_it() {
        assert_eq!(short_pci("00000000:AF:00.0"), "0000:af:00.0");
    }
}
