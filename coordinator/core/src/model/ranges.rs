//! Indices of one task that may be placed, as ranges: a million of them is one pair of numbers.

/// Ascending, disjoint, inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// The given ranges, ascending and disjoint.
    #[must_use]
    pub fn new(ranges: Vec<(u32, u32)>) -> Self {
        Self(ranges)
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(a, b)| *a..=*b)
    }

    /// Takes one index out, if it is in.
    pub fn remove(&mut self, i: u32) {
        let at = self.0.partition_point(|(_, last)| *last < i);
        let Some((first, last)) = self.0.get(at).copied() else { return };
        match (first == i, last == i) {
            _ if first > i => {}
            (true, true) => {
                self.0.remove(at);
            }
            (true, false) => self.0[at].0 += 1,
            (false, true) => self.0[at].1 -= 1,
            (false, false) => {
                self.0[at].1 = i - 1;
                self.0.insert(at + 1, (i + 1, last));
            }
        }
    }

    /// Puts one index in.
    pub fn insert(&mut self, i: u32) {
        let at = self.0.partition_point(|(_, last)| *last < i);
        if self.0.get(at).is_some_and(|(first, _)| *first <= i) {
            return;
        }
        let joins_left = at > 0 && self.0[at - 1].1 + 1 == i;
        let joins_right = self.0.get(at).is_some_and(|(first, _)| i + 1 == *first);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = i,
            (false, true) => self.0[at].0 = i,
            (false, false) => self.0.insert(at, (i, i)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_behave_as_the_set_they_stand_for() {
        let mut ranges = Ranges::new(vec![(0, 9)]);
        let mut set: std::collections::BTreeSet<u32> = (0..10).collect();
        for i in [0, 9, 5, 5, 4, 6, 20] {
            ranges.remove(i);
            set.remove(&i);
            assert_eq!(ranges.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
        }
        for i in [5, 4, 4, 11, 10, 9, 6, 0] {
            ranges.insert(i);
            set.insert(i);
            assert_eq!(ranges.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
        }
        assert_eq!(ranges, Ranges::new(vec![(0, 11)]));
    }
}
