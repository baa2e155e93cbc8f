//! Sets of numbers that mostly follow one another, indices and tasks: a million of them is one pair of numbers.

use std::collections::BTreeMap;

/// A set of numbers as its maximal ranges, first → last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    /// The given ranges, which are disjoint and do not touch.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ranges().flat_map(|(first, last)| first..=last)
    }

    /// The ranges `(first, last)` in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// The range that begins at `i` or before it, and is the last that does.
    fn at_or_before(&self, i: u32) -> Option<(u32, u32)> {
        self.0.range(..=i).next_back().map(|(first, last)| (*first, *last))
    }

    /// Takes one number out, if it is in.
    pub fn remove(&mut self, i: u32) {
        let Some((first, last)) = self.at_or_before(i).filter(|(_, last)| i <= *last) else { return };
        if first == i {
            self.0.remove(&first);
        } else {
            self.0.insert(first, i - 1);
        }
        if i < last {
            self.0.insert(i + 1, last);
        }
    }

    /// Puts one number in.
    pub fn insert(&mut self, i: u32) {
        let before = self.at_or_before(i);
        if before.is_some_and(|(_, last)| i <= last) {
            return;
        }
        let first = before.filter(|(_, last)| last + 1 == i).map_or(i, |(first, _)| first);
        let last = i.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(i);
        self.0.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_behave_as_the_set_they_stand_for() {
        let mut ranges = Ranges::new([(0, 9)]);
        let mut set: std::collections::BTreeSet<u32> = (0..10).collect();
        for i in [0, 9, 5, 5, 4, 6, 20] {
            ranges.remove(i);
            set.remove(&i);
            assert_eq!(ranges.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
        }
        for i in [5, 4, 4, 11, 10, 9, 6, 0, u32::MAX] {
            ranges.insert(i);
            set.insert(i);
            assert_eq!(ranges.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
        }
        assert_eq!(ranges, Ranges::new([(0, 11), (u32::MAX, u32::MAX)]));
        assert_eq!(ranges.count(), 13);
    }
}
