//! The jobs that `squeue` lists, and which of them are too many.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// Number, state and comment of a job; the comment comes last because it may hold anything.
pub const FORMAT: &str = "%A|%T|%k";

/// One job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub id: u64,
    pub state: JobState,
    /// None: the comment is not ours any more; a site's rules may change it.
    pub tag: Option<Tag>,
}

/// Slurm's states, as far as they differ for us. Source: "JOB STATE CODES", squeue(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// In the queue.
    Waiting,
    /// It has its nodes, and these are being made ready.
    Starting,
    Running,
    /// Its processes are being ended, or have.
    Ending,
}

impl Job {
    /// Whether it is, or will be, a worker.
    pub fn counts(&self) -> bool {
        self.state != JobState::Ending
    }
}

/// Which job of which decision; the job's comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub generation: u64,
    pub number: u32,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "muster {}/{}", self.generation, self.number)
    }
}

impl Tag {
    fn parse(comment: &str) -> Option<Self> {
        let (generation, number) = comment.trim().strip_prefix("muster ")?.split_once('/')?;
        Some(Self { generation: generation.parse().ok()?, number: number.parse().ok()? })
    }
}

/// A line that is no job.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not NUMBER|STATE|COMMENT")]
pub struct NoJob(String);

/// Reads what `squeue` printed with [`FORMAT`]. Jobs that have ended are left out.
///
/// # Errors
/// [`NoJob`].
pub fn parse(text: &str) -> Result<Vec<Job>, NoJob> {
    text.lines().filter(|line| !line.trim().is_empty()).filter_map(|line| job(line).transpose()).collect()
}

fn job(line: &str) -> Result<Option<Job>, NoJob> {
    let none = || NoJob(crate::process::line(line));
    let mut fields = line.trim().splitn(3, '|');
    let id = fields.next().and_then(|id| id.parse().ok()).ok_or_else(none)?;
    let word = fields.next().ok_or_else(none)?;
    let comment = fields.next().ok_or_else(none)?;
    Ok(state(word).map(|state| Job { id, state, tag: Tag::parse(comment) }))
}

fn state(word: &str) -> Option<JobState> {
    match word {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => {
            Some(JobState::Waiting)
        }
        "CONFIGURING" | "POWER_UP_NODE" => Some(JobState::Starting),
        "COMPLETING" | "STAGE_OUT" => Some(JobState::Ending),
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "NODE_FAIL" | "OUT_OF_MEMORY"
        | "PREEMPTED" | "REVOKED" | "TIMEOUT" => None,
        // RUNNING, SUSPENDED, RESIZING, SIGNALING, STOPPED, and what a later Slurm calls a job that is still there.
        _ => Some(JobState::Running),
    }
}

/// Up to `count` of those that wait, the newest first.
pub fn newest_waiting(jobs: &[Job], count: usize) -> Vec<u64> {
    let mut waiting: Vec<u64> =
        jobs.iter().filter(|job| job.state == JobState::Waiting).map(|job| job.id).collect();
    waiting.sort_by_key(|id| Reverse(*id));
    waiting.truncate(count);
    waiting
}

/// Those that wait and stand for the same number of this decision as another job. What runs goes before what waits, then the older one:
/// whoever looks decides alike.
pub fn doubles(jobs: &[Job], generation: u64) -> Vec<u64> {
    let mut alike: BTreeMap<u32, Vec<&Job>> = BTreeMap::new();
    for job in jobs {
        if let Some(tag) = job.tag.filter(|tag| tag.generation == generation) {
            alike.entry(tag.number).or_default().push(job);
        }
    }
    let mut extra = Vec::new();
    for mut jobs in alike.into_values() {
        jobs.sort_by_key(|job| (job.state == JobState::Waiting, job.id));
        extra.extend(jobs.iter().skip(1).filter(|job| job.state == JobState::Waiting).map(|job| job.id));
    }
    extra
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64, state: JobState, generation: u64, number: u32) -> Job {
        Job { id, state, tag: Some(Tag { generation, number }) }
    }

    #[test]
    fn a_list_is_read() {
        let text = "7|PENDING|muster 12/1\n8|CONFIGURING|muster 12/2\n9|RUNNING|(null)\n10|COMPLETING|muster 9/1\n\
                    11|CANCELLED|muster 9/2\n12|SUSPENDED|a|b\n";
        let expected = vec![
            job(7, JobState::Waiting, 12, 1),
            job(8, JobState::Starting, 12, 2),
            Job { id: 9, state: JobState::Running, tag: None },
            job(10, JobState::Ending, 9, 1),
            Job { id: 12, state: JobState::Running, tag: None },
        ];
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(vec![]));
        assert!(parse("slurm_load_jobs error: nonsense").is_err());
    }

    #[test]
    fn a_comment_says_what_it_is_of() {
        let tag = Tag { generation: 12, number: 3 };
        assert_eq!(Tag::parse(&tag.to_string()), Some(tag));
        assert_eq!(Tag::parse("muster 12"), None);
    }

    #[test]
    fn the_newest_that_wait_go_first_and_nothing_that_runs() {
        use JobState::{Running, Waiting};
        let jobs = [job(1, Waiting, 1, 1), job(2, Running, 1, 2), job(3, Waiting, 2, 1)];
        assert_eq!(newest_waiting(&jobs, 1), [3]);
        assert_eq!(newest_waiting(&jobs, 9), [3, 1]);
        assert_eq!(newest_waiting(&jobs, 0), [0; 0]);
    }

    #[test]
    fn of_doubles_one_stays() {
        use JobState::{Running, Starting, Waiting};
        // Of number 1 the older one, of 2 the one that runs, of 3 both run: nothing is taken from them here.
        let jobs = [
            job(1, Waiting, 5, 1),
            job(2, Waiting, 5, 1),
            job(3, Waiting, 5, 2),
            job(4, Running, 5, 2),
            job(5, Running, 5, 3),
            job(6, Starting, 5, 3),
            job(7, Waiting, 4, 1),
        ];
        assert_eq!(doubles(&jobs, 5), [2, 3]);
        assert_eq!(doubles(&jobs, 6), [0; 0]);
    }
}
