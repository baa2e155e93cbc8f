//! People who look: through any member, each until it is answered. A member serves a read as the shell does: it asks the leader it knows
//! for its read index, the leader confirms with a majority that it leads, and the member answers once it has applied that far.
//! (`Node::linearizable_read_index` and `Forward::catch_up`; modelled here, as the log is.)

use crate::event::Event;
use crate::options::MEMBERS;
use crate::register::JobAnswer;
use crate::world::World;
use muster_core::model::ids::JobId;
use muster_core::model::job::JobState;

/// A client looks again when it has heard nothing for this long, ms.
const PATIENCE_MS: u64 = 3_000;
/// A member looks this often whether it has applied what it waits for, ms.
const POLL_MS: u64 = 15;

/// One look at one job.
#[derive(Debug, Clone)]
pub struct Read {
    /// The request id of the job.
    pub request: String,
    pub tries: u32,
    pub invoked: u64,
    pub answered: Option<(u64, JobAnswer)>,
}

/// All looks of a run.
#[derive(Default)]
pub struct Reads {
    pub all: Vec<Read>,
    open: usize,
}

impl Reads {
    pub(crate) fn all_answered(&self) -> bool {
        self.open == 0
    }
}

impl World {
    /// Somebody will look at the job of this request in `delay` ms.
    pub(crate) fn plan_read(&mut self, delay: u64, request: &str) {
        let read = self.reads.all.len();
        let invoked = self.now + delay;
        self.reads.all.push(Read { request: request.to_owned(), tries: 0, invoked, answered: None });
        self.reads.open += 1;
        self.at(delay, Event::Look { read });
    }

    pub(crate) fn look(&mut self, read: usize) {
        if self.reads.all[read].answered.is_some() {
            return;
        }
        self.reads.all[read].tries += 1;
        let via = self.clients.rng.index(MEMBERS);
        let delay = self.network.delay();
        self.at(delay, Event::LookAt { read, via });
        self.at(PATIENCE_MS, Event::Look { read });
    }

    /// The member asks its leader. What is lost on the way is asked for again by the client.
    pub(crate) fn look_at(&mut self, read: usize, via: usize) {
        if !self.members[via].up {
            return;
        }
        if self.plant_reads_locally() {
            self.serve(read, via, 0);
            return;
        }
        let Some(leader) = self.leader_for(via) else { return };
        let delay = if leader == via { 0 } else { self.network.delay() };
        self.at(delay, Event::IndexAsked { read, via, leader });
    }

    /// The read index is what is committed now, and counts only if a majority says afterwards that this member still leads.
    pub(crate) fn index_asked(&mut self, read: usize, via: usize, leader: usize) {
        let member = &self.members[leader];
        let Some(term) = member.led.as_ref().filter(|l| l.is_ready).map(|l| l.term) else { return };
        let index = member.applied;
        if !member.up || self.network.is_cut(via, leader) {
            return;
        }
        let delay = self.cluster.rng.range(1, 10);
        self.at(delay, Event::IndexConfirmed { read, via, leader, term, index });
    }

    pub(crate) fn index_confirmed(&mut self, read: usize, via: usize, leader: usize, term: u64, index: u64) {
        let leads = self.members[leader].led.as_ref().is_some_and(|l| l.term == term);
        let confirmed = self.is_confirmed(leader, term) || (leads && self.plant_reads_unconfirmed());
        if !confirmed || self.network.is_cut(via, leader) {
            return;
        }
        let delay = if leader == via { 0 } else { self.network.delay() };
        self.at(delay, Event::Serve { read, via, index });
    }

    /// The member answers from its own state once that is as new as the read index.
    pub(crate) fn serve(&mut self, read: usize, via: usize, index: u64) {
        let asked = self.reads.all[read].answered.is_none();
        if !self.members[via].up || !asked {
            return;
        }
        if self.members[via].applied < index {
            self.at(POLL_MS, Event::Serve { read, via, index });
            self.catch_up(via);
            return;
        }
        let answer = self.state_of(via, &self.reads.all[read].request);
        if !self.network.rng.chance(self.network.loss_permille * 5) {
            let delay = self.network.delay();
            self.at(delay, Event::Seen { read, answer });
        }
    }

    /// What this member says of the job of a request. Jobs that left memory are on disk.
    fn state_of(&self, m: usize, request: &str) -> JobAnswer {
        let found = self.members[m].state.jobs().find(|j| j.request.strip_prefix("sim/") == Some(request));
        match found {
            Some(job) => JobAnswer::Seen { job: job.id.0, state: job.state() },
            None => match self.oracle.retired.get(request) {
                Some((job, state, at)) if *at <= self.members[m].applied => seen(*job, *state),
                _ => JobAnswer::Absent,
            },
        }
    }

    pub(crate) fn seen(&mut self, read: usize, answer: JobAnswer) {
        let now = self.now;
        let look = &mut self.reads.all[read];
        if look.answered.is_some() {
            return;
        }
        look.answered = Some((now, answer));
        self.reads.open -= 1;
        // Whoever has seen something tells somebody, who looks elsewhere at once.
        if !self.healed && self.clients.rng.chance(250) {
            let request = self.reads.all[read].request.clone();
            self.plan_read(1, &request);
        }
    }
}

fn seen(job: JobId, state: JobState) -> JobAnswer {
    JobAnswer::Seen { job: job.0, state }
}
