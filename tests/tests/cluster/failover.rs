//! The leader is killed with SIGKILL again and again while tasks run.

use crate::scaled;
use muster_tests::{Cluster, until, voters};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn no_submission_is_lost_and_no_result_counts_twice_when_leaders_die() {
    let mut cluster = Cluster::start(3, 2, &["--cpus", "32"]);
    let (kills, tasks) = (scaled(3, 20), scaled(3_000, 20_000));
    let jobs = 2 * kills;
    let each = tasks / jobs;
    let ledger = cluster.dir.path().join("ledger");
    let mut acknowledged = Vec::new();
    for n in 0..jobs {
        let text = format!(
            "name: j{n}\ntasks: {{t: {{array: '0-{}', run: 'echo $MUSTER_JOB_ID $MUSTER_INDEX $MUSTER_ATTEMPT >> {}'}}}}\n",
            each - 1,
            ledger.display()
        );
        let file = cluster.file(&format!("j{n}.yaml"), &text);
        acknowledged.push(cluster.submit(&file));
        if n % 2 == 1 {
            let (at, _) = cluster.leader();
            cluster.kill_member(at);
            // A majority goes on without it; then it comes back from its disk.
            let _ = cluster.leader();
            cluster.restart_member(at);
            until("three members that follow", Duration::from_secs(60), || {
                let status = cluster.status()?;
                (voters(&status) == 3).then_some(()).ok_or(status.to_string())
            });
        }
    }
    for id in &acknowledged {
        let doc = cluster.finished(*id, Duration::from_secs(240));
        assert_eq!(
            (&doc["state"], &doc["counts"]["succeeded"]),
            (&"succeeded".into(), &each.into()),
            "job {id}"
        );
    }
    // Ids count on, each acknowledged once.
    let mut ids = acknowledged.clone();
    ids.dedup();
    assert_eq!(ids.len() as u64, jobs);
    // Every index wrote its line; more than one line of it are more than one attempt.
    let mut lines: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
    for line in std::fs::read_to_string(&ledger).unwrap().lines() {
        let n: Vec<u64> = line.split(' ').map(|w| w.parse().unwrap()).collect();
        lines.entry((n[0], n[1])).or_default().push(n[2]);
    }
    assert_eq!(lines.len() as u64, each * jobs);
    for (index, mut attempts) in lines {
        let all = attempts.len();
        attempts.sort_unstable();
        attempts.dedup();
        assert_eq!(attempts.len(), all, "an attempt of {index:?} ran twice");
    }
}
