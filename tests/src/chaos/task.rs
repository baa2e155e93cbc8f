//! What every task runs: this program with the word `task`. It holds the kernel's locks while it lives, writes to the ledger, and ends as
//! it is told. It has to be cheap: it is started tens of thousands of times.

use super::ledger::{DONE, GATES, GPUS, LEDGER, LOCKS, Line, What};
use super::sys::now_ns;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first argument that makes this program a task.
pub const WORD: &str = "task";

/// Exit code of a task that fails as it was told.
pub const PLANNED: i32 = 7;
/// Exit code of a task that cannot do its work: no ledger, no environment.
pub const BROKEN: i32 = 70;

/// What a task is told, as words after [`WORD`]: `DIR MILLIS FAIL SHARERS PARENT:COUNT…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    pub dir: PathBuf,
    pub millis: u64,
    pub fail: Fail,
    /// How many tasks may have one GPU at a time: 1 for a whole GPU, 4 for a quarter of one.
    pub sharers: u32,
    /// Parents, and how many indices each has.
    pub parents: Vec<(String, u32)>,
}

/// When it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fail {
    Never,
    /// On the attempts with these numbers and below.
    Until(u32),
    /// As long as there is no gate of the job's name.
    UntilGate,
}

impl Orders {
    /// The command of a job file.
    #[must_use]
    pub fn words(&self, program: &Path) -> Vec<String> {
        let fail = match self.fail {
            Fail::Never => "never".to_owned(),
            Fail::Until(n) => n.to_string(),
            Fail::UntilGate => "gate".to_owned(),
        };
        let mut words = vec![
            program.display().to_string(),
            WORD.to_owned(),
            self.dir.display().to_string(),
            self.millis.to_string(),
            fail,
            self.sharers.to_string(),
        ];
        words.extend(self.parents.iter().map(|(name, count)| format!("{name}:{count}")));
        words
    }

    /// Reads them back, without program and [`WORD`].
    #[must_use]
    pub fn parse(words: &[String]) -> Option<Self> {
        let [dir, millis, fail, sharers, parents @ ..] = words else { return None };
        let fail = match fail.as_str() {
            "never" => Fail::Never,
            "gate" => Fail::UntilGate,
            n => Fail::Until(n.parse().ok()?),
        };
        let parent = |word: &String| {
            let (name, count) = word.split_once(':')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let parents = parents.iter().map(parent).collect::<Option<_>>()?;
        let (dir, millis, sharers) = (PathBuf::from(dir), millis.parse().ok()?, sharers.parse().ok()?);
        Some(Self { dir, millis, fail, sharers, parents })
    }
}

/// Runs a task; returns its exit code.
#[must_use]
pub fn run(words: &[String]) -> i32 {
    let (Some(orders), Some(line)) = (Orders::parse(words), line_of_environment()) else { return BROKEN };
    match perform(&orders, &line) {
        Ok(code) => code,
        Err(_) => BROKEN,
    }
}

fn line_of_environment() -> Option<Line> {
    let var = |name: &str| std::env::var(name).ok();
    Some(Line {
        what: What::Start,
        job: var("MUSTER_JOB_ID")?.parse().ok()?,
        task: var("MUSTER_TASK")?,
        index: var("MUSTER_INDEX").and_then(|i| i.parse().ok()).unwrap_or(0),
        attempt: var("MUSTER_ATTEMPT")?.parse().ok()?,
        token: var("MUSTER_FENCING_TOKEN")?.parse().ok()?,
        at_ns: 0,
        worker: var("MUSTER_WORKER")?,
    })
}

fn perform(orders: &Orders, line: &Line) -> io::Result<i32> {
    let mut ledger = OpenOptions::new().append(true).open(orders.dir.join(LEDGER))?;
    let mut say =
        |what: What| ledger.write_all(Line { what, at_ns: now_ns(), ..line.clone() }.text().as_bytes());
    // Of a gang every rank holds locks, and the first one keeps the ledger for all.
    let rank: u32 = std::env::var("MUSTER_RANK").ok().and_then(|rank| rank.parse().ok()).unwrap_or(0);
    let unit = format!("{}.{}.{}", line.job, line.task, line.index);
    let own = if rank == 0 { unit.clone() } else { format!("{unit}.{rank}") };
    // 1. The locks, held to the end of this process.
    let gpus = std::env::var("MUSTER_GPU_UUIDS").unwrap_or_default();
    let gpus: Vec<PathBuf> = gpus
        .split(',')
        .filter(|uuid| !uuid.is_empty())
        .map(|uuid| orders.dir.join(GPUS).join(uuid))
        .collect();
    let mut held = Vec::new();
    let mut taken = vec![lock(&orders.dir.join(LOCKS).join(own), line)?];
    for path in &gpus {
        if orders.sharers == 1 {
            taken.push(lock(path, line)?);
        } else {
            taken.extend(share(path, orders.sharers, line)?);
        }
    }
    for lock in taken {
        match lock {
            Ok(lock) => held.push(lock),
            Err(Other { lock, by_token, by_worker }) => say(What::Held { lock, by_token, by_worker })?,
        }
    }
    // What is told to CUDA is what Muster says, device for device.
    let said = |name: &str| std::env::var(name).unwrap_or_default();
    if let Ok(count) = std::env::var("MUSTER_GPU_COUNT")
        && (count != gpus.len().to_string() || said("CUDA_VISIBLE_DEVICES") != said("MUSTER_GPU_UUIDS"))
    {
        return Ok(BROKEN);
    }
    if rank > 0 {
        std::thread::sleep(Duration::from_millis(orders.millis));
        return Ok(0);
    }
    say(What::Start)?;
    // 2. What must have succeeded before.
    for (parent, count) in &orders.parents {
        for index in 0..*count {
            if !orders.dir.join(DONE).join(format!("{}.{parent}.{index}", line.job)).exists() {
                say(What::Early { parent: format!("{parent}[{index}]") })?;
            }
        }
    }
    // 3. The work.
    std::thread::sleep(Duration::from_millis(orders.millis));
    let fails = match orders.fail {
        Fail::Never => false,
        Fail::Until(attempt) => line.attempt <= attempt,
        Fail::UntilGate => !orders.dir.join(GATES).join(line.job.to_string()).exists(),
    };
    if fails {
        say(What::End { code: PLANNED })?;
        return Ok(PLANNED);
    }
    File::create(orders.dir.join(DONE).join(&unit))?;
    say(What::End { code: 0 })?;
    drop(held);
    Ok(0)
}

/// Who has what should be this task's.
struct Other {
    lock: String,
    by_token: u64,
    by_worker: String,
}

type Taken = Result<Flock<File>, Other>;

/// Takes a lock and writes into the file who has it, or reads there who has.
fn lock(path: &Path, line: &Line) -> io::Result<Taken> {
    match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut held) => {
            held.set_len(0)?;
            io::Seek::rewind(&mut *held)?;
            held.write_all(format!("{} {}", line.token, line.worker).as_bytes())?;
            Ok(Ok(held))
        }
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => Ok(Err(other(file, path)?)),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// One of the `sharers` places on a GPU that nobody has as a whole.
fn share(path: &Path, sharers: u32, line: &Line) -> io::Result<Vec<Taken>> {
    let whole = match Flock::lock(open(path)?, FlockArg::LockSharedNonblock) {
        Ok(held) => Ok(held),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => Err(other(file, path)?),
        Err((_, errno)) => return Err(errno.into()),
    };
    let mut last = None;
    for place in 0..sharers {
        match lock(&path.with_extension(format!("{place}-of-{sharers}")), line)? {
            Ok(held) => return Ok(vec![whole, Ok(held)]),
            Err(other) => last = Some(other),
        }
    }
    Ok([whole].into_iter().chain(last.map(Err)).collect())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn other(mut file: File, path: &Path) -> io::Result<Other> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let (token, worker) = text.split_once(' ').unwrap_or(("0", "unknown"));
    let lock = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Ok(Other { lock, by_token: token.parse().unwrap_or(0), by_worker: worker.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(dir: &Path, fail: Fail) -> Orders {
        Orders { dir: dir.to_owned(), millis: 0, fail, sharers: 1, parents: vec![("a".into(), 1)] }
    }

    fn line(token: u64) -> Line {
        Line {
            what: What::Start,
            job: 1,
            task: "t".into(),
            index: 0,
            attempt: 1,
            token,
            at_ns: 0,
            worker: "w1".into(),
        }
    }

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for sub in [LOCKS, GPUS, DONE, GATES] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        std::fs::write(dir.path().join(LEDGER), "").unwrap();
        dir
    }

    fn said(dir: &Path) -> Vec<What> {
        super::super::ledger::read(&dir.join(LEDGER)).unwrap().into_iter().map(|l| l.what).collect()
    }

    #[test]
    fn orders_survive_the_job_file() {
        for fail in [Fail::Never, Fail::Until(2), Fail::UntilGate] {
            let orders = orders(Path::new("/x"), fail);
            assert_eq!(Orders::parse(&orders.words(Path::new("p"))[2..]), Some(orders));
        }
    }

    #[test]
    fn a_parent_that_was_not_done_is_told() {
        let dir = dir();
        assert_eq!(perform(&orders(dir.path(), Fail::Never), &line(5)).unwrap(), 0);
        let early = What::Early { parent: "a[0]".into() };
        assert_eq!(said(dir.path()), [What::Start, early, What::End { code: 0 }]);
        assert!(dir.path().join(DONE).join("1.t.0").exists());
    }

    #[test]
    fn a_lock_that_another_holds_is_told_with_its_holder() {
        let dir = dir();
        std::fs::write(dir.path().join(DONE).join("1.a.0"), "").unwrap();
        let _held = lock(&dir.path().join(LOCKS).join("1.t.0"), &line(3)).unwrap().ok().unwrap();
        assert_eq!(perform(&orders(dir.path(), Fail::Until(1)), &line(5)).unwrap(), PLANNED);
        let held = What::Held { lock: "1.t.0".into(), by_token: 3, by_worker: "w1".into() };
        assert_eq!(said(dir.path()), [held, What::Start, What::End { code: PLANNED }]);
    }

    #[test]
    fn a_gpu_is_shared_by_as_many_as_it_may_and_never_with_one_who_has_it_whole() {
        let dir = dir();
        let gpu = dir.path().join(GPUS).join("GPU-1");
        let ok = |taken: &[Taken]| taken.iter().all(Result::is_ok);
        let first = share(&gpu, 2, &line(1)).unwrap();
        let second = share(&gpu, 2, &line(2)).unwrap();
        assert!(ok(&first) && ok(&second));
        assert!(!ok(&share(&gpu, 2, &line(3)).unwrap()));
        assert!(lock(&gpu, &line(4)).unwrap().is_err());
        drop((first, second));
        let whole = lock(&gpu, &line(5)).unwrap();
        assert!(whole.is_ok() && !ok(&share(&gpu, 2, &line(6)).unwrap()));
    }
}
