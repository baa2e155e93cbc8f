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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const CHILD: &str = "MUSTER_VITAL_CHILD";

    /// In a process of its own: a thread that holds a `Vital` panics, and the main one would go on.
    fn child(what: String) {
        let thread = std::thread::spawn(move || {
            let _vital = Vital("a thread of a test");
            assert_eq!(what, "ends well", "a panic on purpose");
        });
        let _ = thread.join();
    }

    #[test]
    fn a_panic_in_what_is_vital_ends_the_process_and_an_end_does_not() {
        if let Ok(what) = std::env::var(CHILD) {
            return child(what);
        }
        let this = "vital::tests::a_panic_in_what_is_vital_ends_the_process_and_an_end_does_not";
        let run = |what: &str| {
            let mut command = Command::new(std::env::current_exe().expect("this binary"));
            command.args(["--exact", this]).env(CHILD, what);
            command.output().expect("start").status
        };
        assert_eq!(run("panics").signal(), Some(libc::SIGABRT));
        assert!(run("ends well").success());
    }
}
