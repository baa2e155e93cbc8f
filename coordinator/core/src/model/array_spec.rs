//! A task that stands for many alike: a few numbers however long it is. Positions and the indices that people write, and the values
//! of a matrix; which of them run is the state's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job_spec::JsonText;

/// A task that stands for many alike. Inside the core an index is its *position*, `0..count`; [`ArraySpec::index`] gives the number
/// that a person wrote and a task sees (`"10-20:2"` has the positions 0..6 and the indices 10, 12 … 20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArraySpec {
    /// Number of indices, at least 1.
    pub count: u32,
    /// What the indices are.
    pub indices: Indices,
    /// Most indices that run at once.
    pub max_running: Option<u32>,
}

/// The indices of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Indices {
    /// Ranges in ascending order that do not overlap.
    Ranges(Vec<IndexRange>),
    /// The product of axes; the last axis varies fastest. Indices are the positions.
    Matrix(Vec<Axis>),
}

/// `first, first + step, …`, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRange {
    /// The first index.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// The distance, at least 1.
    pub step: u32,
}

/// One axis of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Name, as in `{{ matrix.NAME }}`.
    pub name: String,
    /// Values, at least one.
    pub values: Vec<JsonText>,
}

impl ArraySpec {
    /// The index at `position`, as a person wrote it and `MUSTER_INDEX` says it; `None` beyond the end.
    #[must_use]
    pub fn index(&self, position: u32) -> Option<u32> {
        if position >= self.count {
            return None;
        }
        match &self.indices {
            Indices::Matrix(_) => Some(position),
            Indices::Ranges(ranges) => {
                let mut left = position;
                for range in ranges {
                    if left < range.count {
                        return Some(range.first + left * range.step);
                    }
                    left -= range.count;
                }
                None
            }
        }
    }

    /// The position of the index that a person wrote; `None` if the array has no such index.
    #[must_use]
    pub fn position(&self, index: u32) -> Option<u32> {
        match &self.indices {
            Indices::Matrix(_) => (index < self.count).then_some(index),
            Indices::Ranges(ranges) => {
                let mut before = 0;
                for range in ranges {
                    if let Some(offset) = index.checked_sub(range.first)
                        && offset.is_multiple_of(range.step)
                        && offset / range.step < range.count
                    {
                        return Some(before + offset / range.step);
                    }
                    before += range.count;
                }
                None
            }
        }
    }

    /// The matrix values at `position`, by axis; empty for a plain array.
    #[must_use]
    pub fn value(&self, position: u32) -> BTreeMap<&str, &JsonText> {
        let Indices::Matrix(axes) = &self.indices else { return BTreeMap::new() };
        let mut values = BTreeMap::new();
        let mut left = position as usize;
        for axis in axes.iter().rev() {
            if let Some(value) = axis.values.get(left % axis.values.len().max(1)) {
                values.insert(axis.name.as_str(), value);
            }
            left /= axis.values.len().max(1);
        }
        values
    }
}

impl ArraySpec {
    /// Whether its count is what its parts say, and every index fits.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let total: u64 = match &self.indices {
            Indices::Ranges(ranges) => {
                if ranges.iter().any(|r| {
                    r.count == 0
                        || r.step == 0
                        || u64::from(r.first) + u64::from(r.count - 1) * u64::from(r.step)
                            > u64::from(u32::MAX)
                }) {
                    return false;
                }
                ranges.iter().map(|r| u64::from(r.count)).sum()
            }
            Indices::Matrix(axes) => axes.iter().fold(1_u64, |n, a| n.saturating_mul(a.values.len() as u64)),
        };
        self.count > 0 && total == u64::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<JsonText> {
        values.iter().map(|v| JsonText((*v).into())).collect()
    }

    #[test]
    fn a_range_knows_its_indices_both_ways() {
        let ranges =
            vec![IndexRange { first: 10, count: 3, step: 2 }, IndexRange { first: 100, count: 2, step: 1 }];
        let array = ArraySpec { count: 5, indices: Indices::Ranges(ranges), max_running: None };
        let indices: Vec<_> = (0..6).map(|p| array.index(p)).collect();
        assert_eq!(indices, [Some(10), Some(12), Some(14), Some(100), Some(101), None]);
        for position in 0..5 {
            assert_eq!(array.position(array.index(position).expect("in range")), Some(position));
        }
        assert_eq!(array.position(11), None);
        assert_eq!(array.position(16), None);
        assert!(array.is_sound());
    }

    #[test]
    fn a_matrix_varies_its_last_axis_fastest() {
        let axes = vec![
            Axis { name: "seed".into(), values: texts(&["1", "2"]) },
            Axis { name: "lr".into(), values: texts(&["0.1", "0.01", "\"auto\""]) },
        ];
        let array = ArraySpec { count: 6, indices: Indices::Matrix(axes), max_running: Some(2) };
        let shown: Vec<String> = (0..6)
            .map(|p| {
                array.value(p).iter().map(|(k, v)| format!("{k}={}", v.plain())).collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "lr=0.1 seed=1",
                "lr=0.01 seed=1",
                "lr=auto seed=1",
                "lr=0.1 seed=2",
                "lr=0.01 seed=2",
                "lr=auto seed=2"
            ]
        );
    }
}
