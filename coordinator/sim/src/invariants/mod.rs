//! The properties of RELIABILITY, one file each: what is looked at when, and what is said when it does not hold.

pub mod i10_final;
pub mod i11_liveness;
pub mod i11_preemptions;
pub mod i13_scale_in;
pub mod i14_linearizable;
pub mod i15_replicas;
pub mod i19_gone;
pub mod i1_submissions;
pub mod i20_clock;
pub mod i21_ledger;
pub mod i2_results;
pub mod i3_one_process;
pub mod i4_devices;
pub mod i5_parents;
pub mod i7_resume;
pub mod i8_whole;
pub mod i9_gangs;

use crate::world::World;

/// After the quiet.
pub(crate) fn at_the_end(world: &mut World) {
    if world.violations.is_empty() {
        i1_submissions::check(world);
        i14_linearizable::check_all(world);
        i5_parents::check(world);
        i3_one_process::at_the_end(world);
        i7_resume::at_the_end(world);
        i21_ledger::check(world);
        i15_replicas::check(world);
    }
}
