//! The search for a gang's workers against an exhaustive one, on clusters small enough for that.

use super::gang::{Candidate, seats, spread};
use crate::model::gang::Gang;
use crate::model::ids::WorkerId;
use crate::model::retry::mix;
use std::collections::BTreeSet;

/// Numbers that follow from a seed.
struct Rolls(u64);

impl Rolls {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % limit
    }
}

/// Up to ten workers in racks of blocks; some have no label. The label that is required, if one is, is the block.
fn cluster(rolls: &mut Rolls) -> Vec<Candidate> {
    let count = rolls.below(10) + 1;
    let label = |prefix: &str, n: u64| if n == 0 { String::new() } else { format!("{prefix}{n}") };
    (1..=count)
        .map(|worker| {
            let block = rolls.below(4);
            let rack = if block == 0 { 0 } else { rolls.below(4) };
            Candidate {
                worker: WorkerId(worker),
                place: vec![label("b", block), label(&format!("b{block}r"), rack)],
            }
        })
        .collect()
}

/// The most ranks that fit, and the least spread with so many, over all sets there are.
fn exhaustive(gang: &Gang, candidates: &[Candidate]) -> Option<(usize, Vec<usize>)> {
    let level = usize::from(gang.require.is_some());
    let mut best: Option<(usize, Vec<usize>)> = None;
    for mask in 1_u32..1 << candidates.len() {
        let set: Vec<usize> = (0..candidates.len()).filter(|i| mask & (1 << i) != 0).collect();
        let blocks: BTreeSet<&String> = set.iter().map(|i| &candidates[*i].place[0]).collect();
        let holds = gang.require.is_none() || (blocks.len() == 1 && !blocks.iter().any(|b| b.is_empty()));
        if !gang.takes(set.len()) || !holds {
            continue;
        }
        let found = (set.len(), spread(&set, level, candidates));
        let better = best
            .as_ref()
            .is_none_or(|(size, least)| found.0 > *size || (found.0 == *size && found.1 < *least));
        if better {
            best = Some(found);
        }
    }
    best
}

#[test]
fn a_gang_is_placed_when_a_set_exists_and_as_near_as_any() {
    let mut rolls = Rolls(4);
    let (mut placed, mut refused) = (0, 0);
    for case in 0..800 {
        let candidates = cluster(&mut rolls);
        let min = rolls.below(6) as u32 + 1;
        let max = if rolls.below(2) == 0 { min } else { min + rolls.below(4) as u32 };
        let require = (rolls.below(2) == 0).then(|| "block".to_owned());
        let prefer = if require.is_some() { vec!["rack"] } else { vec!["rack", "block"] };
        let gang = Gang { min, max, require, prefer: prefer.into_iter().map(str::to_owned).collect() };
        let found = seats(&gang, &candidates);
        let expected = exhaustive(&gang, &candidates);
        let level = usize::from(gang.require.is_some());
        let got = found.as_ref().map(|workers| {
            let set: Vec<usize> = workers.iter().map(|w| w.0 as usize - 1).collect();
            let distinct: BTreeSet<&usize> = set.iter().collect();
            assert_eq!(distinct.len(), set.len(), "case {case}: {workers:?}");
            (set.len(), spread(&set, level, &candidates))
        });
        let (placed_now, size) = (got.is_some(), got.as_ref().map(|g| g.0));
        assert_eq!(size, expected.as_ref().map(|e| e.0), "case {case}: {gang:?} {candidates:?} {found:?}");
        // The farthest label is used as little as it can be; the next one too, wherever one domain of that holds all.
        if let (Some((_, got)), Some((_, least))) = (&got, &expected) {
            assert_eq!(got[0], least[0], "case {case}: {gang:?} {candidates:?} {found:?}");
            if least[0] == 1 {
                assert_eq!(got, least, "case {case}: {gang:?} {candidates:?} {found:?}");
            }
        }
        placed += u32::from(placed_now);
        refused += u32::from(!placed_now);
    }
    assert!(placed > 150 && refused > 150, "{placed} placed, {refused} refused");
}

#[test]
fn ranks_follow_the_topology_and_the_smallest_domain_that_holds_it_is_taken() {
    let at = |worker, place: [&str; 2]| Candidate {
        worker: WorkerId(worker),
        place: place.map(str::to_owned).to_vec(),
    };
    let candidates = [
        at(1, ["b2", "r3"]),
        at(2, ["b1", "r1"]),
        at(3, ["b1", "r2"]),
        at(4, ["b1", "r1"]),
        at(5, ["b2", "r3"]),
        at(6, ["b1", "r2"]),
        at(7, ["b1", "r2"]),
    ];
    let gang =
        |size| Gang { min: size, max: size, require: None, prefer: vec!["rack".into(), "block".into()] };
    let ranks =
        |size| seats(&gang(size), &candidates).map(|all| all.into_iter().map(|w| w.0).collect::<Vec<_>>());
    assert_eq!(ranks(2), Some(vec![1, 5]), "of the two racks of two, the one in the smaller block");
    assert_eq!(ranks(3), Some(vec![3, 6, 7]));
    assert_eq!(ranks(4), Some(vec![2, 3, 6, 7]), "three in one rack, the fourth beside them in the block");
    assert_eq!(ranks(8), None);
}
