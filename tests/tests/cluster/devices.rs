//! Devices: nobody gets more of one than there is, and everybody what was asked for. The kernel's locks decide.

use crate::scaled;
use muster_tests::Cluster;

/// Two halves of each device are two locks: who has a whole one takes both, who has a half finds one of them free. `take.sh whole|half COUNT`
const TAKE: &str = r#"
IFS=,
set -- "$1" "$2" $CUDA_VISIBLE_DEVICES
amount=$1 count=$2
shift 2
[ $# = "$count" ] || { echo "$# devices instead of $count" >&2; exit 1; }
fd=3
take() {
    eval "exec $fd>\"$1\""
    flock -n "$fd" || return 1
    fd=$((fd + 1))
}
for uuid in "$@"; do
    if [ "$amount" = whole ]; then
        { take "$LOCKS/$uuid.a" && take "$LOCKS/$uuid.b"; } || { echo "$uuid is somebody else's" >&2; exit 1; }
    else
        take "$LOCKS/$uuid.a" || take "$LOCKS/$uuid.b" || { echo "$uuid is taken twice" >&2; exit 1; }
    fi
done
sleep 0.02
"#;

#[test]
fn whole_devices_halves_linked_ones_and_gangs_never_collide() {
    let cluster = Cluster::start(1, 2, &["--cpus", "64", "--gpus", "4xH100-80GB"]);
    let script = cluster.file("take.sh", TAKE);
    let locks = cluster.dir.path().join("locks");
    std::fs::create_dir(&locks).unwrap();
    let last = scaled(30, 5_000) - 1;
    let job = format!(
        "name: devices
env: {{LOCKS: \"{}\"}}
defaults: {{resources: {{cpus: 0.1}}}}
tasks:
  one: {{array: 0-{last}, resources: {{gpus: 1}}, run: \"sh {script} whole 1\"}}
  half: {{array: 0-{last}, resources: {{gpus: {{fraction: 0.5}}}}, run: \"sh {script} half 1\"}}
  linked: {{array: 0-{last}, resources: {{gpus: {{count: 2, link: nvlink}}}}, run: \"sh {script} whole 2\"}}
  gang: {{array: 0-{last}, workers: 2, resources: {{gpus: {{count: 3, link: any}}}}, run: \"sh {script} whole 3\"}}
",
        locks.display()
    );
    let ran = cluster.cli.run(&["submit", &cluster.file("devices.yaml", &job), "--wait"]);
    let told = cluster.cli.run(&["logs", "1", "--stderr"]).stdout;
    assert_eq!(ran.code, Some(0), "{}{told}{}", ran.stderr, cluster.logs());
    let used = std::fs::read_dir(&locks).unwrap().count();
    assert_eq!(used, 16, "two locks of each of the eight devices: all of them were used");
}
