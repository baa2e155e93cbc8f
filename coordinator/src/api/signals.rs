//! The signals, at any member: it asks the one that leads.

use super::error::ApiError;
use super::service::Service;
use muster_core::view_doc::SignalsDoc;
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// The signals, as soon as they are others than `after` (term, version), and after `wait` at the latest as they are. With `after`
    /// none: at once.
    ///
    /// # Errors
    /// No leader.
    pub async fn signals(
        &self,
        after: Option<(u64, u64)>,
        wait: Duration,
    ) -> Result<Arc<SignalsDoc>, ApiError> {
        let mut watch = self.signals.watch();
        if let Some(after) = after {
            let news = watch.wait_for(|signals| (signals.term, signals.version) != after);
            let _ = tokio::time::timeout(wait, news).await;
        }
        let signals = watch.borrow().clone();
        Ok(signals)
    }
}
