//! The rooms in the order in which one ask would take them, brought up to date by what has changed since it was asked last.

use super::feasible::{accepted, has_room, options};
use super::room::{Kind, Room};
use super::score::with_foreign;
use super::score::{Lens, Score, score};
use crate::model::placement::Share;
use crate::model::resources::Resources;
use std::collections::{BTreeMap, BTreeSet};

/// What tells asks apart: amounts, and constraints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    pub resources: Resources,
    pub constraints: Vec<String>,
}

/// What one ask may have of workers of a kind: lists of device numbers; none = its constraints exclude them.
pub(super) type Accepted = Option<Vec<Vec<u16>>>;

#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    /// Changes of the board up to here are in it.
    pub seen: u64,
    /// When it was asked last, by the board's count of asks.
    pub asked: u64,
    kinds: BTreeMap<u32, Accepted>,
    /// Rooms with room, the best first, by model.
    by_model: BTreeMap<u32, BTreeSet<(Score, u32)>>,
    /// Where each room is in it, by its number.
    scores: Vec<Option<(u32, Score)>>,
}

/// What is needed to score a room.
pub(super) struct Scale<'a> {
    pub kinds: &'a [Kind],
    pub lenses: &'a BTreeMap<u32, Lens>,
    pub cpu_per_gpu: u64,
}

impl Ranking {
    /// What the ask may have of a kind. `holds`: whether its constraints do.
    pub(super) fn accepted(
        &mut self,
        number: u32,
        ask: &Ask,
        kind: &Kind,
        holds: impl FnOnce() -> bool,
    ) -> &Accepted {
        self.kinds.entry(number).or_insert_with(|| {
            let lists =
                || ask.resources.gpus.as_ref().map_or_else(Vec::new, |g| accepted(g, &kind.spec.devices));
            holds().then(lists)
        })
    }

    /// A room came, or is gone.
    pub(super) fn set(&mut self, number: u32, place: Option<(u32, Score)>) {
        let at = number as usize;
        if self.scores.len() <= at {
            self.scores.resize(at + 1, None);
        }
        let old = std::mem::replace(&mut self.scores[at], place);
        if old == place {
            return;
        }
        if let Some((model, score)) = old {
            self.by_model.entry(model).or_default().remove(&(score, number));
        }
        if let Some((model, score)) = place {
            self.by_model.entry(model).or_default().insert((score, number));
        }
    }

    /// The best rooms of each model: all that are equally good.
    pub(super) fn best(&self) -> impl Iterator<Item = (u32, Score, impl Iterator<Item = u32> + '_)> {
        self.by_model.iter().filter_map(|(model, rooms)| {
            let (best, _) = *rooms.first()?;
            let equal = rooms.iter().take_while(move |(score, _)| *score == best).map(|(_, room)| *room);
            Some((*model, best, equal))
        })
    }
}

/// The best that the room has for the ask, if it has any: what it costs, and which devices.
pub(super) fn offer(
    ask: &Ask,
    accepted: &Accepted,
    room: &Room,
    scale: &Scale<'_>,
) -> Option<(Score, Vec<Share>)> {
    let lists = accepted.as_ref()?;
    let kind = scale.kinds.get(room.kind as usize)?;
    if !has_room(&ask.resources, &kind.spec, &room.used) {
        return None;
    }
    let lens = scale.lenses.get(&kind.model)?;
    let score = |shares: &[Share]| {
        let score = score(lens, room.worth, &room.free, &ask.resources, shares, scale.cpu_per_gpu);
        with_foreign(score, shares, &room.used)
    };
    let Some(request) = &ask.resources.gpus else { return Some((score(&[]), Vec::new())) };
    let options = options(request, lists, &kind.spec.devices, &room.used);
    options.into_iter().map(|shares| (score(&shares), shares)).min()
}
