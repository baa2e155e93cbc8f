//! Faults that are made on purpose, as this process takes part in them: a worker that is not heard for a while, and its own death. Both
//! are in memory alone: a member that starts anew knows of none.
//!
//! Left out: who may ask for them, and of which members (`api::drill`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A worker that is not heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    pub until: Instant,
    /// Which exercise it is, for people.
    pub drill: String,
}

/// Workers that are not heard, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Silences(Arc<watch::Sender<BTreeMap<String, Silence>>>);

impl Silences {
    /// From now on the worker is not heard here for so long; a silence that was there already is replaced.
    pub fn begin(&self, worker: &str, length: Duration, drill: String) {
        let silence = Silence { until: Instant::now() + length, drill };
        self.0.send_modify(|all| drop(all.insert(worker.to_owned(), silence.clone())));
        let (silences, worker) = (self.clone(), worker.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            let is_this = |all: &BTreeMap<String, Silence>| all.get(&worker) == Some(&silence);
            let over = silences.0.send_if_modified(|all| is_this(all) && all.remove(&worker).is_some());
            if over {
                tracing::warn!(worker, drill = silence.drill, "a drill is over: the worker is heard again");
            }
        });
    }

    /// The worker is heard again. Whether it was not.
    pub fn end(&self, worker: &str) -> bool {
        self.0.send_if_modified(|all| all.remove(worker).is_some())
    }

    /// The silence of a worker, while it lasts.
    #[must_use]
    pub fn of(&self, worker: &str) -> Option<Silence> {
        self.0.borrow().get(worker).cloned()
    }

    /// Waits until the worker is not heard, which may be the case already.
    pub async fn begins(&self, worker: &str) {
        let mut all = self.0.subscribe();
        if all.wait_for(|all| all.contains_key(worker)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The wish that this process should die. Cheap to clone.
#[derive(Clone, Default)]
pub struct Death(Arc<watch::Sender<Option<Duration>>>);

impl Death {
    /// Asks for it after `delay`, so that an answer gets out first; the process stays away for `away`.
    pub fn ask(&self, delay: Duration, away: Duration) {
        let death = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            death.0.send_replace(Some(away));
        });
    }

    /// Ends once it was asked for, with how long the process is to stay away.
    pub fn asked(&self) -> impl Future<Output = Duration> + use<> {
        let mut wish = self.0.subscribe();
        async move {
            let away = wish.wait_for(Option::is_some).await.ok().and_then(|away| *away);
            match away {
                Some(away) => away,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_silence_is_heard_of_by_those_who_wait_and_by_those_who_come_later_until_it_is_over() {
        let silences = Silences::default();
        let mut waits = Box::pin(silences.begins("w1"));
        assert_eq!(waits.as_mut().now_or_never(), None);
        silences.begin("w2", LONG, "cut".to_owned());
        assert_eq!(waits.as_mut().now_or_never(), None);
        silences.begin("w1", LONG, "lose-worker".to_owned());
        assert_eq!(waits.now_or_never(), Some(()));
        assert_eq!(silences.begins("w1").now_or_never(), Some(()));
        assert_eq!(silences.of("w1").map(|silence| silence.drill), Some("lose-worker".to_owned()));
        assert!(silences.end("w1") && !silences.end("w1"));
        assert_eq!(silences.begins("w1").now_or_never(), None);
        assert!(silences.of("w2").is_some());
    }

    #[tokio::test]
    async fn a_silence_ends_by_itself_and_not_by_the_end_of_the_one_before() {
        let silences = Silences::default();
        silences.begin("w1", Duration::from_millis(1), "cut".to_owned());
        silences.begin("w1", LONG, "cut".to_owned());
        // Its timer is the later one.
        silences.begin("w2", Duration::from_millis(50), "cut".to_owned());
        let mut all = silences.0.subscribe();
        all.wait_for(|all| !all.contains_key("w2")).await.expect("it ends");
        assert!(silences.of("w1").is_some());
    }

    #[tokio::test]
    async fn a_death_is_asked_for_once_its_answer_is_out() {
        let death = Death::default();
        let asked = death.asked();
        death.ask(Duration::ZERO, LONG);
        assert_eq!(asked.await, LONG);
    }
}
