//! Where time and money went, with real processes: the report sums to what there was, and a budget holds what costs more.

use muster_tests::{Cluster, until};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// So dear that a GPU costs a USD in a second.
const PRICE: &str = "usd_per_hour=7200";

fn report(cluster: &Cluster, by: &str) -> Value {
    cluster.cli.json(&["cost", "report", "--by", by]).expect("a document")
}

#[test]
fn every_gpu_second_is_in_one_class_and_a_budget_is_kept() {
    let cluster = Cluster::start(1, 1, &["--gpus", "2xH100-80GB", "--label", PRICE]);
    cluster.wait_workers(1);
    // 1. A job that succeeds: its time is useful, the rest is idle, and the sum is what there was.
    let short = cluster.file(
        "short.json",
        &json!({"name": "short", "queue": "a", "labels": {"team": "vision"}, "tasks": {"t": {"run": "sleep 2", "resources": {"gpus": 1}}}})
            .to_string(),
    );
    let job = cluster.submit(&short);
    let done = cluster.finished(job, SOON);
    assert_eq!(done["state"], "succeeded", "{done:#}");
    let doc = report(&cluster, "queue");
    let number = |value: &Value| value.as_f64().unwrap_or(-1.0);
    let total = &doc["total"]["gpu_seconds"];
    assert!((number(&total["total"]) - number(&doc["capacity_gpu_seconds"])).abs() < 0.001, "{doc:#}");
    let row = |doc: &Value, key: &str| {
        let rows = doc["rows"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["key"] == key).unwrap_or_default()
    };
    let queue = row(&doc, "a");
    let useful = number(&queue["gpu_seconds"]["useful"]);
    assert!((2.0..20.0).contains(&useful), "{doc:#}");
    assert!((number(&queue["usd"]["useful"]) - useful).abs() < 0.01, "a USD a second: {doc:#}");
    assert!(number(&row(&doc, "")["gpu_seconds"]["idle"]) > useful, "{doc:#}");
    let team = cluster.cli.json(&["cost", "report", "--by", "label", "--label", "team"]).expect("a document");
    assert!((number(&row(&team, "vision")["gpu_seconds"]["useful"]) - useful).abs() < 0.001, "{team:#}");
    let jobs = report(&cluster, "job");
    assert_eq!(row(&jobs, &job.to_string())["name"], "short", "{jobs:#}");
    // 2. What is forecast to cost more than its budget is refused.
    let dear = json!({"name": "dear", "budget": {"usd": 5}, "tasks": {"t": {"run": "sleep 60", "timeout": "60s", "resources": {"gpus": 1}}}});
    let refused =
        cluster.cli.run(&["submit", &cluster.file("dear.json", &dear.to_string()), "--output", "json"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(
        refused.stdout.contains("BUDGET_EXCEEDED") || refused.stderr.contains("BUDGET_EXCEEDED"),
        "{refused:?}"
    );
    // 3. What says nothing of its time is held when it has cost too much: looked at when a budget is set, and each minute.
    let long =
        json!({"name": "long", "queue": "b", "tasks": {"t": {"run": "sleep 600", "resources": {"gpus": 1}}}});
    let long = cluster.submit(&cluster.file("long.json", &long.to_string()));
    until("it runs and has cost something", SOON, || {
        let doc = report(&cluster, "queue");
        let spent = number(&row(&doc, "b")["usd"]["useful"]);
        if spent > 0.0 { Ok(()) } else { Err(format!("{doc:#}")) }
    });
    let set = cluster.cli.run(&["budget", "set", "queue:b", "--usd", "0.000001", "--on-exceed", "hold"]);
    assert_eq!(set.code, Some(0), "{set:?}");
    until("it is held", SOON, || {
        let doc = cluster.cli.json(&["show", &long.to_string()]).expect("a document");
        let cause = doc["tasks"][0]["attempts"][0]["cause"].clone();
        if doc["state"] == "held" && cause == "evicted(budget)" { Ok(()) } else { Err(format!("{doc:#}")) }
    });
    let budgets = cluster.cli.json(&["budget", "show"]).expect("a document");
    assert_eq!(budgets["budgets"][0]["scope"], "queue:b", "{budgets:#}");
    assert_eq!(budgets["budgets"][0]["alerts"], json!([50, 80, 100]), "{budgets:#}");
}
