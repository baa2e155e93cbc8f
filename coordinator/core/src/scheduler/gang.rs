//! Which workers a gang gets: all of its ranks at once or nothing, as near to each other as its topology asks.
//!
//! Every candidate can take one rank, so that a gang fits exactly when enough candidates share the label that it requires. Among the sets
//! that fit: an elastic gang takes as many as it may; then the fewest domains of the preferred labels are used, the farthest label
//! first, which keeps the near ones whole too; then the smallest domain that does it, so that the large ones stay free for large gangs.
//! Within a domain the candidates come in the order in which the scheduler ranked them. Ranks follow the topology: neighbours in number
//! are neighbours in place.

use crate::model::gang::Gang;
use crate::model::ids::WorkerId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A worker that can take one rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub worker: WorkerId,
    /// Its values of the labels in [`labels`], the farthest first; empty for a label that it does not have.
    pub place: Vec<String>,
}

/// The labels that matter to a gang, the farthest first: what it requires, then what it prefers.
pub(super) fn labels(gang: &Gang) -> Vec<&str> {
    gang.require.iter().map(String::as_str).chain(gang.prefer.iter().rev().map(String::as_str)).collect()
}

/// The workers by rank; none when it does not fit. `candidates` are ranked, the best first.
pub(super) fn seats(gang: &Gang, candidates: &[Candidate]) -> Option<Vec<WorkerId>> {
    let all: Vec<usize> = (0..candidates.len()).collect();
    let level = usize::from(gang.require.is_some());
    let (min, max) = (gang.min as usize, gang.max as usize);
    // 1. The sets of which one has to hold all of it.
    let domains: Vec<Vec<usize>> = if gang.require.is_some() {
        // A worker without the label is in no domain of it.
        grouped(&all, 0, candidates)
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(_, d)| d)
            .collect()
    } else {
        vec![all]
    };
    // 2. As many ranks as the best of them has room for.
    let size = domains.iter().map(|d| d.len().min(max)).max().filter(|size| *size >= min)?;
    // 3. In each that has so many, the set with the least spread; the best of these, the smallest domain where they are alike.
    let fitting = domains.iter().filter(|d| d.len() >= size);
    let picked = fitting
        .map(|domain| {
            let picked = nearest(domain, size, level, candidates);
            ((spread(&picked, level, candidates), domain.len()), picked)
        })
        .min_by(|(a, _), (b, _)| a.cmp(b))?
        .1;
    Some(ordered(picked, candidates))
}

/// The members of the set by their value of one label.
fn grouped(set: &[usize], level: usize, candidates: &[Candidate]) -> BTreeMap<String, Vec<usize>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for i in set {
        let name = candidates[*i].place.get(level).cloned().unwrap_or_default();
        groups.entry(name).or_default().push(*i);
    }
    groups
}

/// `size` members of the set in as few domains of this label as possible, and in each of them the same of the next label.
fn nearest(set: &[usize], size: usize, level: usize, candidates: &[Candidate]) -> Vec<usize> {
    if size == 0 {
        return Vec::new();
    }
    let deepest = candidates.first().map_or(0, |c| c.place.len());
    if level >= deepest {
        return set[..size.min(set.len())].to_vec();
    }
    let mut groups: Vec<Vec<usize>> =
        grouped(set, level, candidates).into_iter().flat_map(|(name, group)| split(&name, group)).collect();
    // Whole domains, the largest first, until one holds what is left: no set of domains is smaller. Stable: ties by name.
    groups.sort_by_key(|g| Reverse(g.len()));
    let mut picked = Vec::with_capacity(size);
    let mut groups = groups.as_slice();
    while let Some(largest) = groups.first().filter(|g| g.len() < size - picked.len()) {
        picked.extend(largest);
        groups = &groups[1..];
    }
    // Of those that hold it: the least spread below, then the smallest.
    let left = size - picked.len();
    let tried = groups.iter().take_while(|g| left > 0 && g.len() >= left).map(|group| {
        let part = nearest(group, left, level + 1, candidates);
        ((spread(&part, level + 1, candidates), group.len()), part)
    });
    picked.extend(tried.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, part)| part).unwrap_or_default());
    picked
}

/// Workers without the label are near to nobody: each is a domain of its own.
fn split(name: &str, group: Vec<usize>) -> Vec<Vec<usize>> {
    if name.is_empty() { group.into_iter().map(|i| vec![i]).collect() } else { vec![group] }
}

/// Domains that the members use, per label from this one on: fewer at the farthest counts first.
pub(super) fn spread(set: &[usize], level: usize, candidates: &[Candidate]) -> Vec<usize> {
    let deepest = candidates.first().map_or(0, |c| c.place.len());
    (level..deepest)
        .map(|deep| {
            let place = |i: &usize| candidates[*i].place.get(level..=deep).unwrap_or_default().to_vec();
            let named = set.iter().filter(|i| candidates[**i].place.get(deep).is_some_and(|p| !p.is_empty()));
            let domains: BTreeSet<Vec<String>> = named.clone().map(place).collect();
            domains.len() + (set.len() - named.count())
        })
        .collect()
}

/// Ranks in the order of the topology, then of the workers.
fn ordered(mut picked: Vec<usize>, candidates: &[Candidate]) -> Vec<WorkerId> {
    picked.sort_by_key(|i| (&candidates[*i].place, candidates[*i].worker));
    picked.into_iter().map(|i| candidates[i].worker).collect()
}
