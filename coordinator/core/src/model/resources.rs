//! What a task asks of a worker: cpus, memory, disk and GPUs, in integers. What a worker has is in the worker's own model;
//! whether the one fits the other is the scheduler's.

use std::fmt;

use super::placement::WHOLE;
use serde::{Deserialize, Serialize};

/// What one index of a task needs of one worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes of memory; 0 = not said, the task has no limit of its own and takes none of the worker's books.
    pub memory: u64,
    /// Bytes of scratch disk; 0 = not said.
    pub disk: u64,
    /// GPUs, if any.
    pub gpus: Option<GpuRequest>,
}

impl Default for Resources {
    /// One CPU and nothing else: what a task gets when it says nothing.
    fn default() -> Self {
        Self { cpu_milli: 1_000, memory: 0, disk: 0, gpus: None }
    }
}

impl Resources {
    /// Number of devices asked for; a part of one counts as one.
    #[must_use]
    pub fn gpu_count(&self) -> u32 {
        self.gpus.as_ref().map_or(0, |g| g.amount.devices())
    }
}

/// How much of one worker's GPUs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuAmount {
    /// So many whole ones, at least 1.
    Whole(u32),
    /// A part of one, in thousandths: 1..=999.
    Fraction(u16),
    /// So many MIG instances of this profile, such as `1g.10gb`; at least 1.
    Mig(String, u32),
}

impl GpuAmount {
    /// Number of devices that it touches.
    #[must_use]
    pub fn devices(&self) -> u32 {
        match self {
            Self::Whole(count) | Self::Mig(_, count) => *count,
            Self::Fraction(_) => 1,
        }
    }

    /// Thousandths of each of them.
    #[must_use]
    pub fn milli(&self) -> u16 {
        match self {
            Self::Whole(_) | Self::Mig(..) => WHOLE,
            Self::Fraction(milli) => *milli,
        }
    }

    /// The profile, if it asks for MIG instances.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        match self {
            Self::Mig(profile, _) => Some(profile),
            Self::Whole(_) | Self::Fraction(_) => None,
        }
    }
}

impl Default for GpuAmount {
    /// One whole GPU.
    fn default() -> Self {
        Self::Whole(1)
    }
}

/// A wish for GPUs of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GpuRequest {
    /// How many, or how much of one.
    pub amount: GpuAmount,
    /// Accepted models, compared by [`model_matches`]; empty = any.
    pub model: Vec<String>,
    /// Least bytes of memory of each device; 0 = any.
    pub memory: u64,
    /// Accepted CUDA compute capabilities.
    pub compute_capability: Option<CapabilityRule>,
    /// How close the devices must be to each other.
    pub link: GpuLink,
}

/// How GPUs of one task must be connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuLink {
    /// Any devices of the worker.
    #[default]
    Any,
    /// All on one NUMA node.
    SameNuma,
    /// All joined by NVLink.
    Nvlink,
}

/// A comparison such as `>=8.0` against a device's compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CapabilityRule {
    /// The comparison.
    pub compare: Compare,
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

/// A comparison of two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Compare {
    /// `==`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `<=`
    AtMost,
    /// `<`
    Below,
}

/// Why a text is no rule for a compute capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no compute capability: write a version and a comparison, as in `>=8.0`")]
pub struct CapabilityError(pub String);

impl CapabilityRule {
    /// Reads `>=8.0`, `==9.0`, `<9` or `8.6` (which means at least 8.6).
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, CapabilityError> {
        let error = || CapabilityError(text.to_owned());
        let trimmed = text.trim();
        let (compare, version) = [
            (">=", Compare::AtLeast),
            ("<=", Compare::AtMost),
            ("==", Compare::Equal),
            (">", Compare::Above),
            ("<", Compare::Below),
            ("=", Compare::Equal),
        ]
        .into_iter()
        .find_map(|(sign, compare)| trimmed.strip_prefix(sign).map(|rest| (compare, rest)))
        .unwrap_or((Compare::AtLeast, trimmed));
        let version = version.trim();
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        Ok(Self {
            compare,
            major: major.parse().map_err(|_| error())?,
            minor: minor.parse().map_err(|_| error())?,
        })
    }

    /// Whether a device of capability `major.minor` is accepted.
    #[must_use]
    pub fn accepts(&self, major: u16, minor: u16) -> bool {
        let order = (major, minor).cmp(&(self.major, self.minor));
        match self.compare {
            Compare::Equal => order.is_eq(),
            Compare::AtLeast => order.is_ge(),
            Compare::Above => order.is_gt(),
            Compare::AtMost => order.is_le(),
            Compare::Below => order.is_lt(),
        }
    }
}

impl fmt::Display for CapabilityRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.compare {
            Compare::Equal => "==",
            Compare::AtLeast => ">=",
            Compare::Above => ">",
            Compare::AtMost => "<=",
            Compare::Below => "<",
        };
        write!(f, "{sign}{}.{}", self.major, self.minor)
    }
}

/// Whether a device called `device` is the model `wanted`: equal without regard to case, or `wanted` is a run of whole words
/// of the device's name (`H100` is `H100-80GB` and `NVIDIA H100 80GB HBM3`; `A10` is not `A100-40GB`).
#[must_use]
pub fn model_matches(wanted: &str, device: &str) -> bool {
    let words = |s: &str| -> Vec<String> {
        s.split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|w| !w.is_empty())
            .map(str::to_ascii_lowercase)
            .collect()
    };
    let (wanted, device) = (words(wanted), words(device));
    !wanted.is_empty() && device.windows(wanted.len()).any(|w| w == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_rules() {
        for (text, version, accepted) in [
            (">=8.0", (8, 0), true),
            (">=8.0", (7, 5), false),
            ("8.6", (9, 0), true),
            ("==9.0", (9, 0), true),
            ("==9.0", (9, 1), false),
            ("<9", (8, 9), true),
            ("> 8.9", (9, 0), true),
            ("<=8.9", (9, 0), false),
        ] {
            let rule = CapabilityRule::parse(text).expect(text);
            assert_eq!(rule.accepts(version.0, version.1), accepted, "{text} {version:?}");
        }
        for text in ["", "new", ">=", "8.x", "~8.0"] {
            assert!(CapabilityRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn models_match_by_whole_words() {
        for (wanted, device, yes) in [
            ("H100", "H100-80GB", true),
            ("h100", "NVIDIA H100 80GB HBM3", true),
            ("H100-80GB", "H100-80GB", true),
            ("A10", "A100-40GB", false),
            ("A100", "NVIDIA A100-SXM4-40GB", true),
            ("RTX 4090", "NVIDIA GeForce RTX 4090", true),
            ("", "H100", false),
        ] {
            assert_eq!(model_matches(wanted, device), yes, "{wanted} {device}");
        }
    }
}
