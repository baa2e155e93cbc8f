//! What ran before the drill and what is seen of it since.

use super::fault::{Fault, device};
use super::story::{Commits, Held, Story, story};
use crate::client::Client;
use crate::failure::Failure;
use muster_core::view_doc::{
    CheckpointsDoc, DeviceDoc, DeviceNoteDoc, JobDoc, JobSummary, JobsDoc, LeaseDoc, WorkersDoc,
    parse_rfc3339,
};
use muster_proto::api::{GetRequest, ListJobsRequest, ListRequest};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Jobs of one answer.
const PAGE: u32 = 1_000;

/// What ran before.
#[derive(Debug, Default)]
pub struct Scene {
    /// Attempts that the fault hits.
    pub hit: Vec<Held>,
    /// All others that were live: they must not notice.
    pub others: Vec<Held>,
    /// Jobs that were not final, and how many indices each had.
    pub jobs: BTreeMap<u64, u64>,
    /// Times and words of what had happened to the device.
    notes: BTreeSet<(String, String)>,
}

/// What was seen last.
#[derive(Debug, Default)]
pub struct Seen {
    workers: WorkersDoc,
    jobs: BTreeMap<u64, JobDoc>,
    commits: Commits,
    device: Option<DeviceDoc>,
    noted_ms: Option<i64>,
}

impl Scene {
    /// Looks at the cluster before `fault`.
    ///
    /// # Errors
    /// Nothing reachable.
    pub async fn before(client: &mut Client, fault: &Fault) -> Result<Self, Failure> {
        let mut scene = Self::default();
        if let Fault::Xid { uuid, .. } = fault {
            let history = device(client, uuid).await?.history;
            scene.notes = history.into_iter().map(|note| (note.time, note.event)).collect();
        }
        let mut tokens = BTreeSet::new();
        let workers = workers(client).await?.workers;
        let is_hit = |worker: &str, lease: &LeaseDoc| match fault {
            Fault::Notice { worker: hit, .. } | Fault::Silence { worker: hit, .. } => worker == hit,
            Fault::Xid { uuid, .. } => lease.devices.contains(uuid),
            Fault::LeaderDeath { .. } => false,
        };
        let leases = || workers.iter().flat_map(|w| w.leases.iter().map(|lease| (w.name.as_str(), lease)));
        // A gang has a lease on each of its workers: it is hit by any of them.
        let hit: BTreeSet<u64> =
            leases().filter(|(worker, lease)| is_hit(worker, lease)).map(|(_, lease)| lease.token).collect();
        for (_, lease) in leases().filter(|(_, lease)| lease.state != "stopping") {
            let Ok(name) = lease.attempt.parse() else { continue };
            if tokens.insert(lease.token) {
                let held = Held { attempt: lease.attempt.clone(), name, token: lease.token };
                if hit.contains(&lease.token) { scene.hit.push(held) } else { scene.others.push(held) }
            }
        }
        let states = ["pending", "running", "held"].map(str::to_owned).to_vec();
        scene.jobs = jobs(client, states).await?.iter().map(|job| (job.id, job.tasks.total)).collect();
        Ok(scene)
    }

    /// Jobs that were there and are not, and indices that are missing of others.
    ///
    /// # Errors
    /// Nothing reachable.
    pub async fn missing(&self, client: &mut Client) -> Result<u64, Failure> {
        let now: BTreeMap<u64, u64> =
            jobs(client, Vec::new()).await?.iter().map(|job| (job.id, job.tasks.total)).collect();
        let missing = |(id, total): (&u64, &u64)| now.get(id).map_or(1, |now| total.saturating_sub(*now));
        Ok(self.jobs.iter().map(missing).sum())
    }

    /// Attempts that were not hit and have lost their lease since, and whether they were granted twice.
    ///
    /// # Errors
    /// Nothing reachable.
    pub async fn others(&self, client: &mut Client) -> Result<Vec<Story>, Failure> {
        let mut docs: BTreeMap<u64, Option<JobDoc>> = BTreeMap::new();
        let mut stories = Vec::new();
        for held in &self.others {
            let doc = match docs.entry(held.name.job) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(job(client, held.name.job).await?),
            };
            stories.extend(doc.as_ref().and_then(|doc| story(doc, held, &Commits::default())));
        }
        Ok(stories)
    }
}

impl Seen {
    /// Looks again.
    ///
    /// # Errors
    /// Nothing reachable.
    pub async fn look(&mut self, client: &mut Client, fault: &Fault, scene: &Scene) -> Result<(), Failure> {
        self.workers = workers(client).await?;
        let ids: BTreeSet<u64> = scene.hit.iter().map(|held| held.name.job).collect();
        for id in ids {
            // First what was committed: what is collected later was seen here.
            if let Some(doc) = checkpoints(client, id).await {
                self.commits.add(id, doc);
            }
            if let Some(doc) = job(client, id).await? {
                self.jobs.insert(id, doc);
            }
        }
        if let Fault::Xid { uuid, code } = fault {
            let doc = device(client, uuid).await?;
            let is_new = |note: &&DeviceNoteDoc| {
                note.event == format!("xid {code}")
                    && !scene.notes.contains(&(note.time.clone(), note.event.clone()))
            };
            if let Some(note) = doc.history.iter().find(is_new) {
                self.noted_ms = parse_rfc3339(&note.time).ok();
            }
            self.device = Some(doc);
        }
        Ok(())
    }

    /// Stories of what was hit, as far as they are known.
    #[must_use]
    pub fn stories(&self, scene: &Scene) -> Vec<Story> {
        let of = |held: &Held| story(self.jobs.get(&held.name.job)?, held, &self.commits);
        scene.hit.iter().filter_map(of).collect()
    }

    #[must_use]
    pub fn worker_state(&self, name: &str) -> Option<&str> {
        self.workers.workers.iter().find(|w| w.name == name).map(|w| w.state.as_str())
    }

    /// When the event was in the device's history, ms since 1970.
    #[must_use]
    pub fn noted_ms(&self) -> Option<i64> {
        self.noted_ms
    }

    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.noted_ms.is_some()
    }

    /// The device is out of service.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.health == "quarantined")
    }
}

async fn workers(client: &mut Client) -> Result<WorkersDoc, Failure> {
    Ok(client.document(async |api| api.list_workers(ListRequest {}).await).await?.1)
}

/// None of a job that is not there any more.
async fn job(client: &mut Client, id: u64) -> Result<Option<JobDoc>, Failure> {
    match crate::commands::job::get(client, id).await {
        Ok((_, doc)) => Ok(Some(doc)),
        Err(failure) if failure.code == "JOB_NOT_FOUND" => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// None where it cannot be said.
async fn checkpoints(client: &mut Client, id: u64) -> Option<CheckpointsDoc> {
    let ask = GetRequest { id: id.to_string() };
    let read = client.document(async |api| api.list_checkpoints(ask.clone()).await).await;
    read.ok().map(|(_, doc)| doc)
}

/// All jobs in one of these states, or in any.
async fn jobs(client: &mut Client, states: Vec<String>) -> Result<Vec<JobSummary>, Failure> {
    let mut request = ListJobsRequest { states, limit: PAGE, ..ListJobsRequest::default() };
    let mut all = Vec::new();
    loop {
        let page: JobsDoc = client.document(async |api| api.list_jobs(request.clone()).await).await?.1;
        let is_last = page.jobs.len() < PAGE as usize;
        request.before = page.jobs.last().map_or(0, |job| job.id);
        all.extend(page.jobs);
        if is_last {
            return Ok(all);
        }
    }
}
