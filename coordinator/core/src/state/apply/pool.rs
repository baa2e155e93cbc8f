//! The books of a pool's workers: who came, who went, who was lost.

use super::Apply;
use crate::model::pool::PoolRecord;
use crate::state::rows::Key;

impl Apply<'_> {
    /// A worker of this pool is there.
    pub(super) fn came(&mut self, pool: &str) {
        let now = self.stamp.tick;
        self.pool(pool).came(now);
    }

    /// It is not there any more, or belongs to another pool now.
    pub(super) fn went(&mut self, pool: &str) {
        let now = self.stamp.tick;
        self.pool(pool).went(now);
    }

    /// It was lost, or its machine is said to go.
    pub(super) fn count_loss(&mut self, pool: &str) {
        let now = self.stamp.tick;
        self.pool(pool).lost(now);
    }

    fn pool(&mut self, name: &str) -> &mut PoolRecord {
        self.touch(Key::Pool(name.to_owned()));
        self.state.pools.entry(name.to_owned()).or_default()
    }
}
