//! What a task does about checkpoints while it runs, and the part of its worker that stores them for it: files first, the manifest last,
//! then the agent is told. What is under way dies with the agent; the task then asks for the same step again.

use crate::event::Event;
use crate::invariants;
use crate::options::Options;
use crate::rng::{Rng, mix};
use crate::store::{Place, There, digest};
use crate::world::World;
use muster_agent::{Input, StartOrder};
use muster_core::model::attempt::{EXIT_SAVED, Outcome};
use muster_core::model::checkpoint::{Part, Saved, Verdict};
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token};
use muster_core::model::job_spec::{CheckpointSpec, JobSpec};

/// A task waits so long until it asks a worker again whose agent is away, ms.
const ASK_AGAIN_MS: u64 = 500;

/// How a task saves: the same for all of its indices, attempts and ranks.
#[derive(Debug, Clone)]
struct Habit {
    /// Rank 0 speaks for all.
    single: bool,
    /// It does not look where it should begin.
    forgetful: bool,
    every_ms: u64,
    upload_ms: u64,
}

impl Habit {
    /// None: it saves nothing.
    fn of(options: &Options, job: JobId, task: TaskNo) -> Option<Self> {
        let mut rng = Rng::new(options.seed ^ mix(job.0 << 20 | u64::from(task.0)), "savers");
        let saves = rng.chance(500);
        let habit = Self {
            single: rng.chance(300),
            forgetful: rng.chance(150),
            every_ms: rng.pick(&[150, 500, 2_000]),
            upload_ms: rng.pick(&[4, 60, 400]),
        };
        saves.then_some(habit)
    }
}

/// Whether rank 0 of the gang speaks for all.
pub(crate) fn is_single(options: &Options, at: IndexRef) -> bool {
    Habit::of(options, at.job, at.task).is_some_and(|habit| habit.single)
}

/// Some of the tasks say how many checkpoints are to be kept.
pub(crate) fn with_keeps(rng: &mut Rng, mut job: JobSpec) -> JobSpec {
    for common in &mut job.commons {
        let keep = rng.pick(&[1, 1, 2, 3]);
        if rng.chance(700) {
            common.checkpoint = Some(Box::new(CheckpointSpec { keep, ..CheckpointSpec::default() }));
        }
    }
    job
}

/// What a process has saved.
#[derive(Debug, Clone)]
pub struct Saver {
    habit: Habit,
    /// How far it is.
    step: u64,
    /// The step that it has asked to be committed, until it is answered.
    asked: Option<u64>,
    /// The newest checkpoint that is kept, as its worker knows.
    base: Option<Place>,
    /// It ends by asking to be run again.
    pub exits_saved: bool,
}

impl Saver {
    /// Of a rank that starts now; none: it saves nothing.
    pub(crate) fn of(options: &Options, order: &StartOrder) -> Option<Self> {
        let habit = Habit::of(options, order.at.job, order.at.task)?;
        let ranks = order.launch.gang.as_ref().map_or(1, |gang| gang.hosts.len());
        if ranks > 1 && habit.single && order.rank != 0 {
            return None;
        }
        let resume = order.launch.resume.as_ref();
        let mut rng = Rng::new(options.seed ^ mix(order.token.0 << 11 | u64::from(order.rank)), "saver");
        Some(Self {
            step: resume.filter(|_| !habit.forgetful).map_or(0, |resume| resume.step),
            asked: None,
            base: resume.map(|resume| (resume.token, resume.step, resume.rank)),
            exits_saved: rng.chance(150),
            habit,
        })
    }

    /// The step after this one: of a gang, all ranks count alike.
    fn next(&self, at: IndexRef) -> u64 {
        self.step + 1 + mix(self.step ^ at.job.0 << 32) % 3
    }
}

/// A part on its way into the store.
#[derive(Debug, Clone)]
pub struct Upload {
    at: IndexRef,
    place: Place,
    base: Option<Place>,
    single: bool,
    took_ms: u64,
}

impl World {
    /// Where this attempt is to begin cannot be used: it ends like this.
    pub(crate) fn unusable(&self, order: &StartOrder) -> Option<Outcome> {
        let resume = order.launch.resume.as_ref()?;
        let place = (resume.token, resume.step, resume.rank);
        let shelf = self.store.shelves.get(&order.at);
        let whole = shelf.is_some_and(|shelf| shelf.there(place) == There::Whole)
            && resume.part.manifest == digest(order.at, place);
        (!whole).then(|| Outcome::BadCheckpoint { step: resume.step, reason: "it is not whole".to_owned() })
    }

    /// A process has started, or its worker has a new agent: when it saves next.
    pub(crate) fn saver_begins(&mut self, w: usize, token: Token) {
        let machine = &mut self.machines[w];
        let boot = machine.boot;
        let Some(saver) = machine.processes.get_mut(&token).and_then(|p| p.saver.as_mut()) else { return };
        let wait = saver.habit.every_ms / 2 + mix(token.0 ^ 3) % saver.habit.every_ms;
        self.at(wait, Event::SaveDue { worker: w, boot, token });
    }

    /// The agent that was asked is gone, and what it was doing with it: a new one is asked for the same again.
    pub(crate) fn saver_asks_again(&mut self, w: usize, token: Token) {
        let Some(process) = self.machines[w].processes.get_mut(&token) else { return };
        let Some(saver) = process.saver.as_mut() else { return };
        saver.base = None;
        if saver.asked.take().is_some() {
            self.saver_begins(w, token);
        }
    }

    /// A process wants to save.
    pub(crate) fn save_due(&mut self, w: usize, boot: u32, token: Token) {
        let machine = &mut self.machines[w];
        let is_away = machine.agent.is_none();
        if machine.boot != boot {
            return;
        }
        let Some(process) = machine.processes.get_mut(&token).filter(|p| !p.is_over()) else { return };
        let (at, rank) = (process.at, process.rank);
        let Some(saver) = process.saver.as_mut().filter(|saver| saver.asked.is_none()) else { return };
        if is_away {
            self.at(ASK_AGAIN_MS, Event::SaveDue { worker: w, boot, token });
            return;
        }
        let step = saver.next(at);
        saver.asked = Some(step);
        let took_ms = 1 + mix(token.0 ^ step) % saver.habit.upload_ms;
        let (single, base) = (saver.habit.single && rank == 0, saver.base);
        let agent = machine.agent_number;
        let upload = Upload { at, place: (token, step, rank), base, single, took_ms };
        if self.plant_says_early() {
            self.said_stored(w, &upload);
        }
        self.at(took_ms / 2, Event::Stored { worker: w, agent, upload: upload.clone(), whole: false });
        self.at(took_ms, Event::Stored { worker: w, agent, upload, whole: true });
    }

    /// Its files are in the store, or its manifest too.
    pub(crate) fn stored(&mut self, w: usize, agent: u32, upload: &Upload, whole: bool) {
        if !self.machines[w].hears(agent) {
            return;
        }
        let (place, shelf) = (upload.place, self.store.shelves.entry(upload.at).or_default());
        let base = upload.base.and_then(|base| shelf.manifests.get(&base));
        let unchanged = base.filter(|_| mix(place.0.0 ^ place.1) % 10 < 7);
        let second = unchanged.and_then(|files| files.iter().find(|file| file.1 == 1)).copied();
        let named = [(place, 0), second.unwrap_or((place, 1))];
        // What it thought unchanged may have decayed since: then it is sent after all.
        shelf.files.extend(named.into_iter().filter(|file| file.0 == place));
        if !whole {
            return;
        }
        // Never another one over one that is there.
        shelf.manifests.entry(place).or_insert_with(|| named.into_iter().collect());
        self.plant_collects_early(upload.at, place);
        if !self.plant_says_early() {
            self.said_stored(w, upload);
        }
    }

    fn said_stored(&mut self, w: usize, upload: &Upload) {
        let (token, step, _) = upload.place;
        let part = Part { manifest: digest(upload.at, upload.place), size: step, files: 2 };
        let saved = Saved { step, part, single: upload.single, took_ms: upload.took_ms };
        self.step_agent(w, Input::Saved { token, saved });
    }

    /// The worker hears what became of a step: it removes what is not kept, and the task goes on.
    pub(crate) fn save_answered(&mut self, w: usize, token: Token, step: u64, verdict: &Verdict) {
        invariants::i8_whole::on_verdict(self, w, token, step, verdict);
        let machine = &mut self.machines[w];
        let Some((at, rank)) = machine.journal.get(&token).map(|held| (held.at, held.rank)) else { return };
        if let Verdict::Committed { kept } = verdict {
            self.store.shelves.entry(at).or_default().collect(kept);
        }
        let Some(process) = machine.processes.get_mut(&token) else { return };
        let Some(saver) = process.saver.as_mut().filter(|saver| saver.asked == Some(step)) else { return };
        match verdict {
            Verdict::Waits => return,
            Verdict::Committed { kept } => {
                let newest = kept.last();
                saver.base = newest.and_then(|c| Some((c.token, c.step, c.part_of(rank)?.0)));
            }
            Verdict::Refused(_) => {}
        }
        saver.asked = None;
        saver.step = step;
        self.saver_begins(w, token);
    }

    /// A stop asks to save first.
    pub(crate) fn save_before_end(&mut self, w: usize, token: Token) {
        let boot = self.machines[w].boot;
        self.at(1, Event::SaveDue { worker: w, boot, token });
    }

    /// Something of the newest checkpoint of a live index is gone.
    pub(crate) fn decay(&mut self, number: u64) {
        if self.healed {
            return;
        }
        let state = &self.members[self.most_applied()].state;
        let newest = state.live().filter_map(|attempt| {
            let newest = state.checkpoints(attempt.at).last()?;
            Some((attempt.at, newest.token, newest.step, newest.parts.len() as u64))
        });
        let all: Vec<(IndexRef, Token, u64, u64)> = newest.collect();
        let mut rng = Rng::new(self.options.seed ^ mix(number), "decay");
        if all.is_empty() {
            return;
        }
        let (at, token, step, parts) = rng.pick(&all);
        let place = (token, step, rng.below(parts) as u32);
        let what = rng.pick(&[None, Some(0), Some(1)]);
        if let Some(shelf) = self.store.shelves.get_mut(&at) {
            shelf.decay(place, what);
        }
    }
}

/// What a process of this outcome ends with, if it saves.
pub(crate) fn outcome_of(outcome: Outcome, saver: Option<&Saver>) -> Outcome {
    let asks = outcome == Outcome::Exit(0) && saver.is_some_and(|saver| saver.exits_saved);
    if asks { Outcome::Exit(EXIT_SAVED) } else { outcome }
}
