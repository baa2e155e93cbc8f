//! What kind of run a seed is: how long, how large, how hostile.

use crate::plants::Plant;
use crate::rng::Rng;

/// Members of the modelled cluster.
pub const MEMBERS: usize = 3;
/// After the heal, everything has to be finished this long, ms of virtual time.
pub const LIVENESS_MS: u64 = 20 * 60 * 1000;
/// After the last job, machines of pools that idle have so long to go, ms: the longest time that a pool whose machines did not come waits
/// with its min, and some.
pub const SCALED_IN_MS: u64 = 10 * 60 * 1000;
/// After the last job, workers get this long to let go of everything, ms …
pub const QUIET_MS: u64 = 60_000;
/// … and now and then nothing happens for this long: a cluster over lunch.
pub const IDLE_MS: u64 = 15 * 60 * 1000;

/// Runs in 1,000 that have pools.
const CLOUDED_PERMILLE: u64 = 300;
/// The phase with faults of one that has, at least, ms.
const CLOUDED_MS: u64 = 120_000;

/// The dimensions of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    /// Keep the lines of the trace, not only its hash.
    pub keep_trace: bool,
    /// Length of the phase with faults, ms.
    pub safety_ms: u64,
    pub workers: usize,
    pub jobs: u64,
    /// Mean time between faults, ms; 0: none.
    pub fault_every_ms: u64,
    /// Ordinary one-way delay of a message, at most, ms.
    pub delay_ms: u64,
    /// Messages in 1,000 whose session breaks under them.
    pub loss_permille: u64,
    /// Messages in 1,000 that take up to 50 times as long.
    pub slow_permille: u64,
    /// Calls and registrations in 1,000 that are made twice, through different members.
    pub duplicate_permille: u64,
    /// Registrations in 1,000 of which a copy is held back somewhere and arrives up to 30 s later.
    pub late_permille: u64,
    /// Attempts in 1,000 that fail by themselves.
    pub failure_permille: u64,
    /// Attempts in 1,000 that run for as long as a few leases.
    pub long_permille: u64,
    /// The wall clocks of the members are wrong, and jump.
    pub wall_jumps: bool,
    /// There are pools, and a provider of machines for them.
    pub cloud: bool,
    /// Quiet at the end, ms.
    pub quiet_ms: u64,
    /// Made by [`Options::hostile`].
    pub hostile: bool,
    /// A bug to make.
    pub plant: Option<Plant>,
}

impl Options {
    /// The run that this seed stands for.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "options");
        let calm = rng.chance(60);
        Self {
            seed,
            keep_trace: false,
            safety_ms: rng.range(30_000, 90_000),
            workers: rng.range(2, 5) as usize,
            jobs: rng.range(3, 12),
            fault_every_ms: if calm { 0 } else { rng.range(1_000, 8_000) },
            delay_ms: rng.pick(&[1, 5, 20, 100]),
            loss_permille: if calm { 0 } else { rng.pick(&[0, 1, 5, 20]) },
            slow_permille: rng.pick(&[0, 10, 50]),
            duplicate_permille: rng.pick(&[0, 20, 100]),
            failure_permille: rng.pick(&[0, 50, 150, 300]),
            late_permille: if calm { 0 } else { rng.pick(&[0, 100, 300]) },
            long_permille: 40,
            wall_jumps: true,
            cloud: false,
            quiet_ms: if seed.is_multiple_of(10) { IDLE_MS } else { QUIET_MS },
            hostile: false,
            plant: None,
        }
        .clouded(Rng::new(seed, "clouded").chance(CLOUDED_PERMILLE))
    }

    /// With pools, or without. What a provider said is forgotten after a minute, so it takes longer.
    fn clouded(self, cloud: bool) -> Self {
        let safety_ms = if cloud { self.safety_ms.max(CLOUDED_MS) } else { self.safety_ms };
        Self { cloud, safety_ms, ..self }
    }

    /// A run of this seed in which much breaks and much runs long, so that leases matter in most of them.
    #[must_use]
    pub fn hostile(seed: u64) -> Self {
        let plain = Self::new(seed);
        Self {
            safety_ms: plain.safety_ms.max(75_000),
            workers: plain.workers.max(3),
            jobs: plain.jobs.max(8),
            // Many overlap, or one at a time has all the time it needs: an election starts every lease anew.
            fault_every_ms: [1_500, 4_000, 9_000][seed as usize % 3],
            loss_permille: plain.loss_permille.max(2),
            duplicate_permille: plain.duplicate_permille.max(50),
            late_permille: 300,
            failure_permille: plain.failure_permille.max(50),
            long_permille: 300,
            hostile: true,
            ..plain
        }
    }

    /// A hostile run of this seed with this bug in it.
    #[must_use]
    pub fn planted(seed: u64, plant: Plant) -> Self {
        let cloud = plant.invariant() == "I13";
        let plain = Self { plant: Some(plant), ..Self::hostile(seed) };
        if cloud { plain.clouded(true) } else { Self { cloud, ..plain } }
    }
}
