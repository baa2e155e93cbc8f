//! The files of the trace: nodes and pods, as workers and asks.

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use muster_core::model::resources::{GpuAmount, GpuRequest, Resources};
use muster_core::model::worker::{Device, WorkerSpec};
use muster_core::scheduler::Ask;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Memory of a device: the trace says none, and nothing asks for any.
const DEVICE_MEMORY: u64 = 16 << 30;

/// One task of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub ask: Ask,
    pub devices: u64,
    /// Thousandths of each device.
    pub milli: u64,
}

/// A cluster and what is asked of it.
#[derive(Debug, Clone)]
pub struct Trace {
    /// By name.
    pub nodes: Vec<WorkerSpec>,
    /// By name.
    pub pods: Vec<Pod>,
}

impl Trace {
    /// Reads the GPU nodes and one list of pods from `dir/alibaba-gpu-v2023`.
    ///
    /// # Errors
    /// A file that is missing, or a line that is no node or pod.
    pub fn read(dir: &Path, variant: &str) -> Result<Self> {
        let dir = dir.join("alibaba-gpu-v2023");
        let nodes = text(&dir, "openb_node_list_gpu_node.csv")?;
        let pods = text(&dir, &format!("openb_pod_list_{variant}.csv"))?;
        Self::parse(&nodes, &pods)
    }

    /// From the text of both files, a header first.
    ///
    /// # Errors
    /// A line that is no node or pod.
    pub fn parse(nodes: &str, pods: &str) -> Result<Self> {
        let sorted = |text: &str| -> Vec<Vec<String>> {
            let fields = |line: &str| line.split(',').map(|field| field.trim().to_owned()).collect();
            let mut lines: Vec<Vec<String>> = text.lines().skip(1).map(fields).collect();
            lines.sort();
            lines
        };
        let nodes = sorted(nodes).iter().map(|line| node(line)).collect::<Result<Vec<_>>>()?;
        let pods = sorted(pods).iter().map(|line| pod(line)).collect::<Result<Vec<_>>>()?;
        ensure!(!nodes.is_empty() && !pods.is_empty(), "the trace has no nodes or no pods");
        Ok(Self { nodes, pods })
    }
}

/// The file, packed or not.
///
/// # Errors
/// A file that is not there.
pub fn text(dir: &Path, name: &str) -> Result<String> {
    let (plain, packed) = (dir.join(name), dir.join(format!("{name}.gz")));
    let mut text = String::new();
    if plain.exists() {
        File::open(&plain).and_then(|mut file| file.read_to_string(&mut text))
    } else {
        File::open(&packed).and_then(|file| GzDecoder::new(BufReader::new(file)).read_to_string(&mut text))
    }
    .with_context(|| {
        format!(
            "cannot read {}; name the directory that holds alibaba-gpu-v2023 with --traces",
            packed.display()
        )
    })?;
    Ok(text)
}

fn number(line: &[String], at: usize) -> Result<u64> {
    let field = line.get(at).with_context(|| format!("line `{}` has no field {}", line.join(","), at + 1))?;
    field.parse().with_context(|| format!("`{field}` in line `{}` is no number", line.join(",")))
}

fn node(line: &[String]) -> Result<WorkerSpec> {
    let name = line.first().cloned().unwrap_or_default();
    let model = line.get(4).cloned().unwrap_or_default();
    let device = |n: u64| Device {
        uuid: format!("{name}-{n}"),
        model: model.clone(),
        memory: DEVICE_MEMORY,
        simulated: true,
        ..Device::default()
    };
    Ok(WorkerSpec {
        cpu_milli: number(line, 1)?,
        memory: number(line, 2)? * MIB,
        devices: (0..number(line, 3)?).map(device).collect(),
        name,
        ..WorkerSpec::default()
    })
}

/// A task, from the fields of its line.
///
/// # Errors
/// A field that is missing or no number.
pub fn pod(line: &[String]) -> Result<Pod> {
    let (devices, milli) = (number(line, 3)?, number(line, 4)?);
    let model = line.get(5).map(String::as_str).unwrap_or_default();
    let mut model: Vec<String> = model.split('|').filter(|m| !m.is_empty()).map(str::to_owned).collect();
    model.sort();
    model.dedup();
    let amount = match devices {
        1 if milli < 1_000 => GpuAmount::Fraction(u16::try_from(milli)?),
        n => GpuAmount::Whole(u32::try_from(n)?),
    };
    let gpus = (devices > 0).then(|| GpuRequest { amount, ..GpuRequest::default() });
    let gpus = gpus.map(|request| GpuRequest { model, ..request });
    let resources = Resources { cpu_milli: number(line, 1)?, memory: number(line, 2)? * MIB, disk: 0, gpus };
    Ok(Pod { ask: Ask { resources, constraints: Vec::new() }, devices, milli })
}
