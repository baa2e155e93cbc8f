//! What Slurm's programs say when they fail: they all exit with 1, so only the words tell who may do what about it.
//! Source: `src/common/slurm_errno.c` of Slurm 22.05 and 24.11.

use crate::DriverError;
use crate::process::{Ended, line};

/// The controller, or the way to it: another try may do.
const TRANSIENT: [&str; 10] = [
    "Unable to contact slurm controller",
    "Controller is in standby mode",
    "Slurm backup controller",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection timed out",
    "temporarily unable",
    "temporarily unavailable",
    "Failed to connect to authentication agent",
];
/// Who we are.
const DENIED: [&str; 9] = [
    "Access/permission denied",
    "Invalid account",
    "Invalid qos",
    "Invalid user",
    "User's group not permitted",
    "Authentication credential",
    "Invalid authentication credential",
    "Protocol authentication error",
    "Plugin access denied",
];
/// The partition.
const NO_GROUP: [&str; 2] = ["Invalid partition name", "invalid partition specified"];
/// The job ended before it was cancelled.
const OVER: [&str; 2] = ["Invalid job id specified", "Job/step already completing or completed"];
/// Most lines of stderr that are told: the cause comes first, and what it led to last.
const LINES_MAX: usize = 3;

/// The error for a program that ended badly.
pub fn refusal(what: String, ended: &Ended) -> DriverError {
    let has = |words: &[&str]| words.iter().any(|word| ended.stderr.contains(word));
    let reason = reason(ended);
    if has(&TRANSIENT) {
        DriverError::Unavailable { what, reason }
    } else if has(&DENIED) {
        DriverError::Denied { what, reason }
    } else if has(&NO_GROUP) {
        DriverError::NoGroup { what }
    } else {
        DriverError::Refused { what, reason }
    }
}

/// Whether a cancel was refused because there is nothing left to cancel.
pub fn is_over(reason: &str) -> bool {
    OVER.iter().any(|word| reason.contains(word))
}

fn reason(ended: &Ended) -> String {
    let lines: Vec<&str> = ended
        .stderr
        .lines()
        .map(|line| line.split_once("error: ").map_or(line, |(_, said)| said).trim())
        .filter(|line| !line.is_empty())
        .take(LINES_MAX)
        .collect();
    if lines.is_empty() { ended.reason() } else { line(&lines.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn refused(stderr: &str) -> DriverError {
        let ended =
            Ended { status: ExitStatus::from_raw(1 << 8), stdout: Vec::new(), stderr: stderr.to_owned() };
        refusal("it".to_owned(), &ended)
    }

    #[test]
    fn words_tell_who_may_help() {
        let what = || "it".to_owned();
        let limit = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n";
        for (stderr, expected) in [
            (
                "squeue: error: slurm_load_jobs: Unable to contact slurm controller (connect failure)\n",
                DriverError::Unavailable {
                    what: what(),
                    reason: "slurm_load_jobs: Unable to contact slurm controller (connect failure)".into(),
                },
            ),
            (
                "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
                DriverError::Denied {
                    what: what(),
                    reason: "Batch job submission failed: Invalid account or account/partition combination specified".into(),
                },
            ),
            (
                "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
                DriverError::NoGroup { what: what() },
            ),
            (
                limit,
                DriverError::Refused {
                    what: what(),
                    reason: "QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)".into(),
                },
            ),
            ("", DriverError::Refused { what: what(), reason: "exit code 1, and nothing on stderr".into() }),
        ] {
            assert_eq!(refused(stderr), expected, "{stderr}");
        }
    }
}
