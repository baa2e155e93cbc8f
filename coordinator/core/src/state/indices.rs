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
    /// And that were `device`.
    pub device: u8,
    /// Not placed before this tick.
    pub not_before: Tick,
    pub cause: Option<Cause>,
}

/// The states of up to 4,096 neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    Uniform(IndexState),
    Mixed(Box<Mixed>),
}

/// Four bits each, and how many there are of each state, so that a block that is all of one state again is seen at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mixed {
    nibbles: [u8; BLOCK as usize / 2],
    counts: [u16; IndexState::ALL.len()],
}

impl Mixed {
    fn uniform(state: IndexState, size: u32) -> Self {
        let mut counts = [0; IndexState::ALL.len()];
        counts[state as usize] = size as u16;
        Self { nibbles: [(state as u8) << 4 | state as u8; BLOCK as usize / 2], counts }
    }

    fn get(&self, i: u32) -> IndexState {
        IndexState::from_u8(self.nibbles[i as usize / 2] >> (4 * (i % 2)) & 15)
    }

    fn set(&mut self, i: u32, state: IndexState) -> IndexState {
        let old = self.get(i);
        self.counts[old as usize] -= 1;
        self.counts[state as usize] += 1;
        let byte = &mut self.nibbles[i as usize / 2];
        let shift = 4 * (i % 2);
        *byte = *byte & !(15 << shift) | (state as u8) << shift;
        old
    }
}

impl Block {
    fn get(&self, i: u32) -> IndexState {
        match self {
            Self::Uniform(state) => *state,
            Self::Mixed(mixed) => mixed.get(i),
        }
    }

    /// Sets one of the `size` states; returns what it was.
    fn set(&mut self, i: u32, state: IndexState, size: u32) -> IndexState {
        if let Self::Uniform(old) = *self {
            if old == state {
                return old;
            }
            *self = Self::Mixed(Box::new(Mixed::uniform(old, size)));
        }
        let Self::Mixed(mixed) = self else { return state };
        let old = mixed.set(i, state);
        if u32::from(mixed.counts[state as usize]) == size {
            *self = Self::Uniform(state);
        }
        old
    }
}

/// The indices of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    pub count: u32,
    /// None where nothing has happened.
    blocks: Box<[Option<Block>]>,
    memories: BTreeMap<u32, Memory>,
    artifacts: BTreeMap<u32, Box<[Artifact]>>,
    counts: [u32; IndexState::ALL.len()],
}

/// The one index of a task without an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct One {
    state: IndexState,
    /// None when there is nothing in it.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rare {
    memory: Option<Memory>,
    artifacts: Box<[Artifact]>,
}

impl One {
    fn drop_empty(&mut self) {
        self.rare.take_if(|rare| rare.memory.is_none() && rare.artifacts.is_empty());
    }
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
            None => Self::One(One { state: IndexState::Pending, rare: None }),
            Some(count) => Self::Array(Box::new(Array {
                count,
                blocks: vec![None; count.div_ceil(BLOCK) as usize].into(),
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

    /// All indices are done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::One(one) => one.state.is_terminal(),
            Self::Array(array) => {
                let [pending, live, held, ..] = array.counts;
                pending + live + held == 0
            }
        }
    }

    /// The state of index `i`, if there is one.
    #[must_use]
    pub fn state(&self, i: u32) -> Option<IndexState> {
        match self {
            Self::One(one) => (i == 0).then_some(one.state),
            Self::Array(array) if i < array.count => {
                Some(array.block(i / BLOCK).map_or(IndexState::Pending, |b| b.get(i % BLOCK)))
            }
            Self::Array(_) => None,
        }
    }

    /// Sets the state of index `i`, which exists.
    pub fn set(&mut self, i: u32, state: IndexState) {
        match self {
            Self::One(one) => one.state = state,
            Self::Array(array) if i >= array.count => {}
            Self::Array(array) => {
                let size = array.size_of(i / BLOCK);
                let Some(block) = array.blocks.get_mut((i / BLOCK) as usize) else { return };
                let block = block.get_or_insert(Block::Uniform(IndexState::Pending));
                let old = block.set(i % BLOCK, state, size);
                array.counts[old as usize] -= 1;
                array.counts[state as usize] += 1;
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
        changed
    }

    /// The memory of index `i`, if it is unusual.
    #[must_use]
    pub fn memory(&self, i: u32) -> Option<&Memory> {
        match self {
            Self::One(one) => one.rare.as_ref()?.memory.as_ref(),
            Self::Array(array) => array.memories.get(&i),
        }
    }

    /// The memory of index `i`, to write.
    pub fn remember(&mut self, i: u32) -> &mut Memory {
        match self {
            Self::One(one) => one.rare.get_or_insert_default().memory.get_or_insert_default(),
            Self::Array(array) => array.memories.entry(i).or_default(),
        }
    }

    /// Forgets what was unusual about index `i`.
    pub fn forget(&mut self, i: u32) {
        match self {
            Self::One(one) => {
                if let Some(rare) = &mut one.rare {
                    rare.memory = None;
                    one.drop_empty();
                }
            }
            Self::Array(array) => {
                array.memories.remove(&i);
            }
        }
    }

    /// The artifacts of index `i`.
    #[must_use]
    pub fn artifacts(&self, i: u32) -> &[Artifact] {
        match self {
            Self::One(one) => one.rare.as_ref().map_or(&[], |r| &r.artifacts),
            Self::Array(array) => array.artifacts.get(&i).map_or(&[], |a| a),
        }
    }

    /// Sets the artifacts of index `i`.
    pub fn set_artifacts(&mut self, i: u32, artifacts: Vec<Artifact>) {
        match self {
            Self::One(one) => {
                one.rare.get_or_insert_default().artifacts = artifacts.into();
                one.drop_empty();
            }
            Self::Array(array) if artifacts.is_empty() => {
                array.artifacts.remove(&i);
            }
            Self::Array(array) => {
                array.artifacts.insert(i, artifacts.into());
            }
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
        for (number, block) in array.touched() {
            let first = number * BLOCK;
            let last = first + array.size_of(number) - 1;
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
            Self::One(_) => (self.memory(0).map(|m| (0, m)), None),
            Self::Array(array) => (None, Some(array.memories.iter().map(|(i, m)| (*i, m)))),
        };
        one.into_iter().chain(array.into_iter().flatten())
    }

    /// Numbers of the blocks where something has happened.
    pub fn touched_blocks(&self) -> impl Iterator<Item = u32> {
        match self {
            Self::One(_) => None,
            Self::Array(array) => Some(array.touched().map(|(number, _)| number)),
        }
        .into_iter()
        .flatten()
    }

    /// Indices that have artifacts.
    pub fn with_artifacts(&self) -> impl Iterator<Item = u32> {
        let (one, array) = match self {
            Self::One(_) => ((!self.artifacts(0).is_empty()).then_some(0), None),
            Self::Array(array) => (None, Some(array.artifacts.keys().copied())),
        };
        one.into_iter().chain(array.into_iter().flatten())
    }

    /// The stored form of block `number`; none when nothing happened there.
    #[must_use]
    pub fn block_row(&self, number: u32) -> Option<BlockRow> {
        let Self::Array(array) = self else { return None };
        let block = array.block(number)?;
        let size = array.size_of(number);
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
        for (i, memory) in row.memories {
            *self.remember(first + u32::from(i)) = memory;
        }
    }
}

impl Array {
    fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)?.as_ref()
    }

    /// Indices of a block: the last one may be short.
    fn size_of(&self, number: u32) -> u32 {
        BLOCK.min(self.count.saturating_sub(number * BLOCK))
    }

    fn touched(&self) -> impl Iterator<Item = (u32, &Block)> {
        self.blocks.iter().enumerate().filter_map(|(n, block)| Some((n as u32, block.as_ref()?)))
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
        }
        assert_eq!(
            all.runs(),
            [(0, 899_999, IndexState::Succeeded), (900_000, 999_999, IndexState::Pending)]
        );
        assert_eq!(all.count(IndexState::Succeeded), 900_000);
        let Indices::Array(array) = &all else { unreachable!() };
        assert_eq!(array.touched().filter(|(_, b)| matches!(b, Block::Mixed(_))).count(), 1);
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
