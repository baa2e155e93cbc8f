//! What a member cannot be without: when it panics, the process ends, and others take over.

/// Held by a thread or a task for its life. A member whose leader thread died would keep the leadership by its heartbeats, renew no lease
/// and place nothing, for ever; a process that ends is replaced within an election.
pub struct Vital(pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(what = self.0, "a panic in what this member cannot be without: it ends");
            std::process::abort();
        }
    }
}
