//! A fleet that was bought once: so many machines of eight GPUs from the beginning to the last arrival; then each goes as it gets empty, which
//! spares it what is left of the last tasks.

use super::world::{Rule, Wish, World};

/// See the head of the file.
#[derive(Debug)]
pub struct Fixed(pub u32);

impl Rule for Fixed {
    fn every_s(&self) -> u64 {
        60
    }

    fn look(&mut self, world: &World<'_>) -> Wish {
        let mut desired = vec![0; world.market.pools.len()];
        let large = desired.len() - 1;
        let mut remove = Vec::new();
        if world.is_after_the_last() && world.waiting.is_empty() {
            let empty = world.staying(large).filter(|(_, m)| m.jobs.is_empty());
            remove = empty.map(|(id, _)| id).collect();
            desired[large] = world.wanted(large) - remove.len() as u32;
        } else {
            desired[large] = self.0;
        }
        Wish { desired, remove, drain_s: 0 }
    }
}
