//! What the cluster asks for, as the leading member reckoned it last: kept in its memory, watched by whoever serves it.

use muster_core::view_doc::SignalsDoc;
use std::sync::Arc;
use tokio::sync::watch;

/// The signals of this member while it leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signals(Arc<watch::Sender<Arc<SignalsDoc>>>);

impl Default for Signals {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Arc::default())))
    }
}

impl Signals {
    /// The leader has reckoned anew. Whoever watches wakes only when the version or the term is another.
    pub fn publish(&self, signals: SignalsDoc) {
        self.0.send_if_modified(|known| {
            let is_news = (known.term, known.version) != (signals.term, signals.version);
            *known = Arc::new(signals);
            is_news
        });
    }

    /// The last ones, and the next.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<SignalsDoc>> {
        self.0.subscribe()
    }
}
