//! Where an attempt runs and with what: shares of devices, and a seat for each of its ranks.

use super::ids::WorkerId;
use serde::{Deserialize, Serialize};

/// All of a device, in thousandths.
pub const WHOLE: u16 = 1_000;

/// A part of a device that an attempt takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Share {
    /// Number of the device on its worker.
    pub device: u16,
    /// 1..=1000, 1000 = all of it.
    pub milli: u16,
    /// Bytes of its memory; 0 = in proportion to `milli`. A granted share says it in bytes.
    pub memory: u64,
}

impl Share {
    /// All of a device.
    #[must_use]
    pub fn whole(device: u16) -> Self {
        Self { device, milli: WHOLE, memory: 0 }
    }

    /// Whether nobody else gets anything of the device.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.milli >= WHOLE
    }

    /// Bytes that it takes of a device that has `total`.
    #[must_use]
    pub fn bytes(&self, total: u64) -> u64 {
        if self.memory > 0 {
            return self.memory;
        }
        u64::try_from(u128::from(total) * u128::from(self.milli) / u128::from(WHOLE)).unwrap_or(total)
    }

    /// The same, with its memory in bytes of a device that has `total`.
    #[must_use]
    pub fn of(self, total: u64) -> Self {
        Self { memory: self.bytes(total), ..self }
    }
}

/// One rank of an attempt: where it runs and with what. The rank is its position among the seats; each is on another worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    pub worker: WorkerId,
    pub devices: Vec<Share>,
}

impl Seat {
    /// Whole devices of a worker, by number.
    #[must_use]
    pub fn whole(worker: WorkerId, devices: &[u16]) -> Self {
        Self { worker, devices: devices.iter().map(|d| Share::whole(*d)).collect() }
    }
}

/// What is taken of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceUse {
    /// Sum of the shares, at most 1000.
    pub milli: u16,
    /// Bytes.
    pub memory: u64,
}

/// Ports that gangs meet on, of each worker.
pub const GANG_PORTS: std::ops::Range<u16> = 20_000..30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_without_bytes_takes_its_part_of_the_memory() {
        let half = Share { device: 0, milli: 500, memory: 0 };
        assert_eq!((half.bytes(80 << 30), half.of(80 << 30).memory), (40 << 30, 40 << 30));
        assert_eq!(Share { memory: 7, ..half }.bytes(80 << 30), 7);
        assert_eq!(Share::whole(3).bytes(u64::MAX), u64::MAX);
    }
}
