//! The whole way: what waits makes a group of machines grow, its machines join and work, and go again by their ids. The cloud is a server
//! over real HTTP: moto, which others wrote, and our emulator for the hooks and bounds that moto lacks.

use crate::moto::Moto;
use muster_cloud_groups::{Call, Emulator};
use muster_tests::cluster::Cluster;
use muster_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const GANG: &str = r#"{"name": "wide", "tasks": {"train": {"run": "true", "workers": 2, "resources": {"cpus": 1, "gpus": 8}}}}"#;

/// A member whose pool `gpu` is the group `gpu` there. The cool-down is short: nobody waits five minutes in a test.
fn cluster(endpoint: &str, (id, secret): (&str, &str)) -> (Cluster, tempfile::TempDir) {
    let keys = tempfile::Builder::new().prefix("mu-key").tempdir().unwrap();
    let file = keys.path().join("credentials");
    std::fs::write(&file, format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"))
        .unwrap();
    let config = format!(
        r#"
        [[pool]]
        name = "gpu"
        max = 4
        spot = true
        usd_per_hour = 19.8
        template = {{ cpus = 96, memory = "1TiB", gpus = "8xH100-80GB" }}
        scale_in_cooldown = "3s"
        driver = {{ kind = "aws-asg", group = "gpu", region = "eu-west-1", endpoint = "{endpoint}", credentials_file = {file:?} }}
        "#
    );
    (Cluster::start_configured(1, &config), keys)
}

fn signal(cluster: &Cluster) -> Result<Value, String> {
    let signals = cluster.cli.json(&["autoscale", "signals"])?;
    signals["pools"].get(0).cloned().ok_or_else(|| format!("no pool: {signals}"))
}

/// A machine has come up: its worker says which one it is on.
fn join(cluster: &mut Cluster, instance: &str) {
    let label = format!("instance_id={instance}");
    let more = ["--pool", "gpu", "--spot", "--gpus", "8xH100-80GB", "--cpus", "96", "--label", &label];
    cluster.add_worker(instance, &more);
}

/// Calls by this name that were done, with this parameter of each.
fn told(calls: &[Call], action: &str, parameter: &str) -> Vec<String> {
    let done = calls.iter().filter(|call| call.action == action && call.status == 200);
    done.map(|call| call.parameter(parameter).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_buys_two_machines_and_gives_each_back_through_its_hook() {
    let cloud = Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    cloud.put("asg/key", &json!({"id": ID, "secret": SECRET})).unwrap();
    let group = json!({"max": 4, "desired": 0, "template": "lt-1:3", "hooks": {"muster": 60}});
    cloud.put("asg/groups/gpu", &group).unwrap();
    // A bad beginning: it holds, backs off, and goes on.
    cloud.put("faults", &json!({"kind": "throttle", "times": 1})).unwrap();
    cloud.put("faults", &json!({"kind": "error", "times": 1})).unwrap();
    let (mut cluster, _keys) = cluster(&cloud.endpoint(), (ID, SECRET));
    let job = cluster.submit(&cluster.file("gang.json", GANG));

    // 1. Two at once, not one after the other.
    let machines = until("two machines", LIMIT, || {
        let asked = told(&cloud.calls(), "SetDesiredCapacity", "DesiredCapacity");
        (!asked.is_empty())
            .then_some(asked)
            .ok_or_else(|| format!("{:?} {}", signal(&cluster), cluster.logs()))
    });
    assert_eq!(machines, ["2"]);
    let is = signal(&cluster).unwrap();
    assert_eq!((&is["current"], &is["desired"], &is["booting"]), (&json!(0), &json!(2), &json!(2)), "{is}");

    // 2. They come up and join; it runs.
    cloud.put("asg/in-service", &Value::Null).unwrap();
    let seen = cloud.seen();
    let ids: BTreeSet<String> = ids_in(&seen);
    assert_eq!(ids.len(), 2, "{seen}");
    ids.iter().for_each(|id| join(&mut cluster, id));
    let done = cluster.finished(job, LIMIT);
    assert_eq!(done["state"], "succeeded", "{done}");

    // 3. Idle: each is drained, ended by its id with decrement, and its hook completed.
    until("both are ended", LIMIT, || {
        let ended = told(&cloud.calls(), "CompleteLifecycleAction", "InstanceId");
        let ended: BTreeSet<String> = ended.into_iter().collect();
        (ended == ids)
            .then_some(())
            .ok_or_else(|| format!("{ended:?} {:?} {}", signal(&cluster), cluster.logs()))
    });
    let calls = cloud.calls();
    let terminated = told(&calls, "TerminateInstanceInAutoScalingGroup", "InstanceId");
    assert_eq!(
        (terminated.len(), terminated.into_iter().collect::<BTreeSet<_>>()),
        (2, ids.clone()),
        "each once"
    );
    let decrements = told(&calls, "TerminateInstanceInAutoScalingGroup", "ShouldDecrementDesiredCapacity");
    assert_eq!(decrements, ["true", "true"]);
    let results = told(&calls, "CompleteLifecycleAction", "LifecycleActionResult");
    assert!(results.iter().all(|result| result == "CONTINUE"), "{results:?}");
    // Never fewer by a number: AWS would choose.
    assert_eq!(told(&calls, "SetDesiredCapacity", "DesiredCapacity"), ["2"]);

    // 4. The machines are gone, and so are their workers in time.
    ids.iter().for_each(|id| cluster.kill_agent(id));
    until("nothing is wanted", LIMIT, || {
        let is = signal(&cluster)?;
        (is["desired"] == 0 && is["remove"] == json!([])).then_some(()).ok_or(is.to_string())
    });
    until("they are forgotten", LIMIT, || {
        let workers = cluster.cli.json(&["workers"])?;
        (workers["workers"] == json!([])).then_some(()).ok_or(workers.to_string())
    });
}

fn ids_in(seen: &Value) -> BTreeSet<String> {
    let text = seen["asg"].to_string();
    text.split('"').filter(|word| word.starts_with("i-")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_and_never_printed_and_nothing_is_asked_for() {
    let cloud = Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    cloud.put("asg/key", &json!({"id": ID, "secret": SECRET})).unwrap();
    cloud.put("asg/groups/gpu", &json!({"max": 4, "desired": 0})).unwrap();
    let (cluster, _keys) = cluster(&cloud.endpoint(), (ID, "another-secret-of-somebody"));
    let _job = cluster.submit(&cluster.file("gang.json", GANG));
    let hold = until("it is held", LIMIT, || {
        let is = signal(&cluster)?;
        let hold = is["hold"].as_str().map(str::to_owned).filter(|hold| hold.contains("credentials"));
        hold.ok_or_else(|| format!("{is} {}", cluster.logs()))
    });
    assert_eq!(told(&cloud.calls(), "SetDesiredCapacity", "DesiredCapacity"), Vec::<String>::new());
    let log = std::fs::read_to_string(cluster.dir.path().join("c1.log")).unwrap();
    for text in [&hold, &log] {
        assert!(!text.contains("another-secret") && !text.contains(SECRET), "{text}");
    }
    let table = cluster.cli.run(&["autoscale", "signals"]).ok();
    assert!(table.contains("gpu") && table.contains("credentials"), "{table}");
}

#[test]
fn the_same_with_moto() {
    let Some(moto) = Moto::start() else { return };
    let endpoint = format!("http://{}", moto.address);
    administrator(
        &endpoint,
        "asg.create_launch_configuration(LaunchConfigurationName='p5', ImageId='ami-12c6146b', InstanceType='t2.micro')\n\
         asg.create_auto_scaling_group(AutoScalingGroupName='gpu', LaunchConfigurationName='p5', AvailabilityZones=['eu-west-1a'], MinSize=0, MaxSize=4, DesiredCapacity=0)",
    );
    let (mut cluster, _keys) = cluster(&endpoint, ("testing", "testing"));
    let job = cluster.submit(&cluster.file("gang.json", GANG));
    let described = "g = asg.describe_auto_scaling_groups(AutoScalingGroupNames=['gpu'])['AutoScalingGroups'][0]\n\
                     print(json.dumps({'desired': g['DesiredCapacity'], 'ids': [i['InstanceId'] for i in g['Instances']]}))";
    let group = || -> Value { serde_json::from_str(&administrator(&endpoint, described)).unwrap() };
    let ids = until("two machines", LIMIT, || {
        let is = group();
        let ids: Vec<String> = serde_json::from_value(is["ids"].clone()).unwrap();
        assert!(is["desired"] == 0 || is["desired"] == 2, "a gang is bought whole: {is}");
        (ids.len() == 2).then_some(ids).ok_or_else(|| format!("{is} {}", cluster.logs()))
    });
    ids.iter().for_each(|id| join(&mut cluster, id));
    assert_eq!(cluster.finished(job, LIMIT)["state"], "succeeded");
    until("both are gone", LIMIT, || {
        let is = group();
        (is["desired"] == 0 && is["ids"] == json!([]))
            .then_some(())
            .ok_or_else(|| format!("{is} {}", cluster.logs()))
    });
}

/// What the administrator of the account does with AWS's own library for Python; what it printed.
fn administrator(endpoint: &str, script: &str) -> String {
    let moto = std::env::var("MUSTER_MOTO").unwrap_or_else(|_| "moto_server".to_owned());
    let python =
        Path::new(&moto).parent().filter(|p| p.is_dir()).map_or("python3".into(), |p| p.join("python"));
    let script = format!(
        "import boto3, json\nasg = boto3.client('autoscaling', region_name='eu-west-1', endpoint_url='{endpoint}', aws_access_key_id='testing', aws_secret_access_key='testing')\n{script}"
    );
    let ran = Command::new(python).args(["-c", &script]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}
