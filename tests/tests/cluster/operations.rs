//! What operators do while users work: restarts, replacements, growth, transfers. No submission of the shipped client fails meanwhile.

use crate::scaled;
use muster_tests::{Cluster, job_ids, until, voters};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(120);

/// Every acknowledged job is there and ends well.
fn all_there(cluster: &Cluster, acknowledged: &[u64]) {
    until("the end of every job", WITHIN, || {
        let jobs = cluster.cli.json(&["ps", "--limit", "1000000"])?;
        let jobs = jobs["jobs"].as_array().ok_or("no jobs")?;
        let done: Vec<u64> = jobs
            .iter()
            .filter(|job| job["state"] == "succeeded")
            .filter_map(|job| job["id"].as_u64())
            .collect();
        let missing: Vec<u64> = acknowledged.iter().filter(|id| !done.contains(id)).copied().collect();
        missing.is_empty().then_some(()).ok_or_else(|| format!("{missing:?} {}", cluster.logs()))
    });
}

#[test]
fn a_rolling_restart_of_all_members_fails_no_submission() {
    let mut cluster = Cluster::start(3, 1, &["--cpus", "16"]);
    let goal = scaled(40, 10_000);
    let submissions = cluster.submissions(2);
    let mut handed_over = 0;
    let mut rounds = 0;
    while rounds < scaled(1, 3) || submissions.count() < goal {
        for at in 0..3 {
            submissions.wait_more(2);
            let (leader, _) = cluster.leader();
            assert_eq!(cluster.stop_member(at), Some(0), "{}", cluster.member_log(at));
            if leader == at {
                let log = cluster.member_log(at);
                assert!(log.contains("handed the leadership over"), "{log}");
                handed_over += 1;
            }
            cluster.restart_member(at);
            cluster.wait_voters(&[1, 2, 3]);
        }
        rounds += 1;
    }
    assert!(handed_over >= rounds, "each round stops the leader at least once");
    let acknowledged = submissions.end();
    assert!(acknowledged.len() as u64 >= goal);
    all_there(&cluster, &acknowledged);
}

#[test]
fn a_killed_member_is_replaced_by_one_command_and_cannot_come_back() {
    let mut cluster = Cluster::start(3, 1, &["--cpus", "16"]);
    let submissions = cluster.submissions(1);
    let (leader, _) = cluster.leader();
    let dead = (leader + 1) % 3;
    let dead_id = cluster.member_id(dead);
    cluster.kill_member(dead);
    submissions.wait_more(3);

    let fourth = cluster.join_member(None, &["--replace", &dead_id.to_string()]);
    let ids: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|id| *id != dead_id).collect();
    cluster.wait_voters(&ids);
    submissions.wait_more(3);

    // It was away when it was removed: it asks, hears so, and says so; from then on it does not even ask.
    cluster.restart_member(dead);
    assert_eq!(cluster.ended_member(dead), Some(1));
    let said = format!("member {dead_id} was removed from cluster");
    assert!(cluster.member_log(dead).contains(&said), "{}", cluster.member_log(dead));
    cluster.restart_member(dead);
    assert_eq!(cluster.ended_member(dead), Some(1));
    assert_eq!(cluster.member_log(dead).matches(&said).count(), 2, "{}", cluster.member_log(dead));
    cluster.wait_voters(&ids);

    // A living member that is removed is told, and ends. Its id is spent.
    let removed = cluster.cli.run(&["cluster", "remove", "4", "--force"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert_eq!(cluster.ended_member(fourth), Some(1));
    assert!(cluster.member_log(fourth).contains("member 4 was removed"), "{}", cluster.member_log(fourth));
    let again = cluster.cli.run(&["cluster", "remove", "4"]);
    assert_eq!(again.code, Some(0), "what is done is done: {}", again.stderr);
    let fifth = cluster.join_member(None, &[]);
    assert_eq!(cluster.member_id(fifth), 5);
    let ids: Vec<u64> = [1, 2, 3, 5].into_iter().filter(|id| *id != dead_id).collect();
    cluster.wait_voters(&ids);
    all_there(&cluster, &submissions.end());
}

#[test]
fn a_machine_with_a_new_disk_takes_its_own_place_at_its_old_address() {
    let mut cluster = Cluster::start(3, 0, &[]);
    let (leader, _) = cluster.leader();
    let dead = (leader + 1) % 3;
    let dead_id = cluster.member_id(dead);
    let address = cluster.member_address(dead);
    cluster.kill_member(dead);
    // Without being told what happened it is not let in beside itself.
    let stranger = cluster.join_member(Some(address.clone()), &[]);
    assert_eq!(cluster.ended_member(stranger), Some(1));
    let log = cluster.member_log(stranger);
    assert!(log.contains(&format!("--replace {dead_id}")) && log.contains(&address), "{log}");

    cluster.join_member(Some(address), &["--replace", &dead_id.to_string()]);
    let ids: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|id| *id != dead_id).collect();
    cluster.wait_voters(&ids);
    let id = cluster.submit(&cluster.file("j.yaml", "name: j\ntasks: {t: {run: 'true'}}\n"));
    assert_eq!(id, 1);
}

#[test]
fn three_members_become_five_and_three_again() {
    let mut cluster = Cluster::start(3, 1, &["--cpus", "16"]);
    let submissions = cluster.submissions(1);
    for round in 0..scaled(1, 10) {
        let at = [cluster.join_member(None, &[]), cluster.join_member(None, &[])];
        until("five voters", WITHIN, || {
            let status = cluster.status()?;
            (voters(&status) == 5).then_some(()).ok_or_else(|| status.to_string() + &cluster.logs())
        });
        submissions.wait_more(2);
        let ids = cluster.ids().unwrap();
        assert_eq!(ids, [1, 2, 3, 4 + 2 * round, 5 + 2 * round], "ids only grow");
        // Whoever leads: the leader hands over before it leaves.
        let to = ids[3].to_string();
        let moved = cluster.cli.run(&["cluster", "transfer-leader", &to]);
        assert_eq!(moved.code, Some(0), "{}", moved.stderr);
        for id in [ids[3], ids[4]] {
            let removed = cluster.cli.run(&["cluster", "remove", &id.to_string()]);
            assert_eq!(removed.code, Some(0), "{}{}", removed.stderr, cluster.logs());
        }
        cluster.wait_voters(&[1, 2, 3]);
        for at in at {
            assert_eq!(cluster.ended_member(at), Some(1), "{}", cluster.member_log(at));
        }
        submissions.wait_more(2);
    }
    all_there(&cluster, &submissions.end());
}

#[test]
fn leadership_moves_under_load_and_no_submission_fails() {
    let cluster = Cluster::start(3, 1, &["--cpus", "16"]);
    let submissions = cluster.submissions(2);
    for _ in 0..scaled(5, 100) {
        let before = cluster.status().unwrap()["leader"].as_u64().unwrap();
        let moved = cluster.cli.json(&["cluster", "transfer-leader"]).unwrap();
        let (from, to) = (moved["from"].as_u64().unwrap(), moved["to"].as_u64().unwrap());
        assert!(from == before && to != from, "{moved}");
        submissions.wait_more(2);
    }
    let leader = cluster.status().unwrap()["leader"].as_u64().unwrap();
    let stays = cluster.cli.json(&["cluster", "transfer-leader", &leader.to_string()]).unwrap();
    assert_eq!((&stays["from"], &stays["to"]), (&leader.into(), &leader.into()));
    all_there(&cluster, &submissions.end());
}

#[test]
fn what_would_stop_the_cluster_is_refused_with_the_numbers() {
    let mut cluster = Cluster::start(3, 0, &[]);
    let refused = |cluster: &Cluster, args: &[&str], words: &[&str]| {
        let ran = cluster.cli.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stderr);
        for word in words.iter().chain(&["error:", "hint:"]) {
            assert!(ran.stderr.contains(word), "{args:?}: {word:?} is not in {}", ran.stderr);
        }
    };
    refused(&cluster, &["cluster", "remove", "9"], &["member 9"]);
    refused(&cluster, &["cluster", "remove", "2"], &["2 would vote", "none of them", "--force"]);
    refused(&cluster, &["cluster", "transfer-leader", "9"], &["member 9"]);
    let taken = cluster.member_address(1);
    let token = cluster.dir.path().join("token").display().to_string();
    refused(&cluster, &["cluster", "add", &taken, "--token-file", &token], &[&taken, "--replace 2"]);
    refused(
        &cluster,
        &["cluster", "add", "127.0.0.1:1", "--replace", "9", "--token-file", &token],
        &["member 9"],
    );
    assert!(!std::path::Path::new(&token).exists(), "no token is written for nothing");

    let (leader, _) = cluster.leader();
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    let (dead_id, alive_id) = (cluster.member_id(dead).to_string(), cluster.member_id(alive).to_string());
    cluster.kill_member(dead);
    // The leader notices within an election timeout.
    until("the silence of the dead member", WITHIN, || {
        let ran = cluster.cli.run(&["cluster", "remove", &alive_id, "--force"]);
        let said = ran.stderr.contains("1 answer now; 2 are needed");
        assert_ne!(ran.code, Some(0), "a majority was thrown away: {}", ran.stderr);
        said.then_some(()).ok_or(ran.stderr)
    });
    refused(&cluster, &["cluster", "transfer-leader", &dead_id], &["does not answer"]);
    let removed = cluster.cli.run(&["cluster", "remove", &dead_id]);
    assert_eq!(removed.code, Some(0), "a dead member may go: {}", removed.stderr);
    assert!(removed.stderr.contains("none of them may fail"), "{}", removed.stderr);
    let leader_id = cluster.member_id(leader).to_string();
    let removed = cluster.cli.run(&["cluster", "remove", &leader_id]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert_eq!(cluster.ended_member(leader), Some(1), "{}", cluster.member_log(leader));
    refused(&cluster, &["cluster", "remove", &alive_id], &["last"]);
    let id = cluster.submit(&cluster.file("j.yaml", "name: j\ntasks: {t: {run: 'true'}}\n"));
    assert_eq!(job_ids(&cluster.cli).unwrap(), [id]);
}
