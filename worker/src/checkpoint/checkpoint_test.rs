//! Commits from a task's directory through a real directory store into a small log, and back; cut off, flipped and asked for in every order.

use super::fetch::fetch_within;
use super::manifest::Of;
use super::protocol::{Answer, Commit, Request};
use super::saver::Whose;
use super::{Saver, Savers, socket};
use crate::blobs::Store;
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::{Checkpoint, Saved, Verdict};
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token};
use muster_core::model::job_spec::CheckpointSpec;
use muster_core::model::time::Stamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const TOKEN: Token = Token(17);

/// What the log has of the index.
#[derive(Default)]
struct Log {
    kept: Vec<Checkpoint>,
    /// Answers are held back.
    is_silent: bool,
    /// The next answer is that other ranks are missing.
    waits: bool,
    told: Vec<Saved>,
}

impl Log {
    fn take(&mut self, token: Token, saved: Saved) -> Option<Verdict> {
        self.told.push(saved);
        let newest = self.kept.last();
        if newest.is_none_or(|n| (n.token, n.step, n.parts[0]) != (token, saved.step, saved.part)) {
            if newest.is_some_and(|newest| newest.step >= saved.step) {
                return Some(Verdict::Refused(format!("step {} is not new", saved.step)));
            }
            let (parts, committed) = (vec![saved.part], Stamp::default());
            self.kept.push(Checkpoint {
                step: saved.step,
                token,
                attempt: 2,
                parts,
                committed,
                took_ms: 1,
                worked_ms: 0,
            });
            let drop = self.kept.len().saturating_sub(2);
            self.kept.drain(..drop);
        }
        (!self.is_silent).then(|| Verdict::Committed { kept: self.kept.clone() })
    }
}

/// A worker with one attempt. Its directories outlive its agent.
struct Rig {
    top: Arc<tempfile::TempDir>,
    store: Store,
    log: Arc<Mutex<Log>>,
    savers: Arc<Savers>,
    saver: Arc<Saver>,
}

fn at() -> IndexRef {
    IndexRef::new(JobId(42), TaskNo(1), 3)
}

fn commit(path: &str, step: u64) -> Commit {
    Commit { path: path.into(), step, single: false, timeout: None }
}

impl Rig {
    fn new() -> Self {
        let top = Arc::new(tempfile::tempdir().unwrap());
        fs::create_dir(top.path().join("ckpt")).unwrap();
        Self::agent(top, Arc::default(), TOKEN, None)
    }

    /// An agent over what an earlier one left.
    fn agent(top: Arc<tempfile::TempDir>, log: Arc<Mutex<Log>>, token: Token, resumed: Option<u64>) -> Self {
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        let all: Arc<OnceLock<Weak<Savers>>> = Arc::default();
        let (answers, decides) = (all.clone(), log.clone());
        let tell = move |token, saved: Saved| {
            let Some(savers) = answers.get().and_then(Weak::upgrade) else { return };
            let mut log = decides.lock();
            if std::mem::take(&mut log.waits) {
                savers.answer(token, saved.step, Verdict::Waits);
            }
            if let Some(verdict) = log.take(token, saved) {
                savers.answer(token, saved.step, verdict);
            }
        };
        let savers = Arc::new(Savers::new(store.clone(), top.path().join("tasks.sock"), Box::new(tell)));
        all.set(Arc::downgrade(&savers)).unwrap();
        let spec = CheckpointSpec { watch: Some("checkpoint-*".into()), ..CheckpointSpec::default() };
        let (root, dir) = (top.path().to_owned(), top.path().join("ckpt"));
        let saver = savers.add(Whose { at: at(), attempt: 2, token, rank: 0, spec, resumed, root, dir });
        Self { top, store, log, savers, saver }
    }

    fn restarted(&self) -> Self {
        Self::agent(self.top.clone(), self.log.clone(), TOKEN, None)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.top.path().join("ckpt").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn code(&self, ask: Commit) -> &'static str {
        self.saver.commit(ask).await.map_or_else(|error| error.code(), |_| "done")
    }

    /// What an attempt would begin from now.
    async fn resume(&self) -> Result<(u64, BTreeMap<String, String>), Outcome> {
        let newest = self.log.lock().kept.last().cloned().unwrap();
        let of = Of { at: at(), token: newest.token, rank: 0, step: newest.step };
        let to = self.top.path().join("resume");
        fetch_within(Duration::ZERO, &self.store, of, &newest.parts[0], &to).await?;
        Ok((newest.step, read(&to)))
    }

    /// Files of the store, without those that are being written.
    fn objects(&self) -> Vec<PathBuf> {
        let walk = walkdir::WalkDir::new(self.top.path().join("store/checkpoints")).sort_by_file_name();
        let files = walk.into_iter().flatten().filter(|entry| entry.file_type().is_file());
        files.map(walkdir::DirEntry::into_path).collect()
    }
}

/// Paths and contents of files, links by where they lead, directories by their mode.
fn read(top: &Path) -> BTreeMap<String, String> {
    let walk = walkdir::WalkDir::new(top).min_depth(1).into_iter().map(Result::unwrap);
    walk.map(|entry| {
        let kind = entry.file_type();
        let what = if kind.is_dir() {
            format!("{:o}", entry.metadata().unwrap().permissions().mode() & 0o777)
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).unwrap().display())
        } else {
            fs::read_to_string(entry.path()).unwrap()
        };
        (entry.path().strip_prefix(top).unwrap().display().to_string(), what)
    })
    .collect()
}

/// Waits until collected objects are gone: that is done beside the commits.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

#[tokio::test]
async fn what_is_committed_comes_back_as_it_was_and_what_did_not_change_is_sent_once() {
    let rig = Rig::new();
    rig.write("s/frozen", "the same for ever");
    rig.write("s/sub/weights", "one");
    fs::create_dir(rig.top.path().join("ckpt/s/empty")).unwrap();
    symlink("sub/weights", rig.top.path().join("ckpt/s/latest")).unwrap();
    fs::set_permissions(rig.top.path().join("ckpt/s/frozen"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.saver.commit(commit("s", 10)).await.unwrap(), 10);
    let expected = read(&rig.top.path().join("ckpt/s"));
    assert_eq!(rig.resume().await.unwrap(), (10, expected));
    let mode = fs::metadata(rig.top.path().join("resume/frozen")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(rig.objects().len(), 3);

    // A new directory with one file that is the same.
    rig.write("t/frozen", "the same for ever");
    rig.write("t/sub/weights", "two");
    rig.saver.commit(commit("t", 20)).await.unwrap();
    assert_eq!(rig.objects().len(), 5, "{:?}", rig.objects());
    assert_eq!(rig.resume().await.unwrap().1["sub/weights"], "two");
    rig.write("t/sub/weights", "six");
    rig.saver.commit(commit("t", 30)).await.unwrap();
    // Two are kept, the frozen file of the first with them.
    until("the collection", || rig.objects().len() == 5).await;
    assert_eq!(rig.resume().await.unwrap().1["frozen"], "the same for ever");

    // The next attempt knows what it began from.
    fs::write(rig.top.path().join("sent"), "").unwrap();
    let next = Rig::agent(rig.top.clone(), rig.log.clone(), Token(99), Some(30));
    let newest = next.log.lock().kept.last().cloned().unwrap();
    let order = muster_core::leader::instruction::ResumeOrder {
        step: newest.step,
        token: newest.token,
        rank: 0,
        part: newest.parts[0],
    };
    next.savers.fetch(Token(99), at(), &order, &rig.top.path().join("resume")).await.unwrap();
    assert_eq!(next.code(commit("t", 30)).await, "STEP_BACK");
    let before = next.objects().len();
    next.saver.commit(commit("t", 31)).await.unwrap();
    until("the collection", || next.objects().len() == before - 1).await;
    assert_eq!(next.resume().await.unwrap().0, 31);
    // A single file, and nothing at all.
    next.saver.commit(commit("t/frozen", 32)).await.unwrap();
    assert_eq!(
        next.resume().await.unwrap().1,
        BTreeMap::from([("frozen".into(), "the same for ever".into())])
    );
    next.saver.commit(commit("s/empty", 33)).await.unwrap();
    assert_eq!(next.resume().await.unwrap().1, BTreeMap::new());
    until("the collection", || next.objects().len() == 3).await;
}

#[tokio::test]
async fn steps_go_forwards_and_a_step_has_one_content() {
    let rig = Rig::new();
    rig.write("s/a", "one");
    rig.saver.commit(commit("s", 5)).await.unwrap();
    assert_eq!(rig.code(commit("s", 4)).await, "STEP_BACK");
    assert_eq!(rig.saver.commit(commit("s", 5)).await.unwrap(), 5, "the same once more");
    assert_eq!(rig.restarted().saver.commit(commit("s", 5)).await.unwrap(), 5, "and by the next agent");
    assert_eq!(rig.restarted().code(commit("s", 3)).await, "STEP_BACK");
    rig.write("s/a", "two");
    assert_eq!(rig.code(commit("s", 5)).await, "STEP_TAKEN");
    assert_eq!(rig.restarted().code(commit("s", 5)).await, "STEP_TAKEN");
    assert_eq!(rig.resume().await.unwrap().1["a"], "one");
    assert_eq!(rig.code(commit("s", 6)).await, "done");
    // An end of the attempt ends what is asked for.
    rig.savers.remove(TOKEN);
    assert_eq!(rig.code(commit("s", 7)).await, "OVER");
}

#[tokio::test]
async fn what_the_log_never_answered_is_asked_again_and_shares_no_file_that_may_be_gone() {
    let rig = Rig::new();
    rig.write("s/a", "one");
    rig.write("s/b", "two");
    rig.saver.commit(commit("s", 1)).await.unwrap();
    rig.log.lock().is_silent = true;
    rig.write("s/a", "new");
    let soon = Commit { timeout: Some(1), ..commit("s", 2) };
    let late = rig.saver.commit(soon).await.unwrap_err();
    assert_eq!(late.to_string(), "not committed in 1 s: the coordinators have not answered");
    // It may be the newest that is kept: the next one names only what both name, `b`.
    rig.log.lock().is_silent = false;
    rig.log.lock().waits = true;
    let before = rig.objects().len();
    rig.saver.commit(commit("s", 3)).await.unwrap();
    until("the collection", || rig.objects().len() == before).await;
    assert_eq!(rig.log.lock().told.iter().map(|saved| saved.step).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rig.resume().await.unwrap().0, 3);
}

/// The agent dies at the n-th moment of a commit, for every n; what was on its way arrives or not.
#[test]
fn a_commit_that_is_cut_off_anywhere_leaves_the_one_before_and_goes_well_the_next_time() {
    let run = |work: &mut dyn FnMut(&tokio::runtime::Runtime)| {
        // Dropped with everything that is under way.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        work(&runtime);
    };
    for round in 0..5 {
        let mut cut = 0;
        loop {
            let rig = Rig::new();
            rig.write("s/frozen", "the same");
            for n in 0..4 {
                rig.write(&format!("s/{n}"), "one");
            }
            run(&mut |runtime| assert_eq!(runtime.block_on(rig.saver.commit(commit("s", 1))).unwrap(), 1));
            for n in 0..4 {
                rig.write(&format!("s/{n}"), &format!("two {round}"));
            }
            let mut is_over = false;
            run(&mut |runtime| {
                runtime.block_on(async {
                    let agent = rig.restarted();
                    let mut committing = Box::pin(agent.saver.commit_here(commit("s", 2)));
                    let mut polls = 0;
                    std::future::poll_fn(|context| {
                        if polls == cut {
                            return Poll::Ready(());
                        }
                        polls += 1;
                        committing.as_mut().poll(context).map(|done| {
                            done.unwrap();
                            is_over = true;
                        })
                    })
                    .await;
                });
            });
            // What is in the log can be resumed from, whatever is in the store.
            run(&mut |runtime| {
                runtime.block_on(async {
                    let (step, files) = rig.resume().await.unwrap();
                    assert!(step == 2 || !is_over);
                    assert_eq!(files["3"], if step == 2 { format!("two {round}") } else { "one".into() });
                    let agent = rig.restarted();
                    assert_eq!(agent.saver.commit(commit("s", 2)).await.unwrap(), 2, "cut at {cut}");
                    let (step, files) = agent.resume().await.unwrap();
                    assert_eq!((step, files.len()), (2, 5));
                    assert_eq!(files["0"], format!("two {round}"));
                    agent.saver.commit(commit("s/frozen", 3)).await.unwrap();
                    agent.saver.commit(commit("s/frozen", 4)).await.unwrap();
                    until("the collection", || agent.objects().len() == 3).await;
                });
            });
            if is_over {
                break;
            }
            cut += 1;
        }
        // How many moments there are depends on how the threads that read files are scheduled.
        assert!(cut > 3, "{cut}");
    }
}

#[tokio::test]
async fn any_flipped_byte_and_any_lost_object_is_a_bad_checkpoint() {
    let rig = Rig::new();
    rig.write("s/a", "0123456789");
    rig.write("s/b", "");
    rig.write("s/c", "another file");
    rig.saver.commit(commit("s", 10)).await.unwrap();
    let is_bad = async |what: String| match rig.resume().await {
        Err(Outcome::BadCheckpoint { step: 10, .. }) => {}
        other => panic!("{what}: {other:?}"),
    };
    for object in rig.objects() {
        let bytes = fs::read(&object).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&object, bad).unwrap();
            is_bad(format!("byte {at} of {}", object.display())).await;
        }
        fs::write(&object, [&bytes[..], b"x"].concat()).unwrap();
        is_bad("a byte too many".into()).await;
        if let Some((_, less)) = bytes.split_last() {
            fs::write(&object, less).unwrap();
            is_bad("a byte too few".into()).await;
        }
        fs::remove_file(&object).unwrap();
        is_bad(format!("{} is gone", object.display())).await;
        fs::write(&object, bytes).unwrap();
    }
    assert_eq!(rig.resume().await.unwrap().1.len(), 3);
    // One that was committed as something else.
    let newest = rig.log.lock().kept[0].clone();
    let to = rig.top.path().join("resume");
    let of = Of { at: at(), token: newest.token, rank: 0, step: 10 };
    let other = IndexRef { index: 4, ..at() };
    for of in
        [Of { at: other, ..of }, Of { token: Token(18), ..of }, Of { rank: 1, ..of }, Of { step: 11, ..of }]
    {
        let key = rig.top.path().join("store").join(of.manifest_key());
        fs::create_dir_all(key.parent().unwrap()).unwrap();
        fs::copy(rig.objects().into_iter().find(|o| o.ends_with("17/10/rank-0.json")).unwrap(), &key)
            .unwrap();
        let fetched = fetch_within(Duration::ZERO, &rig.store, of, &newest.parts[0], &to).await;
        assert!(
            matches!(&fetched, Err(Outcome::BadCheckpoint { reason, .. }) if reason.contains("is of")),
            "{fetched:?}"
        );
        fs::remove_file(key).unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_down_holds_the_commit_up_and_nothing_else() {
    let rig = Rig::new();
    rig.write("s/a", "one");
    rig.saver.commit(commit("s", 1)).await.unwrap();
    let (there, away) = (rig.top.path().join("store"), rig.top.path().join("away"));
    fs::rename(&there, &away).unwrap();
    fs::write(&there, "no directory").unwrap();
    let soon = rig.saver.commit(Commit { timeout: Some(1), ..commit("s", 2) }).await.unwrap_err();
    assert_eq!(soon.code(), "TIMEOUT");
    assert!(soon.to_string().starts_with("not committed in 1 s: the checkpoint was not stored"), "{soon}");
    let resumed = rig.resume().await;
    assert!(
        matches!(&resumed, Err(Outcome::Launch(why)) if why.starts_with("the store cannot be reached")),
        "{resumed:?}"
    );
    let saver = rig.saver.clone();
    let waiting = tokio::spawn(async move { saver.commit(commit("s", 3)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    fs::remove_file(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 3);
    assert_eq!(rig.resume().await.unwrap().0, 3);
}

#[tokio::test]
async fn the_end_waits_for_what_is_under_way_and_for_a_directory_that_is_whole() {
    let rig = Rig::new();
    rig.write("checkpoint-500/a", "one");
    rig.saver.watch();
    // It has not settled, and the task was killed: nobody knows whether it is whole.
    assert!(rig.saver.is_busy());
    rig.saver.finish(false, Duration::from_secs(60)).await;
    assert!(rig.log.lock().kept.is_empty() && !rig.saver.is_busy());

    let rig = Rig::new();
    rig.saver.watch();
    rig.write("checkpoint-500/a", "one");
    rig.write("checkpoint-60/a", "old");
    rig.saver.finish(true, Duration::from_secs(60)).await;
    assert_eq!(rig.resume().await.unwrap(), (500, BTreeMap::from([("a".into(), "one".into())])));

    let rig = Rig::new();
    rig.write("s/a", "one");
    rig.log.lock().is_silent = true;
    let saver = rig.saver.clone();
    let asked = tokio::spawn(async move { saver.commit(commit("s", 7)).await });
    until("the commit at the log", || !rig.log.lock().told.is_empty()).await;
    assert!(rig.saver.is_busy());
    let kept = rig.log.lock().kept.clone();
    let answer = async { rig.saver.answer(7, Verdict::Committed { kept }) };
    // The end is waiting when the answer comes.
    tokio::join!(biased; rig.saver.finish(false, Duration::from_secs(60)), answer);
    assert_eq!((asked.await.unwrap().unwrap(), rig.log.lock().kept.len()), (7, 1));
}

#[tokio::test]
async fn tasks_ask_over_a_socket_and_whatever_they_say_is_answered() {
    let rig = Rig::new();
    rig.write("s/a", "one");
    let listener = socket::listen(rig.savers.socket()).unwrap();
    tokio::spawn(socket::serve(listener, rig.savers.clone()));
    let ask = async |lines: &[u8]| {
        let mut stream = tokio::net::UnixStream::connect(rig.savers.socket()).await.unwrap();
        // The other side may have had enough before the end.
        let _ = stream.write_all(lines).await;
        let _ = stream.shutdown().await;
        let mut answers = Vec::new();
        let mut read = BufReader::new(stream).lines();
        while let Ok(Some(line)) = read.next_line().await {
            answers.push(serde_json::from_str::<Answer>(&line).unwrap());
        }
        answers
    };
    let request =
        |token, path: &str, step| serde_json::to_vec(&Request { token, commit: commit(path, step) }).unwrap();
    let codes = |answers: Vec<Answer>| {
        let code = |answer| match answer {
            Answer::Done { step, .. } => format!("step {step}"),
            Answer::Failed { error } => error.code,
        };
        answers.into_iter().map(code).collect::<Vec<_>>()
    };
    let several = [request(17, "s", 1), request(17, "s", 1), request(17, "gone", 2), request(18, "s", 3)];
    assert_eq!(
        codes(ask(&[several.join(&b'\n'), b"\n".to_vec()].concat()).await),
        ["step 1", "step 1", "NOT_FOUND", "NO_ATTEMPT"]
    );
    for (line, answers) in [
        (&b""[..], vec![]),
        (b"\n\n", vec!["BAD_REQUEST", "BAD_REQUEST"]),
        (b"GET / HTTP/1.1\r\n", vec!["BAD_REQUEST"]),
        (b"\xff\x00\xfe\n", vec!["BAD_REQUEST"]),
        (b"{\"token\": 17", vec!["BAD_REQUEST"]),
    ] {
        assert_eq!(codes(ask(line).await), answers, "{line:?}");
    }
    let long = vec![b'x'; super::protocol::LINE_MAX + 2];
    let answers = ask(&long).await;
    assert!(answers.is_empty() || codes(answers) == ["BAD_REQUEST"]);
    assert_eq!(codes(ask(&[request(17, &"y".repeat(4_000), 4), b"\n".to_vec()].concat()).await).len(), 1);
}

#[test]
fn a_socket_has_a_place_however_deep_its_directory() {
    let top = tempfile::tempdir().unwrap();
    assert_eq!(socket::place(top.path()).unwrap(), top.path().join("tasks.sock"));
    let deep = top.path().join("x".repeat(120));
    let place = socket::place(&deep).unwrap();
    assert!(place.as_os_str().len() <= 107 && place.ends_with("tasks.sock"), "{place:?}");
    assert_eq!(socket::place(&deep).unwrap(), place, "the next agent finds it");
    fs::remove_dir(place.parent().unwrap()).unwrap();
}
