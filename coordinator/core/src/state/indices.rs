//! The indices of one task: one inline, many as blocks of 4,096 that exist only where something has happened.

use crate::model::artifact::Artifact;
use crate::model::attempt::Cause;
use crate::model::job::IndexState;
use crate::model::time::Tick;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Indices of one block.
pub const BLOCK: u32 = 4096;

/// What is remembered of an index beyond its state: only while it is unusual.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts charged to `retry.attempts`.
    pub charged: u32,
    /// Ends in a row that were `lost`, and that were `launch`.
    pub lost: u8,
    pub launch: u8,
    /// Not placed before this tick.
    pub not_before: Tick,
    pub cause: Option<Cause>,
}

/// The states of up to 4,096 neighbours, four bits each.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    Uniform(IndexState),
    Mixed(Box<[u8; BLOCK as usize / 2]>),
}

impl Block {
    fn get(&self, i: u32) -> IndexState {
        match self {
            Self::Uniform(state) => *state,
            Self::Mixed(nibbles) => IndexState::from_u8(nibbles[i as usize / 2] >> (4 * (i % 2)) & 15),
        }
    }

    fn set(&mut self, i: u32, state: IndexState) {
        if let Self::Uniform(old) = *self {
            if old == state {
                return;
            }
            *self = Self::Mixed(Box::new([(old as u8) << 4 | old as u8; BLOCK as usize / 2]));
        }
        if let Self::Mixed(nibbles) = self {
            let byte = &mut nibbles[i as usize / 2];
            let shift = 4 * (i % 2);
            *byte = *byte & !(15 << shift) | (state as u8) << shift;
        }
    }
}

/// The indices of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    pub count: u32,
    blocks: BTreeMap<u32, Block>,
    memories: BTreeMap<u32, Memory>,
    artifacts: BTreeMap<u32, Box<[Artifact]>>,
    counts: [u32; 7],
}

/// The one index of a task without an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct One {
    state: IndexState,
    memory: Option<Box<Memory>>,
    artifacts: Box<[Artifact]>,
}

/// All indices of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Indices {
    One(One),
    Array(Box<Array>),
}

/// The stored form of a block: runs of equal states (live ones count as pending: the live table knows them), and the unusual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRow {
    pub runs: Vec<(u16, u8)>,
    pub memories: Vec<(u16, Memory)>,
}

impl Indices {
    /// All pending: `array` is the number of indices, none for a task without an array.
    #[must_use]
    pub fn new(array: Option<u32>) -> Self {
        match array {
            None => Self::One(One { state: IndexState::Pending, memory: None, artifacts: Box::default() }),
            Some(count) => Self::Array(Box::new(Array {
                count,
                blocks: BTreeMap::new(),
                memories: BTreeMap::new(),
                artifacts: BTreeMap::new(),
                counts: [count, 0, 0, 0, 0, 0, 0],
            })),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        match self {
            Self::One(_) => 1,
            Self::Array(array) => array.count,
        }
    }

    /// Never: a task has at least one index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Indices in `state`.
    #[must_use]
    pub fn count(&self, state: IndexState) -> u32 {
        match self {
            Self::One(one) => u32::from(one.state == state),
            Self::Array(array) => array.counts[state as usize],
        }
    }

    /// Indices that are done.
    #[must_use]
    pub fn terminal(&self) -> u32 {
        IndexState::ALL.iter().filter(|s| s.is_terminal()).map(|s| self.count(*s)).sum()
    }

    /// The state of index `i`, if there is one.
    #[must_use]
    pub fn state(&self, i: u32) -> Option<IndexState> {
        match self {
            Self::One(one) => (i == 0).then_some(one.state),
            Self::Array(array) if i < array.count => {
                Some(array.blocks.get(&(i / BLOCK)).map_or(IndexState::Pending, |b| b.get(i % BLOCK)))
            }
            Self::Array(_) => None,
        }
    }

    /// Sets the state of index `i`, which exists.
    pub fn set(&mut self, i: u32, state: IndexState) {
        let old = self.state(i);
        match self {
            Self::One(one) => one.state = state,
            Self::Array(array) => {
                let Some(old) = old else { return };
                array.counts[old as usize] -= 1;
                array.counts[state as usize] += 1;
                let block = array.blocks.entry(i / BLOCK).or_insert(Block::Uniform(IndexState::Pending));
                block.set(i % BLOCK, state);
            }
        }
    }

    /// Sets every index that `from` picks; returns how many.
    pub fn set_all(&mut self, state: IndexState, from: impl Fn(IndexState) -> bool) -> u32 {
        let mut changed = 0;
        for (first, last, old) in self.runs() {
            if from(old) && old != state {
                for i in first..=last {
                    self.set(i, state);
                }
                changed += last - first + 1;
            }
        }
        if let Self::Array(array) = self {
            array.compact();
        }
        changed
    }

    /// The memory of index `i`, if it is unusual.
    #[must_use]
    pub fn memory(&self, i: u32) -> Option<&Memory> {
        match self {
            Self::One(one) => one.memory.as_deref(),
            Self::Array(array) => array.memories.get(&i),
        }
    }

    /// The memory of index `i`, to write.
    pub fn remember(&mut self, i: u32) -> &mut Memory {
        match self {
            Self::One(one) => one.memory.get_or_insert_default(),
            Self::Array(array) => array.memories.entry(i).or_default(),
        }
    }

    /// Forgets what was unusual about index `i`.
    pub fn forget(&mut self, i: u32) {
        match self {
            Self::One(one) => one.memory = None,
            Self::Array(array) => {
                array.memories.remove(&i);
            }
        }
    }

    /// The artifacts of index `i`.
    #[must_use]
    pub fn artifacts(&self, i: u32) -> &[Artifact] {
        match self {
            Self::One(one) => &one.artifacts,
            Self::Array(array) => array.artifacts.get(&i).map_or(&[], |a| a),
        }
    }

    /// Sets the artifacts of index `i`.
    pub fn set_artifacts(&mut self, i: u32, artifacts: Vec<Artifact>) {
        match self {
            Self::One(one) => one.artifacts = artifacts.into(),
            Self::Array(array) if artifacts.is_empty() => {
                array.artifacts.remove(&i);
            }
            Self::Array(array) => {
                array.artifacts.insert(i, artifacts.into());
            }
        }
    }

    /// Makes a block that is all of one state small again. Called when a block may be complete.
    pub fn settle(&mut self, i: u32) {
        if let Self::Array(array) = self {
            array.settle_block(i / BLOCK);
        }
    }

    /// Maximal runs `(first, last, state)` in order; blocks that were never touched are one run.
    #[must_use]
    pub fn runs(&self) -> Vec<(u32, u32, IndexState)> {
        let array = match self {
            Self::One(one) => return vec![(0, 0, one.state)],
            Self::Array(array) => array,
        };
        let mut runs: Vec<(u32, u32, IndexState)> = Vec::new();
        let mut push = |first: u32, last: u32, state: IndexState| match runs.last_mut() {
            Some(run) if run.2 == state && run.1 + 1 == first => run.1 = last,
            _ => runs.push((first, last, state)),
        };
        let mut next = 0;
        for (number, block) in &array.blocks {
            let first = number * BLOCK;
            let last = (first + BLOCK).min(array.count) - 1;
            if first > next {
                push(next, first - 1, IndexState::Pending);
            }
            match block {
                Block::Uniform(state) => push(first, last, *state),
                Block::Mixed(_) => (first..=last).for_each(|i| push(i, i, block.get(i % BLOCK))),
            }
            next = last + 1;
        }
        if next < array.count {
            push(next, array.count - 1, IndexState::Pending);
        }
        runs
    }

    /// Runs `(first, last)` of indices in `state`.
    #[must_use]
    pub fn ranges(&self, state: IndexState) -> Vec<(u32, u32)> {
        self.runs().into_iter().filter(|r| r.2 == state).map(|r| (r.0, r.1)).collect()
    }

    /// Indices with a memory.
    pub fn memories(&self) -> impl Iterator<Item = (u32, &Memory)> {
        let (one, array) = match self {
            Self::One(one) => (one.memory.as_deref().map(|m| (0, m)), None),
            Self::Array(array) => (None, Some(array.memories.iter().map(|(i, m)| (*i, m)))),
        };
        one.into_iter().chain(array.into_iter().flatten())
    }

    /// Numbers of the blocks where something has happened.
    pub fn touched_blocks(&self) -> impl Iterator<Item = u32> {
        match self {
            Self::One(_) => None,
            Self::Array(array) => Some(array.blocks.keys().copied()),
        }
        .into_iter()
        .flatten()
    }

    /// Indices that have artifacts.
    pub fn with_artifacts(&self) -> impl Iterator<Item = u32> {
        let (one, array) = match self {
            Self::One(one) => ((!one.artifacts.is_empty()).then_some(0), None),
            Self::Array(array) => (None, Some(array.artifacts.keys().copied())),
        };
        one.into_iter().chain(array.into_iter().flatten())
    }

    /// The stored form of block `number`; none when nothing happened there.
    #[must_use]
    pub fn block_row(&self, number: u32) -> Option<BlockRow> {
        let Self::Array(array) = self else { return None };
        let block = array.blocks.get(&number)?;
        let size = BLOCK.min(array.count - number * BLOCK);
        let mut runs: Vec<(u16, u8)> = Vec::new();
        for i in 0..size {
            let state = match block.get(i) {
                IndexState::Live => IndexState::Pending,
                state => state,
            } as u8;
            match runs.last_mut() {
                Some(run) if run.1 == state => run.0 += 1,
                _ => runs.push((1, state)),
            }
            if let (Block::Uniform(_), Some(run)) = (block, runs.last_mut()) {
                run.0 = size as u16;
                break;
            }
        }
        let first = number * BLOCK;
        let memories = array
            .memories
            .range(first..first.saturating_add(BLOCK))
            .map(|(i, m)| ((i - first) as u16, m.clone()));
        Some(BlockRow { runs, memories: memories.collect() })
    }

    /// Puts a stored block back.
    pub fn restore_block(&mut self, number: u32, row: BlockRow) {
        let first = number * BLOCK;
        let mut at = first;
        for (length, state) in row.runs {
            for i in at..at + u32::from(length) {
                self.set(i, IndexState::from_u8(state));
            }
            at += u32::from(length);
        }
        self.settle(first);
        for (i, memory) in row.memories {
            *self.remember(first + u32::from(i)) = memory;
        }
    }
}

impl Array {
    fn settle_block(&mut self, number: u32) {
        let size = BLOCK.min(self.count - number * BLOCK);
        let Some(block) = self.blocks.get_mut(&number) else { return };
        let state = block.get(0);
        let Block::Mixed(nibbles) = &*block else { return };
        let pair = (state as u8) << 4 | state as u8;
        let whole = nibbles[..size as usize / 2].iter().all(|b| *b == pair);
        if whole && (size.is_multiple_of(2) || block.get(size - 1) == state) {
            *block = Block::Uniform(state);
        }
    }

    fn compact(&mut self) {
        let numbers: Vec<u32> = self.blocks.keys().copied().collect();
        numbers.into_iter().for_each(|n| self.settle_block(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_indices_cost_nothing_until_something_happens() {
        let mut all = Indices::new(Some(1_000_000));
        assert_eq!(all.runs(), [(0, 999_999, IndexState::Pending)]);
        for i in 0..900_000 {
            all.set(i, IndexState::Succeeded);
            if i % BLOCK == BLOCK - 1 {
                all.settle(i);
            }
        }
        assert_eq!(
            all.runs(),
            [(0, 899_999, IndexState::Succeeded), (900_000, 999_999, IndexState::Pending)]
        );
        assert_eq!(all.count(IndexState::Succeeded), 900_000);
        let Indices::Array(array) = &all else { unreachable!() };
        assert_eq!(array.blocks.values().filter(|b| matches!(b, Block::Mixed(_))).count(), 1);
    }

    #[test]
    fn a_block_comes_back_from_its_row_with_live_ones_pending() {
        let mut all = Indices::new(Some(5_000));
        all.set(4_097, IndexState::Live);
        all.set(4_098, IndexState::Failed);
        all.remember(4_098).charged = 3;
        let row = all.block_row(1).unwrap();

        let mut back = Indices::new(Some(5_000));
        back.restore_block(1, row);

        all.set(4_097, IndexState::Pending);
        assert_eq!(back.runs(), all.runs());
        assert_eq!(back.memory(4_098).unwrap().charged, 3);
        assert_eq!(back.block_row(0), None);
    }
}
