//! `checkpoint.watch`: directories of a framework that cannot be changed are committed when they have not changed for a while.
//!
//! A directory is named by its pattern and not by its contents, so nothing here knows which files make it whole. While the task runs, it is
//! whole when nothing in it has changed for `settle`. Once no process is left nothing changes any more: then the newest one counts as
//! whole only if the task was not killed in the middle of something.

use super::CommitError;
use super::listing::{Entry, Listing};
use super::protocol::Commit;
use super::saver::Saver;
use globset::{GlobBuilder, GlobMatcher};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks, at least and at most; in between it is half of `settle`.
const EVERY_MIN: Duration = Duration::from_millis(250);
const EVERY_MAX: Duration = Duration::from_secs(30);
/// Directories below the checkpoint directory that a pattern with `**` may go down.
const DEPTH_MAX: usize = 16;

/// What was seen, by path from the checkpoint directory.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, Look>);

#[derive(Debug)]
struct Look {
    entries: Vec<Entry>,
    since: Instant,
    /// These contents were committed, or cannot be.
    is_done: bool,
}

/// A directory that is to be committed.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    path: String,
    /// The number at the end of its name.
    step: Option<u64>,
}

impl Seen {
    /// Takes in what there is now.
    fn look(&mut self, now: Instant, found: Vec<(String, Vec<Entry>)>) {
        let mut before = std::mem::take(&mut self.0);
        for (path, entries) in found {
            let look = match before.remove(&path) {
                Some(look) if look.entries == entries => look,
                _ => Look { entries, since: now, is_done: false },
            };
            self.0.insert(path, look);
        }
    }

    /// The newest that has not changed for `settle`, if that is beyond the `newest` step. A name without a number is a step of its own
    /// whenever its contents are new.
    fn due(&self, now: Instant, settle: Duration, newest: Option<u64>) -> Option<Due> {
        let settled = self.0.iter().filter(|(_, look)| !look.is_done && now - look.since >= settle);
        let due = settled.map(|(path, _)| Due { path: path.clone(), step: number_of(path) });
        due.filter(|due| due.step.is_none_or(|step| Some(step) > newest)).max_by_key(|due| due.step)
    }

    fn done(&mut self, path: &str) {
        if let Some(look) = self.0.get_mut(path) {
            look.is_done = true;
        }
    }
}

/// The number at the end of a name: 500 of `out/checkpoint-500`.
fn number_of(path: &str) -> Option<u64> {
    let digits = path.len() - path.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    path[path.len() - digits..].parse().ok()
}

/// Directories below `dir` that match, with what is in them; what is on its way in or out is left out this time.
fn find(dir: &Path, pattern: &GlobMatcher, depth: usize) -> Vec<(String, Vec<Entry>)> {
    let walk = walkdir::WalkDir::new(dir).min_depth(1).max_depth(depth).follow_links(false);
    let dirs = walk.into_iter().flatten().filter(|entry| entry.file_type().is_dir());
    let names = dirs.filter_map(|entry| entry.path().strip_prefix(dir).ok()?.to_str().map(str::to_owned));
    names
        .filter(|name| pattern.is_match(name))
        .filter_map(|name| match Listing::of(dir, Path::new(&name)) {
            Ok(listing) => Some((name, listing.entries)),
            Err(error) => {
                tracing::debug!(name, %error, "a watched directory is not ready");
                None
            }
        })
        .collect()
}

/// The watch of one attempt.
#[derive(Debug)]
pub(super) struct Watch {
    pattern: GlobMatcher,
    depth: usize,
    seen: Seen,
}

impl Watch {
    fn new(pattern: &str) -> Result<Self, globset::Error> {
        let trimmed = pattern.trim_matches('/');
        let glob = GlobBuilder::new(trimmed).literal_separator(true).build()?;
        let depth = if trimmed.contains("**") { DEPTH_MAX } else { trimmed.split('/').count() };
        Ok(Self { pattern: glob.compile_matcher(), depth, seen: Seen::default() })
    }

    async fn look(&mut self, dir: &Path) {
        let (dir, pattern, depth) = (dir.to_owned(), self.pattern.clone(), self.depth);
        let found = tokio::task::spawn_blocking(move || find(&dir, &pattern, depth)).await;
        self.seen.look(Instant::now(), found.unwrap_or_default());
    }
}

impl Saver {
    /// Commits what its pattern names, from now until its end. Once.
    pub fn watch(self: &Arc<Self>) {
        let Some(pattern) = &self.whose.spec.watch else { return };
        if self.is_watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let watch = match Watch::new(pattern) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(token = %self.whose.token, pattern, %error, "the pattern cannot be watched");
                return;
            }
        };
        let settle = Duration::from_millis(self.whose.spec.settle_ms);
        // Nobody has it yet: this is done once.
        if let Ok(mut watched) = self.watched.try_lock() {
            *watched = Some(watch);
        }
        let saver = self.clone();
        tokio::spawn(async move {
            let unwatched = saver.unwatched.clone();
            let watching = async {
                loop {
                    tokio::time::sleep((settle / 2).clamp(EVERY_MIN, EVERY_MAX)).await;
                    saver.commit_settled(settle, None).await;
                }
            };
            tokio::select! {
                () = watching => {}
                () = unwatched.cancelled() => {}
            }
        });
    }

    /// Commits the newest that has not changed for `settle`, or where that cannot be, the next one.
    pub(super) async fn commit_settled(self: &Arc<Self>, settle: Duration, within: Option<Duration>) {
        let mut watched = self.watched.lock().await;
        let Some(watch) = watched.as_mut() else { return };
        watch.look(&self.whose.dir).await;
        loop {
            let newest = self.newest().await;
            let Some(due) = watch.seen.due(Instant::now(), settle, newest) else { return };
            let step = due.step.unwrap_or_else(|| newest.map_or(0, |newest| newest + 1));
            let timeout = within.map(|within| within.as_secs().max(1));
            match self.commit(Commit { path: due.path.clone(), step, single: false, timeout }).await {
                Ok(_) => return watch.seen.done(&due.path),
                // It is tried again after the next look.
                Err(CommitError::Over | CommitError::Late { .. } | CommitError::Changed { .. }) => return,
                // Whatever is wrong with it stays wrong until it changes.
                Err(error) => {
                    let (token, path) = (self.whose.token, &due.path);
                    tracing::warn!(%token, path, step, %error, "a watched checkpoint is not committed");
                    watch.seen.done(&due.path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::Kind;
    use super::*;

    const SETTLE: Duration = Duration::from_secs(5);

    fn contents(mode: u32) -> Vec<Entry> {
        vec![Entry { path: "x".into(), kind: Kind::Dir { mode } }]
    }

    fn found(names: &[(&str, u32)]) -> Vec<(String, Vec<Entry>)> {
        names.iter().map(|(name, mode)| ((*name).to_owned(), contents(*mode))).collect()
    }

    #[test]
    fn what_has_not_changed_for_a_while_is_due_the_newest_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let due = |seen: &Seen, seconds, newest| {
            seen.due(at(seconds), SETTLE, newest).map(|due| (due.path, due.step))
        };
        let (c5, c10) = (("checkpoint-5".to_owned(), Some(5)), ("checkpoint-10".to_owned(), Some(10)));
        let mut seen = Seen::default();
        seen.look(at(0), found(&[("checkpoint-5", 1)]));
        assert_eq!(due(&seen, 4, None), None);
        assert_eq!(due(&seen, 5, None), Some(c5.clone()));
        seen.look(at(6), found(&[("checkpoint-5", 1), ("checkpoint-10", 1)]));
        assert_eq!(due(&seen, 6, None), Some(c5));
        // It is still written.
        seen.look(at(9), found(&[("checkpoint-5", 1), ("checkpoint-10", 2)]));
        assert_eq!(due(&seen, 13, Some(5)), None);
        assert_eq!(due(&seen, 14, Some(5)), Some(c10));
        assert_eq!(due(&seen, 14, Some(10)), None, "steps go forwards");
        seen.done("checkpoint-10");
        assert_eq!(due(&seen, 14, Some(9)), None);
        // Gone, and come again.
        seen.look(at(20), vec![]);
        seen.look(at(21), found(&[("checkpoint-10", 2)]));
        assert_eq!(due(&seen, 25, Some(5)), None);
    }

    #[test]
    fn one_without_a_number_is_due_whenever_it_is_new() {
        let start = Instant::now();
        let mut seen = Seen::default();
        let due = |seen: &Seen| seen.due(start + SETTLE, SETTLE, Some(7)).map(|due| (due.path, due.step));
        seen.look(start, found(&[("latest", 1)]));
        assert_eq!(due(&seen), Some(("latest".to_owned(), None)));
        seen.done("latest");
        seen.look(start, found(&[("latest", 1)]));
        assert_eq!(due(&seen), None);
        seen.look(start, found(&[("latest", 2)]));
        assert_eq!(due(&seen), Some(("latest".to_owned(), None)));
    }

    #[test]
    fn the_number_is_the_one_at_the_end() {
        for (path, number) in [
            ("checkpoint-500", Some(500)),
            ("run-7/step_0012", Some(12)),
            ("epoch=3-step=40", Some(40)),
            ("latest", None),
            ("12-final", None),
            ("99999999999999999999999", None),
            ("9", Some(9)),
        ] {
            assert_eq!(number_of(path), number, "{path}");
        }
    }

    #[test]
    fn a_pattern_matches_directories_as_deep_as_it_says() {
        let top = tempfile::tempdir().unwrap();
        for dir in ["checkpoint-1/sub", "out/checkpoint-2", "out/deep/checkpoint-3", "other"] {
            std::fs::create_dir_all(top.path().join(dir)).unwrap();
        }
        std::fs::write(top.path().join("checkpoint-4"), "a file").unwrap();
        std::os::unix::fs::symlink("checkpoint-1", top.path().join("checkpoint-5")).unwrap();
        for (pattern, names) in [
            ("checkpoint-*", vec!["checkpoint-1"]),
            ("*/checkpoint-*", vec!["out/checkpoint-2"]),
            ("**/checkpoint-*", vec!["checkpoint-1", "out/checkpoint-2", "out/deep/checkpoint-3"]),
            ("nothing", vec![]),
        ] {
            let watch = Watch::new(pattern).unwrap();
            let mut seen: Vec<_> =
                find(top.path(), &watch.pattern, watch.depth).into_iter().map(|(name, _)| name).collect();
            seen.sort();
            assert_eq!(seen, names, "{pattern}");
        }
    }
}
