//! A new job.

use super::{Answer, Apply, request_key};
use crate::command::Request;
use crate::event::Event;
use crate::model::ids::{JobId, TaskNo};
use crate::reply::{Rejection, Reply};
use crate::spec::SpecBytes;
use crate::state::job::Job;
use crate::state::rows::{Key, PartRow};
use std::sync::Arc;

impl Apply<'_> {
    pub(super) fn submit_part(&mut self, request: &Request, part: u32, bytes: &[u8]) -> Answer {
        let key = (request_key(request), part);
        if self.state.requests.contains_key(&key.0) {
            return Ok(Reply::Done);
        }
        self.touch(Key::Part(key.0.clone(), part));
        self.state.parts.insert(key, PartRow { bytes: bytes.to_vec(), tick: self.stamp.tick });
        Ok(Reply::Done)
    }

    /// `forecast`: what it is thought to cost, millionths of a USD.
    pub(super) fn submit(
        &mut self,
        request: &Request,
        spec: &SpecBytes,
        parts: u32,
        forecast: Option<u64>,
    ) -> Answer {
        let joined = if parts > 0 { Some(self.join_parts(&request_key(request), parts)?) } else { None };
        let spec = joined.as_ref().unwrap_or(spec).decode().map_err(|e| Rejection::BadSpec(e.to_string()))?;
        if !spec.is_sound() {
            return Err(Rejection::BadSpec("its numbers point nowhere".to_owned()));
        }
        self.admit(&spec, forecast)?;
        self.drop_parts(&request_key(request));
        self.state.meta.last_job += 1;
        let id = JobId(self.state.meta.last_job);
        self.reserve(id, &spec, forecast);
        let (tasks, indices) = (spec.tasks.len() as u32, spec.index_total());
        let job = Job::new(id, Arc::new(spec), request_key(request), request.user.clone(), self.stamp);
        self.state.jobs.insert(id, job);
        self.touch(Key::Spec(id));
        self.touch(Key::Job(id));
        self.events.push(Event::JobSubmitted { job: id });
        for no in 0..tasks {
            self.open_if_free(id, TaskNo(no));
        }
        Ok(Reply::Submitted { job: id, tasks, indices })
    }

    fn join_parts(&self, key: &str, parts: u32) -> Result<SpecBytes, Rejection> {
        let staged: Vec<&PartRow> =
            (0..parts).map_while(|n| self.state.parts.get(&(key.to_owned(), n))).collect();
        if staged.len() as u32 != parts {
            return Err(Rejection::MissingParts { have: staged.len() as u32, want: parts });
        }
        Ok(SpecBytes(staged.iter().flat_map(|p| p.bytes.iter().copied()).collect()))
    }

    fn drop_parts(&mut self, key: &str) {
        let range = (key.to_owned(), 0)..=(key.to_owned(), u32::MAX);
        let keys: Vec<(String, u32)> = self.state.parts.range(range).map(|(k, _)| k.clone()).collect();
        for key in keys {
            self.state.parts.remove(&key);
            self.touch(Key::Part(key.0, key.1));
        }
    }
}
