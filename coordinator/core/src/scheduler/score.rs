//! What a placement costs: how much less of what is typically asked for the cluster could still take. The one formula of the scheduler,
//! in integers; docs/src/scheduling.md says it with its reasons.
//!
//! worth(worker) = Σ over typical shapes: share × value × copies of the shape that the worker could take, of its GPUs, CPUs and memory
//! whichever ends first. cost = worth before − worth after, + `PACK` for a task without GPUs, + `SCARCE` × how scarce the model is.
//! Costs are thousandths of a GPU × `SHARES`.
//!
//! A device with foreign processes costs more. Left out: links, prices, where artifacts lie. See `feasible` for what fits at all.

use super::mix::{SHARES, Shape};
use crate::model::placement::{Share, WHOLE};
use crate::model::resources::Resources;
use crate::state::Used;

/// Copies are counted in 1 / this.
const COPY: u64 = 1 << COPY_BITS;
const COPY_BITS: u32 = 10;
/// More copies than this do not matter.
const COPIES_MAX: u64 = 4_096 * COPY;
/// What a begun copy counts, of 10: CPUs that are not enough for one more copy are worth a little less than those that are.
const BEGUN: u64 = 9;
/// Distinct parts of a device that are looked at; those named only by rarer shapes count as nothing.
const PARTS_MAX: usize = 64;
/// For each GPU's part of the CPUs that it leaves on the worker, a task without GPUs costs so many thousandths of a GPU: such tasks fill
/// worker after worker instead of nibbling at all of them.
const PACK: u64 = 86;
/// For each GPU left on the worker, a task with GPUs costs so many thousandths of a GPU: only between almost equals.
const FILL: u64 = 1;
/// A whole GPU of a model of which twice as much is asked as there is costs so many GPUs more than one that there is enough of.
pub(super) const SCARCE: u64 = 6;

/// A whole GPU on which somebody else computes costs so many GPUs more.
const FOREIGN: u64 = 4;

/// What is left of a worker, of what the formula looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Free {
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Thousandths, by device number; MIG instances and what may not be used are 0.
    pub devices: Vec<u16>,
}

impl Free {
    /// What is left after this. What does not fit leaves nothing.
    #[must_use]
    pub fn without(&self, resources: &Resources, shares: &[Share]) -> Self {
        let mut free = self.clone();
        free.cpu_milli = free.cpu_milli.saturating_sub(resources.cpu_milli);
        free.memory = free.memory.saturating_sub(resources.memory);
        for share in shares {
            if let Some(device) = free.devices.get_mut(usize::from(share.device)) {
                *device = device.saturating_sub(share.milli);
            }
        }
        free
    }

    /// Thousandths of devices.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        self.devices.iter().map(|milli| u64::from(*milli)).sum()
    }
}

/// One amount that is divided by again and again: multiplied by its inverse instead.
#[derive(Debug, Clone, Copy)]
struct Divisor(u64);

/// Bits after the point of an inverse: with amounts below 2^44 nothing overflows, and too much is counted by 1 / `COPY` at most.
const INVERSE_BITS: u32 = 56;

impl Divisor {
    /// 0 is never exhausted, and is its own inverse.
    fn new(amount: u64) -> Self {
        Self((1_u64 << INVERSE_BITS).checked_div(amount).map_or(0, |inverse| inverse + 1))
    }

    /// Copies in `of`, in 1 / `COPY`.
    fn copies(self, of: u64) -> u64 {
        if self.0 == 0 {
            return COPIES_MAX;
        }
        let of = of.min(1 << 44) << COPY_BITS;
        let copies = (u128::from(of) * u128::from(self.0)) >> INVERSE_BITS;
        u64::try_from(copies).map_or(COPIES_MAX, |copies| copies.min(COPIES_MAX))
    }
}

/// A typical shape of which a worker's devices take copies.
#[derive(Debug, Clone)]
struct Typical {
    /// Place among the lens' parts for a part of one device, …
    part: usize,
    /// … or so many whole devices.
    devices: u64,
    cpu: Divisor,
    memory: Divisor,
    /// Share × value.
    weight: u64,
}

/// The mix as devices of one model see it.
#[derive(Debug, Clone, Default)]
pub struct Lens {
    /// Distinct parts of a device that are asked for, and how many of each a whole one takes.
    parts: Vec<(u16, u64)>,
    typical: Vec<Typical>,
}

impl Lens {
    /// Of the typical shapes (with shares of `SHARES`) those that `accepts` says may go to the model.
    pub fn new(typical: &[(Shape, u64)], accepts: impl Fn(&Shape) -> bool) -> Self {
        let mut lens = Self::default();
        for (shape, share) in typical.iter().filter(|(shape, _)| shape.devices > 0 && accepts(shape)) {
            let whole = shape.milli >= WHOLE;
            let part = if whole { 0 } else { lens.part(shape.milli) };
            lens.typical.push(Typical {
                part,
                devices: if whole { u64::from(shape.devices) } else { 0 },
                cpu: Divisor::new(shape.cpu_milli),
                memory: Divisor::new(shape.memory),
                weight: share * shape.value(),
            });
        }
        lens
    }

    fn part(&mut self, milli: u16) -> usize {
        self.parts.iter().position(|(m, _)| *m == milli).unwrap_or_else(|| {
            self.parts.push((milli, u64::from(WHOLE / milli.max(1))));
            self.parts.len() - 1
        })
    }

    /// The worth of what is left of a worker, in thousandths of a GPU × `SHARES`.
    #[must_use]
    pub fn worth(&self, free: &Free) -> i64 {
        let mut slots = [0_u64; PARTS_MAX];
        let whole = free.devices.iter().filter(|milli| **milli >= WHOLE).count() as u64;
        for (slots, (part, of_whole)) in slots.iter_mut().zip(&self.parts) {
            let begun = free.devices.iter().filter(|milli| **milli < WHOLE && *milli >= part);
            *slots = whole * of_whole + begun.map(|milli| u64::from(milli / part)).sum::<u64>();
        }
        let mut worth = 0;
        for shape in &self.typical {
            let by_devices = match shape.devices {
                0 => slots.get(shape.part).copied().unwrap_or(0) * COPY,
                // Devices beyond a full set are half-way to the next.
                n if whole >= n => whole * COPY / n,
                _ => 0,
            };
            if by_devices == 0 {
                continue;
            }
            let rest = shape.cpu.copies(free.cpu_milli).min(shape.memory.copies(free.memory));
            if rest < COPY {
                continue;
            }
            let (full, begun) = (rest / COPY * COPY, rest % COPY);
            worth += by_devices.min(full + begun * BEGUN / 10) * shape.weight;
        }
        i64::try_from(worth / COPY).unwrap_or(i64::MAX)
    }
}

/// What a place costs, the least is the best: before ids decide, fewest devices and CPUs left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// A worker with GPUs, for a task without.
    pub wasted: bool,
    /// Thousandths of a GPU × `SHARES`.
    pub cost: i64,
    pub gpu_milli_left: u64,
    pub cpu_milli_left: u64,
}

/// The score with what foreign processes on the devices cost.
#[must_use]
pub fn with_foreign(score: Score, shares: &[Share], used: &Used) -> Score {
    let foreign = shares.iter().filter(|share| used.foreign.contains(&share.device));
    let milli: u64 = foreign.map(|share| u64::from(share.milli)).sum();
    let extra = i64::try_from(FOREIGN * SHARES * milli).unwrap_or(i64::MAX);
    Score { cost: score.cost.saturating_add(extra), ..score }
}

/// The score of `shares` on a worker that is worth `before`. `cpu_per_gpu`: CPUs of the cluster for each GPU of it, in thousandths.
#[must_use]
pub fn score(
    lens: &Lens,
    before: i64,
    free: &Free,
    resources: &Resources,
    shares: &[Share],
    cpu_per_gpu: u64,
) -> Score {
    let after = free.without(resources, shares);
    let gpu_milli_left = after.gpu_milli();
    let mut cost = before - lens.worth(&after);
    // Without a mix nothing is known of the next tasks: the fullest worker.
    let extra = match (shares.is_empty(), lens.typical.is_empty()) {
        (_, true) => 0,
        (true, false) => PACK * SHARES * after.cpu_milli.min(1 << 32) / cpu_per_gpu.max(1),
        (false, false) => FILL * SHARES * gpu_milli_left / u64::from(WHOLE),
    };
    cost = cost.saturating_add(i64::try_from(extra).unwrap_or(i64::MAX));
    Score {
        wasted: shares.is_empty() && !free.devices.is_empty(),
        cost,
        gpu_milli_left,
        cpu_milli_left: after.cpu_milli,
    }
}
