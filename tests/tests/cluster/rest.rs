//! REST of real members over plain HTTP/1.1: what a program without gRPC sees, against the document that it was promised.

use crate::scaled;
use muster_tests::{Answer, Cluster, Http, until};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a state may take to come on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A member as a user calls it.
struct Rest {
    address: String,
    token: String,
}

impl Rest {
    fn of(cluster: &Cluster, member: usize) -> Self {
        Self { address: cluster.member_address(member), token: cluster.user_token() }
    }

    fn ask(&self, method: &str, path: &str) -> Http {
        Http::new(&self.address, method, path).header("authorization", &format!("Bearer {}", self.token))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send()
    }

    fn post(&self, path: &str) -> Answer {
        self.ask("POST", path).send()
    }

    fn submit(&self, key: &str, media: &str, job: &str) -> Answer {
        self.ask("POST", "/v1/jobs").header("idempotency-key", key).body(media, job).send()
    }

    fn ended(&self, job: u64) -> Value {
        until(&format!("the end of job {job}"), SOON, || {
            let doc = self.get(&format!("/v1/jobs/{job}")).json();
            if doc["ended"].is_string() { Ok(doc) } else { Err(doc.to_string()) }
        })
    }
}

const HELLO: &str = r#"{"name": "hello", "params": {"who": "you"}, "tasks": {"say": {"run": "echo hello {{ params.who }}; echo oops >&2"}}}"#;

#[test]
fn a_job_goes_in_and_its_story_comes_out_of_any_member() {
    let cluster = Cluster::start(3, 1, &["--cpus", "4", "--gpus", "2xH100-80GB"]);
    let (at, _) = cluster.leader();
    // A follower: what changes something is carried to the leader.
    let rest = Rest::of(&cluster, (at + 1) % 3);

    // 1. Once for each key, as JSON and as YAML, parameters in the query.
    let made = rest.submit("k1", "application/json", HELLO);
    assert_eq!((made.status, made.json()["name"].as_str()), (201, Some("hello")), "{}", made.text());
    let job = made.json()["job"].as_u64().expect("an id");
    assert_eq!(made.header("location"), format!("/v1/jobs/{job}"));
    assert_eq!(rest.submit("k1", "application/json", HELLO).json(), made.json());
    let other = rest.submit("k1", "application/json", &HELLO.replace("hello", "other"));
    assert_eq!(other.problem(), (409, "REQUEST_ID_REUSED".to_owned()));
    let yaml = "name: yaml\nparams: {who: you}\ntasks:\n  say: {run: 'echo hello {{ params.who }}'}\n";
    let second = rest.ask("POST", "/v1/jobs?param=who%3Dme").body("application/yaml", yaml).send();
    let second = second.json()["job"].as_u64().expect("an id");

    // 2. The story: the job, its tasks, its output.
    let doc = rest.ended(job);
    assert_eq!(
        (&doc["state"], &doc["tasks"][0]["attempts"][0]["cause"]),
        (&json!("succeeded"), &json!("exit(0)"))
    );
    assert_eq!(rest.get(&format!("/v1/jobs/{job}/tasks")).json()["tasks"], doc["tasks"]);
    rest.ended(second);
    let logs = |query: &str| rest.get(&format!("/v1/jobs/{job}/logs{query}")).text();
    assert_eq!((logs("?stream=stdout"), logs("?stream=stderr")), ("hello you\n".into(), "oops\n".into()));
    assert_eq!(rest.get(&format!("/v1/jobs/{second}/logs?tail=1")).text(), "hello me\n");

    // 3. Lists in pages, each naming the next.
    let page = rest.get("/v1/jobs?limit=1&state=succeeded&state=failed");
    assert_eq!(
        (page.json()["jobs"][0]["id"].as_u64(), page.json()["jobs"].as_array().map(Vec::len)),
        (Some(second), Some(1))
    );
    let next = page.header("link").strip_prefix('<').and_then(|link| link.split('>').next()).expect("a link");
    let next = rest.get(next);
    assert_eq!((next.json()["jobs"][0]["id"].as_u64(), next.header("link")), (Some(job), ""));

    // 4. Held, explained, released, cancelled.
    let two =
        r#"{"tasks": {"first": {"run": "exec sleep 600"}, "then": {"run": "true", "needs": ["first"]}}}"#;
    let long = rest.ask("POST", "/v1/jobs").body("application/json", two).send().json();
    let long = long["job"].as_u64().expect("an id");
    let then = || rest.get(&format!("/v1/jobs/{long}/tasks?after=first")).json()["tasks"][0]["state"].clone();
    let act = |target: &str, verb: &str| rest.post(&format!("/v1/jobs/{long}{target}/{verb}"));
    assert_eq!(act(".then", "hold").json(), json!({ "changed": 1 }));
    assert_eq!(then(), "held");
    let why = rest.get(&format!("/v1/jobs/{long}.then/explain")).json();
    assert!(why["blockers"].as_array().is_some_and(|blockers| !blockers.is_empty()), "{why}");
    assert_eq!(act(".then", "release").status, 200);
    assert_eq!(then(), "waiting");
    assert_eq!(act("", "cancel").json(), json!({ "changed": 2 }));
    assert_eq!(rest.ended(long)["state"], "cancelled");
    assert_eq!(act("", "hold").problem(), (409, "WRONG_STATE".to_owned()));

    // 5. Machines: a drain and back, a notice, a device.
    let worker = rest.get("/v1/workers/w1").json();
    let path = |verb: &str| format!("/v1/workers/{}/{verb}", worker["id"]);
    let drain = rest
        .ask("POST", &path("drain"))
        .body("application/json", r#"{"deadline_seconds": 60, "reason": "r"}"#);
    assert_eq!(drain.send().json(), json!({ "changed": 0 }));
    let drained = rest.get("/v1/workers").json();
    assert_eq!(drained["workers"][0]["drain_reason"], "r", "{drained}");
    assert_eq!(rest.post(&path("undrain")).status, 200);
    let notice =
        rest.ask("POST", &path("notice")).body("application/json", r#"{"kind": "advice", "detail": "d"}"#);
    assert_eq!(notice.send().status, 200);
    assert_eq!(rest.get("/v1/workers/w1").json()["notice"]["source"], "operator");
    let uuid = worker["gpus"][1]["uuid"].as_str().expect("a device");
    assert_eq!(rest.get(&format!("/v1/devices/{uuid}")).json()["index"], 1);
    assert_eq!(rest.get(&format!("/v1/devices?after={uuid}")).json(), json!({ "devices": [] }));
    assert_eq!(rest.get("/v1/queues").json()["queues"][0]["name"], "default");
    assert_eq!(rest.get("/v1/cluster").json()["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(rest.get("/v1/pools").json()["pools"][0]["name"], worker["pool"]);
    let cost = rest.get("/v1/cost?by=user").json();
    assert_eq!((&cost["by"], &cost["total"]["usd"]["total"]), (&json!("user"), &json!(0.0)), "{cost}");
    assert_eq!(rest.get("/v1/budgets").json(), json!({ "budgets": [] }));
    assert_eq!(rest.get(&format!("/v1/checkpoints?job={job}")).json()["checkpoints"], json!([]));

    metrics_are_what_prometheus_reads(&cluster, at);
}

/// On the leader, which has seen the first test's jobs.
fn metrics_are_what_prometheus_reads(cluster: &Cluster, leader: usize) {
    let rest = Rest::of(cluster, leader);
    let scrape = rest.get("/metrics");
    assert_eq!(scrape.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = scrape.text();
    let sample = |line: &str| {
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in {text}")).parse::<f64>().expect("a number")
    };
    let leases: f64 = sample("muster_leases");
    assert!(leases.abs() < f64::EPSILON, "{leases}");
    assert!((sample("muster_tasks{state=\"succeeded\",queue=\"default\"}") - 2.0).abs() < f64::EPSILON);
    assert!((sample("muster_raft_is_leader") - 1.0).abs() < f64::EPSILON);
    assert!(sample("muster_submit_to_start_seconds_count") >= 2.0);
    assert!(
        sample("muster_raft_commit_seconds_count") > 3.0
            && sample("muster_schedule_cycle_seconds_count") > 0.0
    );
    sample("muster_gpu_seconds_total{state=\"useful\"}");
    sample("muster_lost_work_gpu_seconds_total");
    sample("muster_evictions_total{cause=\"notice\"}");
    let open = rest.ask("GET", "/metrics").header("accept", "application/openmetrics-text").send();
    assert!(open.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.text().ends_with("# EOF\n") && open.text().contains("# TYPE muster_evictions counter\n"));

    let Some(promtool) = tool("MUSTER_PROMTOOL", "scripts/promtool.sh fetches it") else { return };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    check.stdin.take().expect("its input").write_all(text.as_bytes()).expect("write the metrics");
    let said = check.wait_with_output().expect("its end");
    let said = (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned());
    assert_eq!(said, (true, String::new()), "promtool");
}

/// A program that a script has installed, where it could.
fn tool(variable: &str, hint: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set: {hint}, and `make test` sets it then");
    }
    path
}

#[test]
fn every_refusal_is_a_problem_document_and_nothing_is_answered_without_a_token() {
    let cluster = Cluster::start(1, 0, &[]);
    let rest = Rest::of(&cluster, 0);
    let without = |method: &str, path: &str| Http::new(&rest.address, method, path);

    // 1. Two paths for anybody, all others for users alone.
    assert_eq!(without("GET", "/healthz").send().text(), "ok\n");
    assert_eq!(without("GET", "/readyz").send().text(), "ready\n");
    let document = rest.get("/openapi.json").json();
    let paths = document["paths"].as_object().expect("paths");
    for (path, methods) in paths.iter().filter(|(path, _)| !path.ends_with('z')) {
        for method in methods.as_object().expect("methods").keys() {
            let (path, method) = (path.replace(['{', '}'], ""), method.to_uppercase());
            let refused = without(&method, &path).send();
            assert_eq!(refused.problem(), (401, "UNAUTHENTICATED".to_owned()), "{method} {path}");
            assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"muster\"");
            let foreign = without(&method, &path).header("authorization", "Bearer mu.admin.00").send();
            assert_eq!(foreign.status, 401, "{method} {path}");
        }
    }
    assert_eq!(without("GET", "/v1/nothing").send().status, 401);

    // 2. What a caller can get wrong.
    let post = |media: &str, body: &str| rest.ask("POST", "/v1/jobs").body(media, body).send();
    let large = " ".repeat(70 << 10);
    for (answer, status, code) in [
        (rest.get("/v1/jobs/7"), 404, "JOB_NOT_FOUND"),
        (rest.get("/v1/jobs/7/logs"), 404, "JOB_NOT_FOUND"),
        (rest.get("/v1/jobs/x"), 400, "BAD_REQUEST"),
        (rest.post("/v1/jobs/x/cancel"), 400, "BAD_TARGET"),
        (rest.get("/v1/jobs?limit=0"), 400, "BAD_REQUEST"),
        (rest.get("/v1/jobs?limt=1"), 400, "BAD_REQUEST"),
        (rest.get("/v1/jobs?state=gone"), 400, "BAD_REQUEST"),
        (rest.get("/v1/workers/w9"), 404, "WORKER_NOT_FOUND"),
        (rest.get("/v1/devices/GPU-x"), 404, "DEVICE_NOT_FOUND"),
        (rest.get("/v1/pools/h100"), 404, "POOL_NOT_FOUND"),
        (rest.get("/v1/autoscale?wait=61s"), 400, "BAD_REQUEST"),
        (rest.get("/v1/nothing"), 404, "PATH_NOT_FOUND"),
        (post("application/json", "{"), 400, "SYNTAX"),
        (post("application/json", r#"{"tasks": {"a": {"run": "true", "needs": ["a"]}}}"#), 422, "CYCLE"),
        (
            post("application/json", r#"{"workdir": ".", "tasks": {"a": {"run": "true"}}}"#),
            422,
            "WORKDIR_MISSING",
        ),
        (post("text/plain", "{}"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (rest.ask("POST", "/v1/workers/w1/drain").body("application/json", &large).send(), 413, "TOO_LARGE"),
        (rest.submit(&"k".repeat(129), "application/json", HELLO), 400, "BAD_REQUEST"),
        (rest.ask("DELETE", "/v1/jobs/7").send(), 405, "METHOD_NOT_ALLOWED"),
    ] {
        assert_eq!(answer.problem(), (status, code.to_owned()), "{}", answer.text());
    }
    assert_eq!(rest.ask("DELETE", "/v1/jobs").send().header("allow"), "GET,HEAD,POST");
    let faults =
        post("application/json", r#"{"tasks": {"a": {"run": "true", "resources": {"cpu": 1}}}}"#).json();
    assert_eq!(faults["errors"][0]["code"], "UNKNOWN_FIELD", "{faults}");
    assert!(faults["hint"].as_str().is_some_and(|hint| hint.contains("cpus")), "{faults}");
}

#[test]
fn signals_are_polled_and_streamed_and_a_member_without_a_majority_is_alive_and_not_ready() {
    let mut cluster = Cluster::start(2, 0, &[]);
    let (at, _) = cluster.leader();
    let rest = Rest::of(&cluster, at);

    // 1. What the caller has is not sent again, after the wait either.
    let signals = until("signals", SOON, || {
        let answer = rest.get("/v1/autoscale");
        if answer.status == 200 { Ok(answer) } else { Err(answer.text()) }
    });
    assert_eq!(signals.json()["pools"], json!([]));
    let same =
        rest.ask("GET", "/v1/autoscale?wait=1s").header("if-none-match", signals.header("etag")).send();
    assert_eq!((same.status, same.body.len()), (304, 0));
    let old = rest.ask("GET", "/v1/autoscale?wait=2s&after=9999.1").send();
    assert_eq!((old.status, old.header("etag")), (200, signals.header("etag")));

    // 2. A stream begins with what is.
    let stream = rest.ask("GET", "/v1/autoscale").header("accept", "text/event-stream").first_chunk();
    assert_eq!(stream.header("content-type"), "text/event-stream");
    let id = signals.header("etag").trim_matches('"');
    assert!(stream.text().starts_with(&format!("id: {id}\nevent: signals\ndata: {{")), "{}", stream.text());

    // 3. Half of two is no majority.
    cluster.kill_member(1 - at);
    let ready = until("a member that is not ready", SOON, || {
        let answer = rest.get("/readyz");
        if answer.status == 503 { Ok(answer) } else { Err(answer.text()) }
    });
    assert_eq!((ready.problem().1.as_str(), ready.header("retry-after")), ("NO_LEADER", "1"));
    assert_eq!(rest.get("/healthz").status, 200);
    assert_eq!(rest.get("/metrics").status, 200);
}

#[test]
fn the_document_is_valid_and_a_member_does_what_it_says() {
    let hint = "scripts/python-env.sh api installs schemathesis";
    let Some(tools) = tool("MUSTER_API_CHECKS", hint) else { return };
    let rest_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("rest");
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../coordinator/openapi.json");
    let valid =
        Command::new(tools.join("openapi-spec-validator")).arg(document).output().expect("the validator");
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stdout));

    let mut cluster = Cluster::start(1, 1, &["--gpus", "1xH100-80GB"]);
    // Its commands are made up: no agent is there to run one.
    cluster.kill_agent("w1");
    let rest = Rest::of(&cluster, 0);
    for name in ["one", "two"] {
        assert_eq!(rest.submit(name, "application/json", HELLO).status, 201);
    }
    let address = format!("http://{}/openapi.json", rest.address);
    let bearer = format!("Authorization: Bearer {}", rest.token);
    let examples = scaled(6, 200).to_string();
    let mut check = Command::new(tools.join("schemathesis"));
    check.arg("--config-file").arg(rest_dir.join("schemathesis.toml"));
    check.args(["run", &address, "-H", &bearer, "--max-examples", &examples, "--request-timeout", "30"]);
    // The same calls in every run: what is found once is found again.
    check.args(["--seed", "1", "--generation-deterministic"]).current_dir(cluster.dir.path());
    let said = check.output().expect("schemathesis");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}\n{}", cluster.logs());
}

#[test]
fn curl_gets_the_same_by_either_version_of_http() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: no curl on this machine");
        return;
    }
    let cluster = Cluster::start(1, 0, &[]);
    let rest = Rest::of(&cluster, 0);
    let curl = |version: &str| {
        let url = format!("http://{}/v1/cluster", rest.address);
        let bearer = format!("authorization: Bearer {}", rest.token);
        let out = Command::new("curl")
            .args(["-sS", "-m", "60", version, "-H", &bearer, &url, "-w", " %{http_version}"])
            .output();
        String::from_utf8_lossy(&out.expect("curl").stdout).into_owned()
    };
    let (one, two) = (curl("--http1.1"), curl("--http2-prior-knowledge"));
    assert!(one.ends_with("} 1.1") && two.ends_with("} 2"), "{one}\n{two}");
    assert!(one.contains("\"role\":\"leader\""), "{one}");
}
