//! `resources:` of a job file, and their merging with the defaults.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::value::{Cpus, Texts};
use crate::model::size::Size;

/// What one index needs of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesFile {
    /// CPUs, fractions too. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Memory. Default: no claim and no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Scratch disk. Default: no claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// GPUs: a number, or a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpusFile>,
}

/// A wish for GPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuTable {
    /// How many whole ones. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Accepted models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Texts>,
    /// Least memory of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Accepted CUDA compute capabilities, as in `">=8.0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// How close they must be. Default: `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkFile>,
    /// A share of one GPU, between 0 and 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// A MIG profile, as in `1g.10gb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<String>,
}

/// How close GPUs must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkFile {
    /// As they come.
    Any,
    /// On one NUMA node.
    SameNuma,
    /// Joined by NVLink.
    Nvlink,
}

/// `gpus: 2`, `gpus: 2xH100`, or a table.
#[derive(Clone, Debug, PartialEq)]
pub struct GpusFile(pub GpuTable);

impl GpusFile {
    /// Reads `2` or `2xH100`.
    ///
    /// # Errors
    /// The message, if the text is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let (count, model) = match trimmed.split_once('x') {
            Some((count, model)) if !model.is_empty() => (count, Some(Texts(vec![model.to_owned()]))),
            _ => (trimmed, None),
        };
        let count = count.parse().map_err(|_| {
            format!("`{text}` is no number of GPUs: write `2`, `2xH100`, or a table with count and model")
        })?;
        Ok(Self(GpuTable { count: Some(count), model, ..GpuTable::default() }))
    }
}

impl Serialize for GpusFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.count {
            Some(count) if self.0 == (GpuTable { count: Some(count), ..GpuTable::default() }) => {
                serializer.serialize_u32(count)
            }
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for GpusFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = GpusFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of GPUs, or a table with count, model and memory")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<GpusFile, E> {
                GpusFile::parse(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<GpusFile, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<GpusFile, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GpusFile, A::Error> {
                GpuTable::deserialize(MapAccessDeserializer::new(map)).map(GpusFile)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// What a task says, completed by the defaults. GPUs are taken as a whole: half of one wish and half of another is neither.
#[must_use]
pub(super) fn merge(own: Option<&ResourcesFile>, defaults: Option<&ResourcesFile>) -> ResourcesFile {
    let (Some(own), Some(defaults)) = (own, defaults) else {
        return own.or(defaults).cloned().unwrap_or_default();
    };
    ResourcesFile {
        cpus: own.cpus.or(defaults.cpus),
        memory: own.memory.or(defaults.memory),
        disk: own.disk.or(defaults.disk),
        gpus: own.gpus.as_ref().or(defaults.gpus.as_ref()).cloned(),
    }
}
