//! Committed progress, with real processes: what is refused, what survives a store that is down, a worker that hangs, bytes that are gone.

use muster_tests::{Cluster, Puppet, until};
use nix::sys::signal::{Signal, kill};
use std::process::Stdio;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// State and cause of one of them.
fn end(ends: &[(String, String)], at: usize) -> (&str, &str) {
    (ends[at].0.as_str(), ends[at].1.as_str())
}

#[test]
fn what_must_not_be_committed_is_refused_in_words() {
    let cluster = Cluster::start(1, 1, &["--cpus", "2"]);
    let puppet = Puppet::submit(&cluster, "refused", "");
    puppet.commits(1, 5);
    for prepare in [
        "(CHECKPOINTS / 'leads-out').mkdir()",
        "os.symlink('/etc/passwd', CHECKPOINTS / 'leads-out/link')",
        "os.symlink('/etc', CHECKPOINTS / 'etc')",
        "(CHECKPOINTS / 'pipe').mkdir()",
        "os.mkfifo(CHECKPOINTS / 'pipe/fifo')",
        "(CHECKPOINTS / 'growing').mkdir()",
        // Something in it changes all the time.
        "(CHECKPOINTS / 'growing/data').write_bytes(bytes(1 << 26))",
        "background.append(subprocess.Popen(['sh', '-c', 'while echo x >> growing/data; do :; done'], cwd=CHECKPOINTS))",
    ] {
        assert_eq!(puppet.ask(1, prepare).find("Error"), None, "{prepare}");
    }
    for (what, expression, says) in [
        ("a path elsewhere", "commit('/etc', 6)", "not inside the checkpoint directory"),
        (
            "the output directory",
            "commit(os.environ['MUSTER_OUTPUT_DIR'], 6)",
            "not inside the checkpoint directory",
        ),
        ("upwards", "commit(CHECKPOINTS / '..', 6)", "not inside the checkpoint directory"),
        ("a link out as the path", "commit(CHECKPOINTS / 'etc', 6)", "not inside the checkpoint directory"),
        ("a link out in it", "commit(CHECKPOINTS / 'leads-out', 6)", "leads out"),
        ("a pipe", "commit(CHECKPOINTS / 'pipe', 6)", "neither a file"),
        ("nothing", "commit(CHECKPOINTS / 'gone', 6)", "does not exist"),
        ("what changes", "commit(CHECKPOINTS / 'growing', 6)", "changed while it was read"),
        ("a step back", "commit(save(4), 4)", "not after step 5"),
        ("the same step with other bytes", "commit(save(50), 5)", "step 5"),
    ] {
        let answer = puppet.ask(1, expression);
        assert!(answer.starts_with("1 error: ") && answer.contains(says), "{what}: {answer}");
        assert!(answer.contains("hint: ") || what == "nothing", "{what}: {answer}");
    }
    assert_eq!(puppet.ask(1, "background[-1].kill()"), "None");
    assert!(puppet.ask(1, "commit(CHECKPOINTS, -1)").starts_with("2 "), "a negative step is no step");
    assert!(
        puppet.ask(1, "commit(CHECKPOINTS / 'step-5', 5)").starts_with("0 "),
        "the same again is no error"
    );
    let outside =
        "subprocess.run(command(CHECKPOINTS / 'step-5', 6), env={'PATH': os.environ['PATH']}).returncode";
    assert_eq!(puppet.ask(1, outside), "3", "without a task's socket there is nobody to talk to");
    assert_eq!(puppet.steps(), [5]);
    puppet.commits(1, 6);
    assert_eq!(puppet.steps(), [5, 6]);
    puppet.exit(1, 0);
    assert_eq!(puppet.ends().0["state"], "succeeded");
}

#[test]
fn exit_85_is_no_failure_after_a_new_checkpoint_and_one_without() {
    let cluster = Cluster::start(1, 1, &["--cpus", "2"]);
    // One attempt is all that its own failures may use.
    let puppet = Puppet::submit(&cluster, "again", "retry: {attempts: 1}");
    for (attempt, step) in [(1, 10), (2, 20), (3, 30)] {
        puppet.commits(attempt, step);
        puppet.exit(attempt, 85);
        let env = puppet.started(attempt + 1, 0);
        assert_eq!(env["MUSTER_RESUME_STEP"], step.to_string());
        assert_eq!(puppet.ask(attempt + 1, "resumed()"), step.to_string());
    }
    puppet.exit(4, 85);
    let (doc, ends) = puppet.ends();
    assert_eq!(doc["state"], "failed");
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert_eq!((end(&ends, 0), end(&ends, 3)), (("evicted", "exit(85)"), ("failed", "exit(85)")));
    assert_eq!(cluster.cli.run(&["wait", &puppet.job.to_string()]).code, Some(85));
}

#[test]
fn a_store_that_is_down_stops_no_training() {
    let cluster = Cluster::start(1, 1, &["--cpus", "2"]);
    let puppet = Puppet::submit(&cluster, "down", "");
    puppet.commits(1, 1);
    // Root may write anywhere: only a store that is no directory is one that takes nothing.
    let (store, away) = (cluster.dir.path().join("store"), cluster.dir.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "").unwrap();
    let refused = puppet.ask(1, "commit(save(2), 2, '--timeout', '2s')");
    assert!(refused.starts_with("1 error: ") && refused.contains("hint: "), "{refused}");
    assert_eq!(puppet.ask(1, "begin(save(3), 3)"), "begun");
    assert_eq!((puppet.ask(1, "6 * 7").as_str(), puppet.ask(1, "ended()").as_str()), ("42", "None"));
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    until("the commit", SOON, || match puppet.ask(1, "ended()").as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned() + &cluster.logs()),
    });
    // The upload of step 2 may have ended well after all.
    let steps = puppet.steps();
    assert!(steps.first() == Some(&1) && steps.last() == Some(&3), "{steps:?}");
    puppet.exit(1, 0);
    assert_eq!(puppet.ends().0["state"], "succeeded");
}

#[test]
fn bytes_that_are_gone_from_the_store_make_an_older_checkpoint_count_and_it_is_said() {
    let cluster = Cluster::start(1, 1, &["--cpus", "2"]);
    let puppet = Puppet::submit(&cluster, "gone", "");
    let token = puppet.started(1, 0)["MUSTER_FENCING_TOKEN"].clone();
    puppet.commits(1, 1);
    puppet.commits(1, 2);
    std::fs::remove_file(puppet.stored().join(&token).join("2/rank-0.json")).unwrap();
    puppet.exit(1, 85);
    let env = puppet.started(3, 0);
    assert_eq!((env["MUSTER_RESUME_STEP"].as_str(), puppet.ask(3, "resumed()").as_str()), ("1", "1"));
    assert_eq!(puppet.steps(), [1]);

    // One byte of another one, and all of the rest.
    puppet.commits(3, 3);
    let token = env["MUSTER_FENCING_TOKEN"].clone();
    let spoiled = puppet.ask(
        3,
        &format!(
            "[p.write_bytes(p.read_bytes()[:-1] + b'x') for p in pathlib.Path('{}').rglob('*') if p.is_file() and not p.name.endswith('.json')]",
            puppet.stored().join(token).join("3").display()
        ),
    );
    assert!(spoiled.starts_with('[') && spoiled.len() > 2, "nothing of step 3 was found: {spoiled}");
    for entry in std::fs::read_dir(puppet.stored()).unwrap().flatten() {
        let one = entry.path().join("1");
        if one.exists() {
            std::fs::remove_dir_all(one).unwrap();
        }
    }
    puppet.exit(3, 85);
    let env = puppet.started(6, 0);
    assert_eq!((env["MUSTER_RESUME_FROM"].as_str(), env["MUSTER_RESUME_STEP"].as_str()), ("", ""));
    assert_eq!(puppet.steps(), Vec::<u64>::new());
    puppet.commits(6, 1);
    puppet.exit(6, 0);
    let (doc, ends) = puppet.ends();
    assert_eq!(doc["state"], "succeeded", "{doc:#}");
    for (at, step) in [(1, 2), (3, 3), (4, 1)] {
        let (_, cause) = end(&ends, at);
        assert!(cause.starts_with(&format!("launch(checkpoint of step {step}")), "{ends:?}");
    }
    assert_eq!(puppet.steps(), [1]);
}

#[test]
fn a_zombies_commit_is_refused() {
    let cluster = Cluster::start(1, 2, &["--cpus", "2"]);
    let puppet = Puppet::submit(&cluster, "zombie", "");
    let env = puppet.started(1, 0);
    puppet.commits(1, 1);
    assert!(puppet.ask(1, "save(1000)").ends_with("step-1000"));
    // The agent hangs; the one who commits is not among the processes that the shim ends, and asks with the old attempt's name.
    let agent = cluster.agent(&env["MUSTER_WORKER"]);
    kill(agent, Signal::SIGSTOP).unwrap();
    let path = format!("{}/step-1000", env["MUSTER_CHECKPOINT_DIR"]);
    let mut zombie = cluster
        .cli
        .command(&["checkpoint", "commit", &path, "--step", "1000", "--timeout", "5m"])
        .envs(&env)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let next = puppet.started(2, 0);
    assert_eq!(zombie.try_wait().unwrap(), None, "nobody can have answered it");
    kill(agent, Signal::SIGCONT).unwrap();

    assert_eq!((next["MUSTER_RESUME_STEP"].as_str(), puppet.ask(2, "resumed()").as_str()), ("1", "1"));
    assert_ne!(next["MUSTER_WORKER"], env["MUSTER_WORKER"]);
    let code = until("the zombie's answer", SOON, || match zombie.try_wait() {
        Ok(Some(status)) => Ok(status.code()),
        other => Err(format!("{other:?}{}", cluster.logs())),
    });
    assert_ne!(code, Some(0));
    cluster.wait_workers(2);
    // Had it been taken, no step below 1000 would be.
    puppet.commits(2, 2);
    assert_eq!(puppet.steps(), [1, 2]);
    puppet.exit(2, 0);
    let (_, ends) = puppet.ends();
    assert_eq!((end(&ends, 0), end(&ends, 1).0), (("lost", "lost(worker)"), "succeeded"));
}

#[test]
fn a_gang_has_a_checkpoint_when_every_rank_gave_the_step_or_one_speaks_for_all() {
    let cluster = Cluster::start(1, 2, &["--cpus", "2"]);
    let puppet = Puppet::submit(&cluster, "ranks", "workers: 2");
    for rank in [0, 1] {
        puppet.started(1, rank);
    }
    assert_eq!(puppet.ask_rank(1, 0, "begin(save(1), 1)"), "begun");
    // Of what is stored by one rank alone nothing is listed. Once the other has stored the same step both are answered.
    assert_eq!((puppet.steps(), puppet.ask_rank(1, 0, "ended()").as_str()), (vec![], "None"));
    let second = puppet.ask_rank(1, 1, "commit(save(1), 1)");
    assert!(second.starts_with("0 "), "{second}{}", cluster.logs());
    until("rank 0's answer", SOON, || match puppet.ask_rank(1, 0, "ended()").as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned() + &cluster.logs()),
    });
    assert_eq!(puppet.steps(), [1]);
    let alone = puppet.ask_rank(1, 0, "commit(save(2), 2, '--single')");
    assert!(alone.starts_with("0 "), "{alone}");
    puppet.exit(1, 85);
    for rank in [0, 1] {
        assert_eq!(puppet.started(2, rank)["MUSTER_RESUME_STEP"], "2");
        assert_eq!(puppet.ask_rank(2, rank, "resumed()"), "2", "rank {rank}");
    }
    let _ = cluster.cli.run(&["cancel", &puppet.job.to_string()]).ok();
    assert_eq!(puppet.ends().0["state"], "cancelled");
}

#[test]
fn directories_of_a_framework_are_committed_as_they_settle() {
    let cluster = Cluster::start(1, 1, &["--cpus", "2"]);
    let puppet =
        Puppet::submit(&cluster, "watched", "checkpoint: {watch: \"checkpoint-*\", settle: 300ms, keep: 2}");
    for step in [10, 20, 30] {
        let made = puppet.ask(1, &format!("os.rename(save({step}), CHECKPOINTS / 'checkpoint-{step}')"));
        assert_eq!(made, "None");
        until(&format!("checkpoint {step}"), SOON, || {
            let steps = puppet.steps();
            steps.contains(&step).then_some(()).ok_or(format!("{steps:?}{}", cluster.logs()))
        });
    }
    assert_eq!(puppet.steps(), [20, 30], "two are kept");
    let _ = cluster.cli.run(&["cancel", &puppet.job.to_string()]).ok();
    assert_eq!(puppet.ends().0["state"], "cancelled");
}
