//! Registrations of workers on their way into the log. When a cluster starts, or members come back, thousands of workers come at once:
//! what waits goes in one batch, and whoever gave up waiting is left out, so that work for nobody does not keep the others waiting.

use crate::api::{ApiError, Forward};
use muster_core::command::Command;
use muster_core::reply::Reply;
use tokio::sync::{mpsc, oneshot};

/// Registrations of one proposal: at about a kilobyte each, far below what an entry may have.
const BATCH: usize = 512;

type Waiting = (Command, oneshot::Sender<Reply>);

/// The way in for registrations. Cheap to clone.
#[derive(Clone)]
pub struct Registrar {
    queue: mpsc::UnboundedSender<Waiting>,
}

impl Registrar {
    /// Starts the task that proposes them. It ends with the last clone.
    #[must_use]
    pub fn start(forward: Forward) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(serve(forward, waiting));
        Self { queue }
    }

    /// Proposes one, wherever the leader is; a rejection is an error.
    ///
    /// # Errors
    /// No leader within 5 s; what the state answered.
    pub async fn register(&self, command: Command) -> Result<Reply, ApiError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.queue.send((command, answer));
        match answered.await {
            Ok(Reply::Rejected(rejection)) => Err(rejection.into()),
            Ok(reply) => Ok(reply),
            Err(_) => Err(ApiError::NoLeader("the registration was not committed".to_owned())),
        }
    }
}

async fn serve(forward: Forward, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        batch.retain(|(_, answer)| !answer.is_closed());
        let (commands, answers): (Vec<Command>, Vec<_>) = batch.drain(..).unzip();
        if commands.is_empty() {
            continue;
        }
        match forward.propose(commands).await {
            Ok(replies) => {
                for (answer, reply) in answers.into_iter().zip(replies) {
                    let _ = answer.send(reply);
                }
            }
            // Their ends say so to those who wait.
            Err(error) => tracing::debug!(%error, "registrations were not committed"),
        }
    }
}
