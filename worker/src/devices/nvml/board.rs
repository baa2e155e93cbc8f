//! What the threads write and the agent reads: the only thing that they share.

use super::residue::{Before, lives};
use super::sampler::Reading;
use super::watch::Watch;
use crate::devices::{Device, Event, EventKind, Health, Residue, Sample};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Events that wait for an agent that does not fetch them; older ones give way.
const EVENTS_MAX: usize = 4096;

/// The board.
#[derive(Debug)]
pub struct Board {
    deadline: Duration,
    inner: Mutex<Inner>,
    /// Somebody waits for a round, or for the end.
    wanted: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    samples: BTreeMap<String, Sample>,
    watch: Watch,
    before: Before,
    events: Vec<Event>,
    /// The beginning of the round under way, and of the last that was finished.
    under_way: Option<Instant>,
    finished: Option<Instant>,
    /// Told that the driver hangs.
    is_hung: bool,
    is_wanted: bool,
    is_over: bool,
}

impl Board {
    /// An empty one. A round that takes longer than `deadline` means a driver that hangs.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline, inner: Mutex::default(), wanted: Condvar::new() }
    }

    /// Ends the threads, as soon as the driver lets them.
    pub fn stop(&self) {
        self.inner.lock().is_over = true;
        self.wanted.notify_all();
    }

    /// Waits for the next round's time; false: there is none.
    pub fn next_round(&self, period: Duration) -> bool {
        let mut inner = self.inner.lock();
        if !inner.is_wanted && !inner.is_over {
            self.wanted.wait_for(&mut inner, period);
        }
        inner.is_wanted = false;
        inner.under_way = Some(Instant::now());
        !inner.is_over
    }

    /// Whether the threads are to end.
    pub fn is_over(&self) -> bool {
        self.inner.lock().is_over
    }

    /// A round is over.
    pub fn round(&self, readings: Vec<Reading>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for reading in readings {
            let clean = inner.before.left(&reading.sample, false, lives).is_none();
            inner.events.extend(inner.watch.look(&reading, clean));
            let mut sample = reading.sample;
            sample.unhealthy = inner.watch.trouble(&sample.uuid);
            inner.samples.insert(sample.uuid.clone(), sample);
        }
        inner.finished = inner.under_way.take();
        inner.is_hung = false;
        inner.trim();
    }

    /// The driver reported something of these devices.
    pub fn heard<'a>(&self, uuids: impl Iterator<Item = &'a str>, kind: &EventKind, detail: &str) {
        let mut inner = self.inner.lock();
        for uuid in uuids {
            let event = inner.watch.heard(uuid, kind.clone(), detail.to_owned());
            inner.events.push(event);
        }
        inner.trim();
    }

    /// The last sample of each device.
    pub fn samples(&self) -> Vec<Sample> {
        let inner = self.inner.lock();
        let hung = inner.hung_for(self.deadline).map(hung_text);
        let told = |sample: &Sample| Sample {
            unhealthy: hung.clone().or(sample.unhealthy.clone()),
            ..sample.clone()
        };
        inner.samples.values().map(told).collect()
    }

    /// Which devices can be used.
    pub fn health(&self, devices: &[Device]) -> Vec<(String, Health)> {
        let inner = self.inner.lock();
        let hung = inner.hung_for(self.deadline).map(hung_text);
        let of = |uuid: &str| match hung.clone().or_else(|| inner.watch.trouble(uuid)) {
            Some(why) => Health::Unhealthy(why),
            None => Health::Healthy,
        };
        devices.iter().map(|device| (device.uuid.clone(), of(&device.uuid))).collect()
    }

    /// What happened since the last call. This is also where a driver that hangs is noticed: its own threads can't.
    pub fn take_events(&self, devices: &[Device]) -> Vec<Event> {
        let mut inner = self.inner.lock();
        if let (Some(since), false) = (inner.hung_for(self.deadline), inner.is_hung) {
            inner.is_hung = true;
            for device in devices {
                let event = inner.watch.heard(&device.uuid, EventKind::DriverHung, hung_text(since));
                inner.events.push(event);
            }
        }
        std::mem::take(&mut inner.events)
    }

    /// Remembers what is on devices that are about to be used.
    pub fn granted(&self, uuids: &[String]) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for sample in uuids.iter().filter_map(|uuid| inner.samples.get(uuid)) {
            inner.before.note(sample);
        }
    }

    /// What is left on a device, if a round that began after `ended` is over; else one is begun.
    pub fn residue(&self, uuid: &str, shared: bool, ended: Instant) -> Residue {
        let mut inner = self.inner.lock();
        if inner.finished.is_none_or(|at| at <= ended) {
            inner.is_wanted = true;
            self.wanted.notify_all();
            return Residue::Unknown;
        }
        let Some(sample) = inner.samples.get(uuid) else { return Residue::Unknown };
        inner.before.left(sample, shared, lives).map_or(Residue::Clean, Residue::Left)
    }

    /// Whether there is still anything wrong with these is to be said, also of those that nobody here knows to be in trouble.
    pub fn probe(&self, uuids: &[String]) {
        let mut inner = self.inner.lock();
        uuids.iter().for_each(|uuid| inner.watch.probe(uuid));
    }

    /// The device did not become clean in time.
    pub fn not_clean(&self, uuid: &str, reason: &str) {
        self.heard([uuid].into_iter(), &EventKind::NotClean(reason.to_owned()), reason);
    }
}

impl Inner {
    /// How long the round under way has taken, if that is too long.
    fn hung_for(&self, deadline: Duration) -> Option<Duration> {
        self.under_way.map(|since| since.elapsed()).filter(|elapsed| *elapsed > deadline)
    }

    fn trim(&mut self) {
        let beyond = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..beyond);
    }
}

fn hung_text(since: Duration) -> String {
    format!("the driver does not answer for {} s", since.as_secs())
}
