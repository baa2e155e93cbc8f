//! What is given to `sbatch`: its options, and the script that the job runs.

use super::SlurmConfig;
use std::fmt::Write as _;

/// In words of `worker` and `command`: the job's number, as in Slurm's own file names.
const JOB: &str = "%j";

/// Options of every job, but for its comment. The last one of a name counts: the configuration's `args` change the first ones, and can't
/// change what the driver relies on.
pub fn args(config: &SlurmConfig, job_name: &str) -> Vec<String> {
    // A worker has logs of its own. Where we happen to run may not be there on the node, and then the job would fail.
    let mut args: Vec<String> =
        ["--output=/dev/null", "--chdir=/", "--nodes=1"].iter().map(|&word| word.to_owned()).collect();
    // The walltime's end comes as a notice: SIGTERM to the batch process, which is the worker, this long before.
    args.push(format!("--signal=B:TERM@{}", config.notice.0.div_ceil(1000)));
    args.extend(config.args.iter().cloned());
    for (option, value) in
        [("partition", &config.partition), ("account", &config.account), ("qos", &config.qos)]
    {
        if !value.is_empty() {
            args.push(format!("--{option}={value}"));
        }
    }
    if let Some(time) = config.time {
        args.push(format!("--time={}", time.0.div_ceil(60_000)));
    }
    args.push(format!("--job-name={job_name}"));
    // One number is one worker's life: a job that began again would come back under the number of one that is gone.
    args.push("--no-requeue".to_owned());
    // All of the clean environment that sbatch itself is given.
    args.push("--export=ALL".to_owned());
    args.push("--parsable".to_owned());
    args
}

/// The worker takes the shell's place, so that signals to the batch process are signals to the worker.
pub fn script(config: &SlurmConfig, pool: &str) -> String {
    let mut words = config.command.clone();
    if words.is_empty() {
        words = vec![config.muster.clone(), "worker".to_owned()];
        words.extend(config.worker.iter().cloned());
        let named = |word: &String| word == "--name" || word.starts_with("--name=");
        if !config.worker.iter().any(named) {
            words.extend(["--name".to_owned(), format!("{pool}-{JOB}")]);
        }
        words.extend(["--pool", pool, "--label"].map(str::to_owned));
        words.push(format!("instance_id={JOB}"));
    }
    let mut script = "#!/bin/sh\nexec".to_owned();
    for word in &words {
        let _ = write!(script, " {}", quoted(word));
    }
    script.push('\n');
    script
}

/// For a shell, which may replace nothing in it but the job's number.
fn quoted(word: &str) -> String {
    let word = word.replace('\'', r"'\''").replace(JOB, r#"'"$SLURM_JOB_ID"'"#);
    format!("'{word}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::duration::Millis;

    #[test]
    fn a_worker_says_its_job() {
        let config = SlurmConfig {
            worker: ["--config", "/etc/muster/it's.toml"].map(str::to_owned).to_vec(),
            ..SlurmConfig::default()
        };
        let expected = r#"#!/bin/sh
exec 'muster' 'worker' '--config' '/etc/muster/it'\''s.toml' '--name' 'spot-'"$SLURM_JOB_ID"'' '--pool' 'spot' '--label' 'instance_id='"$SLURM_JOB_ID"''
"#;
        assert_eq!(script(&config, "spot"), expected);
    }

    #[test]
    fn a_command_is_run_as_it_stands() {
        let config = SlurmConfig {
            command: ["/bin/echo", "$HOME", "a b", "%j"].map(str::to_owned).to_vec(),
            ..SlurmConfig::default()
        };
        let expected = "#!/bin/sh\nexec '/bin/echo' '$HOME' 'a b' ''\"$SLURM_JOB_ID\"''\n";
        assert_eq!(script(&config, "spot"), expected);
    }

    #[test]
    fn what_the_driver_relies_on_comes_last() {
        let config = SlurmConfig {
            partition: "gpu".to_owned(),
            time: Some(Millis::from_secs(3601)),
            args: vec!["--job-name=other".to_owned(), "--chdir=/scratch".to_owned()],
            ..SlurmConfig::default()
        };
        let expected = [
            "--output=/dev/null",
            "--chdir=/",
            "--nodes=1",
            "--signal=B:TERM@60",
            "--job-name=other",
            "--chdir=/scratch",
            "--partition=gpu",
            "--time=61",
            "--job-name=muster-spot",
            "--no-requeue",
            "--export=ALL",
            "--parsable",
        ];
        assert_eq!(args(&config, "muster-spot"), expected);
    }
}
