//! Devices: nobody gets more of one than there is, and everybody what was asked for. The kernel's locks decide.

use crate::scaled;
use muster_tests::Cluster;

/// Two halves of each device are two locks: who has a whole one takes both, who has a half finds one of them free.
const TAKE: &str = r#"
import fcntl, os, sys, time
amount, count, locks = sys.argv[1], int(sys.argv[2]), os.environ["LOCKS"]
held = []
def take(path):
    held.append(open(path, "w"))
    try:
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
uuids = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
if len(uuids) != count:
    sys.exit(f"{len(uuids)} devices instead of {count}")
for uuid in uuids:
    halves = [f"{locks}/{uuid}.a", f"{locks}/{uuid}.b"]
    if not (all(map(take, halves)) if amount == "whole" else any(map(take, halves))):
        sys.exit(f"{uuid} is somebody else's")
time.sleep(0.02)
"#;

#[test]
fn whole_devices_halves_linked_ones_and_gangs_never_collide() {
    let cluster = Cluster::start(1, 2, &["--cpus", "64", "--gpus", "4xH100-80GB"]);
    let script = cluster.file("take.py", TAKE);
    let locks = cluster.dir.path().join("locks");
    std::fs::create_dir(&locks).unwrap();
    let last = scaled(30, 5_000) - 1;
    let job = format!(
        "name: devices
env: {{LOCKS: \"{}\"}}
defaults: {{resources: {{cpus: 0.1}}}}
tasks:
  one: {{array: 0-{last}, resources: {{gpus: 1}}, run: \"python3 {script} whole 1\"}}
  half: {{array: 0-{last}, resources: {{gpus: {{fraction: 0.5}}}}, run: \"python3 {script} half 1\"}}
  linked: {{array: 0-{last}, resources: {{gpus: {{count: 2, link: nvlink}}}}, run: \"python3 {script} whole 2\"}}
  gang: {{array: 0-{last}, workers: 2, resources: {{gpus: {{count: 3, link: any}}}}, run: \"python3 {script} whole 3\"}}
",
        locks.display()
    );
    let ran = cluster.cli.run(&["submit", &cluster.file("devices.yaml", &job), "--wait"]);
    let told = cluster.cli.run(&["logs", "1", "--stderr"]).stdout;
    assert_eq!(ran.code, Some(0), "{}{told}{}", ran.stderr, cluster.logs());
    let used = std::fs::read_dir(&locks).unwrap().count();
    assert_eq!(used, 16, "two locks of each of the eight devices: all of them were used");
}
