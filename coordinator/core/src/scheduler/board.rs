//! The board: what is free, kept from cycle to cycle and corrected where something changed, and the best place for an ask on it.
//!
//! A choice costs what has changed since the same ask was served last, not what there is: workers that are alike are one room (`room`), and
//! each ask keeps the rooms in its own order (`ranking`).

use super::mix::{Mix, SHARES, Shape};
use super::ranking::{Ask, Ranking, Scale, offer};
use super::room::{Kind, Room, Rooms, free_of, kind_key, room_key};
use super::scarcity::{PRESSURE, Scarcity};
use super::score::{Lens, SCARCE, Score};
use crate::model::ids::WorkerId;
use crate::model::placement::Share;
use crate::model::resources::{Resources, model_matches};
use crate::model::worker::WorkerSpec;
use crate::state::Used;
use std::collections::{BTreeMap, BTreeSet};

/// Asks that keep a ranking; the one that was not asked for longest goes. A ranking of 10,000 rooms takes about half a MiB.
const RANKINGS_MAX: usize = 256;

/// See the head of the file.
#[derive(Debug, Clone, Default)]
pub struct Board {
    kinds: Vec<Kind>,
    kind_numbers: BTreeMap<String, u32>,
    /// Names of models by their number less 1.
    models: Vec<String>,
    rooms: Rooms,
    of: BTreeMap<WorkerId, u32>,
    /// Rooms by their last change.
    changes: BTreeMap<u64, u32>,
    changed: u64,
    rankings: BTreeMap<Ask, Ranking>,
    asked: u64,
    mix: Mix,
    /// The mix is in use, and so is every kind of worker.
    current: bool,
    lenses: BTreeMap<u32, Lens>,
    scarcity: Scarcity,
    /// Thousandths of devices that are free, by model.
    free: BTreeMap<u32, u64>,
    /// CPUs (thousandths) and GPUs of the workers that have any, and their proportion when the mix was used last.
    cpu_milli: u64,
    gpus: u64,
    cpu_per_gpu: u64,
}

impl Board {
    /// What tasks ask for, to be told of those that arrive.
    pub fn mix(&mut self) -> &mut Mix {
        &mut self.mix
    }

    /// What is taken of a worker now; a worker that is new or has changed comes with this too.
    pub fn set(&mut self, worker: WorkerId, spec: &WorkerSpec, used: &Used) {
        let kind = self.kind(spec);
        self.enter(worker, kind, used);
    }

    /// What is taken of a worker now, if the board has it.
    pub fn update(&mut self, worker: WorkerId, used: &Used) {
        if let Some(kind) = self.of.get(&worker).and_then(|room| self.rooms.get(*room)).map(|room| room.kind)
        {
            self.enter(worker, kind, used);
        }
    }

    /// The worker gets nothing any more.
    pub fn remove(&mut self, worker: WorkerId) {
        let Some(number) = self.of.remove(&worker) else { return };
        self.count(number, false);
        if self.rooms.leave(number, worker) {
            self.note(number);
        }
    }

    fn enter(&mut self, worker: WorkerId, kind: u32, used: &Used) {
        let key = room_key(kind, used);
        let old = self.of.get(&worker).copied();
        if old.is_some() && old == self.rooms.by_key.get(&key).copied() {
            return;
        }
        self.remove(worker);
        let number = match self.rooms.by_key.get(&key) {
            Some(number) => *number,
            None => {
                let Kind { spec, model } = &self.kinds[kind as usize];
                let free = free_of(spec, used);
                let worth = self.lenses.get(model).map_or(0, |lens| lens.worth(&free));
                let (used, members) = (used.clone(), BTreeSet::new());
                let number = self.rooms.put(key, Room { kind, used, free, worth, members, changed: 0 });
                self.note(number);
                number
            }
        };
        self.rooms.all[number as usize].members.insert(worker);
        self.of.insert(worker, number);
        self.count(number, true);
    }

    /// The room is another one from now on.
    fn note(&mut self, number: u32) {
        self.changed += 1;
        let room = &mut self.rooms.all[number as usize];
        if self.changes.get(&room.changed) == Some(&number) {
            self.changes.remove(&room.changed);
        }
        room.changed = self.changed;
        self.changes.insert(self.changed, number);
    }

    /// One worker more in the room, or less.
    fn count(&mut self, number: u32, more: bool) {
        let Some(room) = self.rooms.get(number) else { return };
        let Kind { spec, model } = &self.kinds[room.kind as usize];
        let free = self.free.entry(*model).or_default();
        let sum = |a: u64, b: u64| if more { a + b } else { a.saturating_sub(b) };
        *free = sum(*free, room.free.gpu_milli());
        if !spec.devices.is_empty() {
            self.cpu_milli = sum(self.cpu_milli, spec.cpu_milli);
            self.gpus = sum(self.gpus, spec.devices.len() as u64);
        }
    }

    fn kind(&mut self, spec: &WorkerSpec) -> u32 {
        let key = kind_key(spec);
        if let Some(number) = self.kind_numbers.get(&key) {
            return *number;
        }
        let model = spec.devices.first().map_or(0, |device| {
            self.models.iter().position(|m| *m == device.model).unwrap_or_else(|| {
                self.models.push(device.model.clone());
                self.models.len() - 1
            }) as u32
                + 1
        });
        self.kinds.push(Kind { spec: spec.clone(), model });
        self.kind_numbers.insert(key, self.kinds.len() as u32 - 1);
        self.current = false;
        self.kinds.len() as u32 - 1
    }

    /// Uses the mix as it is now, if it says something new; all rooms are scored anew then.
    pub(super) fn renew(&mut self) {
        if self.current && !self.mix.is_renewed() {
            return;
        }
        self.current = true;
        self.cpu_per_gpu = self.cpu_milli / self.gpus.max(1);
        let typical = self.mix.typical();
        let models = &self.models;
        let accepts = |shape: &Shape, name: &str| {
            shape.models.is_empty() || shape.models.iter().any(|wanted| model_matches(wanted, name))
        };
        let numbered = || (1_u32..).zip(models);
        self.scarcity = Scarcity::new(&typical, |shape| {
            numbered().filter(|(_, name)| accepts(shape, name)).map(|(number, _)| number).collect()
        });
        self.lenses = numbered()
            .map(|(number, name)| (number, Lens::new(&typical, |shape| accepts(shape, name))))
            .chain([(0, Lens::default())])
            .collect();
        for room in self.rooms.all.iter_mut().filter(|room| !room.members.is_empty()) {
            let lens = self.lenses.get(&self.kinds[room.kind as usize].model);
            room.worth = lens.map_or(0, |lens| lens.worth(&room.free));
        }
        self.rankings.clear();
    }

    /// The best place for one of these: the worker, and what it would get. `holds`: whether its constraints hold for workers like this.
    pub fn choose(
        &mut self,
        ask: &Ask,
        holds: impl FnMut(&WorkerSpec) -> bool,
    ) -> Option<(WorkerId, Vec<Share>)> {
        self.renew();
        let mut ranking = self.rankings.get_mut(ask).map(std::mem::take).unwrap_or_default();
        self.refresh(ask, &mut ranking, holds);
        let over = self.scarcity.over(&self.free);
        // Equal places: the least id.
        let best = ranking.best().filter_map(|(model, score, rooms)| {
            let first = |room| Some((*self.rooms.get(room)?.members.first()?, room));
            let (worker, room) = rooms.filter_map(first).min()?;
            Some((with_scarcity(score, &ask.resources, over.get(&model)), worker, room))
        });
        let best = best.min();
        self.asked += 1;
        ranking.asked = self.asked;
        let chosen = best.and_then(|(_, worker, number)| {
            let room = self.rooms.get(number)?;
            let kind = &self.kinds[room.kind as usize];
            let accepted = ranking.accepted(room.kind, ask, kind, || false);
            Some((worker, offer(ask, accepted, room, &self.scale())?.1))
        });
        match self.rankings.get_mut(ask) {
            Some(old) => *old = ranking,
            None => {
                self.rankings.insert(ask.clone(), ranking);
                self.forget();
            }
        }
        chosen
    }

    fn scale(&self) -> Scale<'_> {
        Scale { kinds: &self.kinds, lenses: &self.lenses, cpu_per_gpu: self.cpu_per_gpu }
    }

    fn refresh(&self, ask: &Ask, ranking: &mut Ranking, mut holds: impl FnMut(&WorkerSpec) -> bool) {
        let scale = self.scale();
        for number in self.changes.range(ranking.seen + 1..).map(|(_, number)| *number) {
            let Some(room) = self.rooms.get(number) else { continue };
            let kind = &self.kinds[room.kind as usize];
            let place = if room.members.is_empty() {
                None
            } else {
                let accepted = ranking.accepted(room.kind, ask, kind, || holds(&kind.spec));
                offer(ask, accepted, room, &scale).map(|(score, _)| (kind.model, score))
            };
            ranking.set(number, place);
        }
        ranking.seen = self.changed;
    }

    fn forget(&mut self) {
        if self.rankings.len() > RANKINGS_MAX {
            let oldest = self.rankings.iter().min_by_key(|(_, ranking)| ranking.asked);
            if let Some(ask) = oldest.map(|(ask, _)| ask.clone()) {
                self.rankings.remove(&ask);
            }
        }
    }

    /// The same choice made the slow way, worker by worker: for asks whose constraints name a worker, and to check the fast one.
    pub fn choose_among(
        &mut self,
        ask: &Ask,
        mut holds: impl FnMut(WorkerId) -> bool,
    ) -> Option<(WorkerId, Vec<Share>)> {
        self.renew();
        let over = self.scarcity.over(&self.free);
        let scale = self.scale();
        let places = self.of.iter().filter_map(|(worker, room)| {
            let room = self.rooms.get(*room)?;
            let kind = &self.kinds[room.kind as usize];
            let accepted = Ranking::default().accepted(room.kind, ask, kind, || holds(*worker)).clone();
            let (score, shares) = offer(ask, &accepted, room, &scale)?;
            Some((with_scarcity(score, &ask.resources, over.get(&kind.model)), *worker, shares))
        });
        places.min().map(|(_, worker, shares)| (worker, shares))
    }
}

/// `over`: by how much the model is scarce.
fn with_scarcity(score: Score, resources: &Resources, over: Option<&u64>) -> Score {
    let milli = Shape::of(resources).map_or(0, |shape| shape.gpu_milli());
    let scarce = SCARCE * milli * over.copied().unwrap_or(0) * (SHARES / PRESSURE);
    Score { cost: score.cost.saturating_add(i64::try_from(scarce).unwrap_or(i64::MAX)), ..score }
}
