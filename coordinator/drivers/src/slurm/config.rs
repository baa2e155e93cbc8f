//! `driver = { kind = "slurm", … }`, and what can be checked of it before the first call.

use muster_core::model::duration::Millis;
use serde::Deserialize;
use std::path::PathBuf;

/// Slurm's own bound of a signal's lead, seconds: 16 bits.
const NOTICE_MAX: Millis = Millis::from_secs(65_535);
/// Most bytes of a job's name.
const NAME_MAX: usize = 128;
/// Options of `sbatch` that would make one job many, none, or another program than ours.
const REFUSED: [&str; 6] = ["--array", "--wrap", "--test-only", "--wait", "--clusters", "--help"];
/// The same in short; these take their value in the same word.
const REFUSED_SHORT: [&str; 4] = ["-a", "-W", "-M", "-h"];

/// How workers become jobs. The coordinators submit as the user that they run as.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlurmConfig {
    /// Default: the cluster's.
    pub partition: String,
    /// Default: the user's.
    pub account: String,
    /// Default: the account's.
    pub qos: String,
    /// The walltime, rounded up to whole minutes. Slurm ends the job then; `notice` before that the worker gets SIGTERM. A worker whose
    /// `notice.sources` have `sigterm` evicts its tasks at once, so that they save and go on elsewhere; without it the work since their
    /// last checkpoint is lost. Default: the partition's.
    pub time: Option<Millis>,
    /// How long before the walltime's end SIGTERM comes (`--signal=B:TERM@60`); Slurm may send it up to a minute earlier. Default: 60s.
    pub notice: Millis,
    /// Further options of sbatch, a word each: `--gres=gpu:8`, `--exclusive`, `--output=/var/log/muster/%j.log`.
    pub args: Vec<String>,
    /// `muster` as the nodes have it: a whole path, or a name that the job's `PATH` has. Default: `muster`.
    pub muster: String,
    /// Arguments of `muster worker`: `--config FILE` at least. `--name POOL-JOB`, `--pool` and
    /// `--label instance_id=JOB` are added; `%j` in a word is the job's number. Either this or `command`.
    pub worker: Vec<String>,
    /// The whole command instead: it has to start a worker of the pool (`$MUSTER_POOL`) with the label `instance_id=$SLURM_JOB_ID`, and
    /// become it (`exec`), so that signals reach it. `%j` in a word is the job's number.
    pub command: Vec<String>,
    /// The jobs' name, by which they are found again: another one for each Muster cluster that submits as the same user. Default:
    /// `muster-POOL`.
    pub job_name: String,
    /// Slurm's configuration. Default: `SLURM_CONF` of the coordinator's environment, else Slurm's own default.
    pub slurm_conf: Option<PathBuf>,
    /// Slurm's programs: whole paths, or names that are looked for in `PATH`.
    pub sbatch: PathBuf,
    pub squeue: PathBuf,
    pub scancel: PathBuf,
}

impl Default for SlurmConfig {
    fn default() -> Self {
        Self {
            partition: String::new(),
            account: String::new(),
            qos: String::new(),
            time: None,
            notice: Millis::from_secs(60),
            args: Vec::new(),
            muster: "muster".to_owned(),
            worker: Vec::new(),
            command: Vec::new(),
            job_name: String::new(),
            slurm_conf: None,
            sbatch: "sbatch".into(),
            squeue: "squeue".into(),
            scancel: "scancel".into(),
        }
    }
}

/// What makes no job.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("give either worker (arguments of `muster worker`) or command")]
    Program,
    #[error("time is 0: a job without time ends at once")]
    Time,
    #[error("notice is {0}; Slurm takes at most 65535s")]
    Notice(Millis),
    #[error("{0:?} in args does not begin with `-`: write `--option=value` as one word")]
    Word(String),
    #[error("{0:?} in args is refused: one call of sbatch is to be one job")]
    Option(String),
    #[error("{0:?} is no name of a job: write 1 to {NAME_MAX} of `A-Z a-z 0-9 . _ -`")]
    Name(String),
    #[error("{0} has a zero byte in it")]
    Control(&'static str),
    #[error("slurm_conf {0:?} is a relative path: coordinators start anywhere, so write the whole path")]
    Relative(PathBuf),
    #[error("slurm_conf {0:?} is not there")]
    NoConf(PathBuf),
}

impl SlurmConfig {
    pub(super) fn job_name(&self, pool: &str) -> String {
        if self.job_name.is_empty() { format!("muster-{pool}") } else { self.job_name.clone() }
    }

    /// Pools with the same name of jobs would count each other's.
    pub(crate) fn group_key(&self) -> Option<String> {
        (!self.job_name.is_empty()).then(|| format!("slurm/{}", self.job_name))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.worker.is_empty() == self.command.is_empty() {
            return Err(ConfigError::Program);
        }
        if self.time == Some(Millis(0)) {
            return Err(ConfigError::Time);
        }
        if self.notice > NOTICE_MAX {
            return Err(ConfigError::Notice(self.notice));
        }
        if !self.job_name.is_empty() && !is_name(&self.job_name) {
            return Err(ConfigError::Name(self.job_name.clone()));
        }
        let lists = [("args", &self.args), ("worker", &self.worker), ("command", &self.command)];
        for (what, words) in lists {
            if words.iter().any(|word| word.contains('\0')) {
                return Err(ConfigError::Control(what));
            }
        }
        for (what, word) in [
            ("muster", &self.muster),
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
        ] {
            if word.contains('\0') {
                return Err(ConfigError::Control(what));
            }
        }
        for word in &self.args {
            // A word of its own would be taken for the script.
            if !word.starts_with('-') || word.trim_start_matches('-').is_empty() {
                return Err(ConfigError::Word(word.clone()));
            }
            let name = word.split('=').next().unwrap_or(word);
            // getopt takes the beginning of a name for the whole.
            let long = name.len() > 3 && REFUSED.iter().any(|refused| refused.starts_with(name));
            if long || REFUSED_SHORT.iter().any(|refused| word.starts_with(refused)) {
                return Err(ConfigError::Option(word.clone()));
            }
        }
        match &self.slurm_conf {
            Some(path) if !path.is_absolute() => Err(ConfigError::Relative(path.clone())),
            Some(path) if !path.is_file() => Err(ConfigError::NoConf(path.clone())),
            _ => Ok(()),
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('-') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_job_is_refused() {
        let good = SlurmConfig { command: vec!["/bin/true".to_owned()], ..SlurmConfig::default() };
        assert_eq!(good.check(), Ok(()));
        let args = |word: &str| SlurmConfig { args: vec![word.to_owned()], ..good.clone() };
        for word in ["--gres=gpu:8", "--exclusive", "-Ca100", "--account=x", "--chdir=/scratch"] {
            assert_eq!(args(word).check(), Ok(()), "{word}");
        }
        for word in ["--array=0-9", "--arr=0-9", "-a0-9", "--wrap=true", "--wait", "-W", "-Mother"] {
            assert_eq!(args(word).check(), Err(ConfigError::Option(word.to_owned())));
        }
        for word in ["gpu", "", "--", "-"] {
            assert_eq!(args(word).check(), Err(ConfigError::Word(word.to_owned())));
        }
        let both = SlurmConfig { worker: vec!["--config".to_owned()], ..good.clone() };
        assert_eq!(both.check(), Err(ConfigError::Program));
        assert_eq!(SlurmConfig::default().check(), Err(ConfigError::Program));
        let name = SlurmConfig { job_name: "a,b".to_owned(), ..good.clone() };
        assert_eq!(name.check(), Err(ConfigError::Name("a,b".to_owned())));
        let conf = SlurmConfig { slurm_conf: Some("slurm.conf".into()), ..good.clone() };
        assert_eq!(conf.check(), Err(ConfigError::Relative("slurm.conf".into())));
        let zero = SlurmConfig { worker: vec!["a\0b".to_owned()], ..SlurmConfig::default() };
        assert_eq!(zero.check(), Err(ConfigError::Control("worker")));
    }
}
