//! The committers of all attempts of this worker, by token.

use super::CommitError;
use super::fetch::{Brought, fetch};
use super::manifest::Of;
use super::protocol::{Answer, Request};
use super::saver::{Saver, Tell, Whose};
use crate::blobs::Store;
use muster_core::leader::instruction::ResumeOrder;
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::Verdict;
use muster_core::model::ids::{IndexRef, Token};
use muster_failpoint::{Point, pass};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All of them.
pub struct Savers {
    store: Store,
    socket: PathBuf,
    tell: Arc<Tell>,
    all: Mutex<HashMap<Token, Arc<Saver>>>,
}

impl std::fmt::Debug for Savers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Savers").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Savers {
    /// None yet. `tell` says to the agent what was stored; tasks find `socket`.
    #[must_use]
    pub fn new(store: Store, socket: PathBuf, tell: Tell) -> Self {
        Self { store, socket, tell: Arc::new(tell), all: Mutex::default() }
    }

    /// `MUSTER_SOCKET`.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// An attempt that may commit.
    pub fn add(&self, whose: Whose) -> Arc<Saver> {
        let token = whose.token;
        let saver = Arc::new(Saver::new(whose, self.store.clone(), self.tell.clone()));
        self.all.lock().insert(token, saver.clone());
        saver
    }

    /// The attempt is forgotten.
    pub fn remove(&self, token: Token) {
        if let Some(saver) = self.all.lock().remove(&token) {
            saver.end();
        }
    }

    /// What became of a checkpoint.
    pub fn answer(&self, token: Token, step: u64, verdict: Verdict) {
        if let Some(saver) = self.get(token) {
            pass(Point::CheckpointVerdict);
            saver.answer(step, verdict);
        }
    }

    /// Brings what an attempt begins from into `to`.
    ///
    /// # Errors
    /// The outcome with which it ends instead.
    pub async fn fetch(
        &self,
        token: Token,
        at: IndexRef,
        order: &ResumeOrder,
        to: &Path,
    ) -> Result<(), Outcome> {
        let of = Of { at, token: order.token, rank: order.rank, step: order.step };
        let Brought { base } = fetch(&self.store, of, &order.part, to).await?;
        if let Some(saver) = self.get(token) {
            saver.begins_from(base);
        }
        Ok(())
    }

    /// Does what a task asks.
    pub async fn serve(&self, request: Request) -> Answer {
        let token = Token(request.token);
        let done = match self.get(token) {
            Some(saver) => saver.commit(request.commit).await,
            None => Err(CommitError::NoAttempt(request.token)),
        };
        match done {
            Ok(step) => Answer::Done { ok: true, step },
            Err(error) => Answer::from(&error),
        }
    }

    fn get(&self, token: Token) -> Option<Arc<Saver>> {
        self.all.lock().get(&token).cloned()
    }
}
