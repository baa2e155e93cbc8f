//! What the documentation of the clouds says of their metadata services, asked of the emulator in plain HTTP.

use muster_cloud_metadata::Emulator;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Case(Emulator);

impl Case {
    async fn new() -> Self {
        Self(Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap())
    }

    /// Status, head and body of the answer to `PUT /path`, with these header lines.
    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.0.address()).await.unwrap();
        let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let text = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn status(&self, line: &str, headers: &[&str]) -> u16 {
        self.ask(line, headers, "").await.0
    }
}

#[tokio::test]
async fn aws_wants_tokens_and_gives_them_only_directly() {
    let case = Case::new().await;
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: ";
    let put = "PUT /w1/latest/api/token";
    assert_eq!(case.status(put, &[]).await, 400);
    for bad in ["0", "21601", "-1", "six"] {
        assert_eq!(case.status(put, &[&format!("{ttl}{bad}")]).await, 400, "{bad}");
    }
    assert_eq!(case.status(put, &[&format!("{ttl}60"), "X-Forwarded-For: 10.0.0.1"]).await, 403);
    assert_eq!(case.status("GET /w1/latest/api/token", &[]).await, 405);
    let (status, head, token) = case.ask(put, &[&format!("{ttl}60")], "").await;
    assert_eq!((status, token.len()), (200, 56));
    assert!(head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"), "{head}");
    let action = "GET /w1/latest/meta-data/spot/instance-action";
    let with = format!("X-aws-ec2-metadata-token: {token}");
    assert_eq!(case.status(action, &[]).await, 401);
    assert_eq!(case.status(action, &["X-aws-ec2-metadata-token: x"]).await, 401);
    assert_eq!(case.status(action, &[&with]).await, 404);
    assert_eq!(case.status("POST /w1/latest/meta-data/spot/instance-action", &[&with]).await, 405);
    case.0.put("w1", "aws/instance-action", &json!({"action": "terminate", "in_ms": 120_000})).unwrap();
    let (status, head, body) = case.ask(action, &[&with], "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["action"]), (200, &json!("terminate")));
    let time = body["time"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && head.contains("\r\ndate: "), "{time} {head}");
    // A token is of one machine.
    assert_eq!(case.status("GET /w2/latest/meta-data/spot/instance-action", &[&with]).await, 401);
    case.0.delete("w1", "aws/tokens").unwrap();
    assert_eq!(case.status(action, &[&with]).await, 401);
}

#[tokio::test]
async fn google_wants_its_header_and_waits_for_changes() {
    let case = Case::new().await;
    let get = "GET /computeMetadata/v1/instance/preempted";
    let flavour = ["Metadata-Flavor: Google"];
    assert_eq!(case.status(get, &[]).await, 403);
    assert_eq!(case.status(get, &["Metadata-Flavor: google"]).await, 403);
    assert_eq!(case.status(get, &["Metadata-Flavor: Google", "X-Forwarded-For: 10.0.0.1"]).await, 403);
    assert_eq!(case.status("GET /computeMetadata/v1/instance/nothing", &flavour).await, 404);
    let (status, head, body) = case.ask(get, &flavour, "").await;
    assert_eq!((status, body.as_str()), (200, "FALSE"));
    assert!(head.contains("metadata-flavor: google"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    // Nothing changes: the wait ends with what there is. Another tag: no wait at all.
    let wait = |tag: &str, s: u32| format!("{get}?wait_for_change=true&last_etag={tag}&timeout_sec={s}");
    assert_eq!(case.ask(&wait(&tag, 1), &flavour, "").await.2, "FALSE");
    assert_eq!(case.ask(&wait("0", 3600), &flavour, "").await.2, "FALSE");
    // Something changes in the middle, also where no tag was given.
    for line in [wait(&tag, 3600), format!("{get}?wait_for_change=true")] {
        case.0.delete("", "gcp/preempted").unwrap();
        let (answer, ()) = tokio::join!(case.ask(&line, &flavour, ""), async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            case.0.put("", "gcp/preempted", &json!(true)).unwrap();
        });
        assert_eq!(answer.2, "TRUE", "{line}");
    }
}

#[tokio::test]
async fn azure_wants_its_header_and_a_version_and_begins_what_is_acknowledged() {
    let case = Case::new().await;
    let events = "/w1/metadata/scheduledevents?api-version=2020-07-01";
    let get = format!("GET {events}");
    let header = ["Metadata: true"];
    assert_eq!(case.status(&get, &[]).await, 400);
    assert_eq!(case.status(&get, &["Metadata: true", "X-Forwarded-For: 10.0.0.1"]).await, 400);
    for bad in ["GET /w1/metadata/scheduledevents", "GET /w1/metadata/scheduledevents?api-version=1999-01-01"]
    {
        let (status, _, body) = case.ask(bad, &header, "").await;
        assert!(status == 400 && body.contains("api-version"), "{body}");
    }
    assert_eq!(case.status("GET /w1/metadata/nothing", &header).await, 404);
    let name = "GET /w1/metadata/instance/compute/name?api-version=2021-02-01&format=text";
    assert_eq!(case.ask(name, &header, "").await.2, "w1");
    let document = async || serde_json::from_str::<Value>(&case.ask(&get, &header, "").await.2).unwrap();
    assert_eq!(document().await, json!({"DocumentIncarnation": 1, "Events": []}));
    case.0.put("w1", "azure/events/e1", &json!({"type": "Preempt", "in_ms": 30_000})).unwrap();
    let doc = document().await;
    assert_eq!(
        (&doc["DocumentIncarnation"], &doc["Events"][0]["EventStatus"]),
        (&json!(2), &json!("Scheduled"))
    );
    assert!(doc["Events"][0]["NotBefore"].as_str().unwrap().ends_with(" GMT"), "{doc}");
    let post = format!("POST {events}");
    let start = |id: &str| json!({"StartRequests": [{"EventId": id}]}).to_string();
    assert_eq!(case.ask(&post, &header, &start("e9")).await.0, 400);
    assert_eq!(case.ask(&post, &header, "{}").await.0, 400);
    assert_eq!(case.ask(&post, &header, &start("e1")).await.0, 200);
    let doc = document().await;
    assert_eq!(
        (&doc["Events"][0]["EventStatus"], &doc["Events"][0]["NotBefore"]),
        (&json!("Started"), &json!(""))
    );
    assert_eq!(case.0.seen("w1")["acknowledged"], json!(["e1"]));
}

#[tokio::test]
async fn it_is_told_over_http_too() {
    let case = Case::new().await;
    let put = |what: &str| format!("PUT /_control/w1/{what}");
    assert_eq!(case.ask(&put("gcp/preempted"), &[], "true").await.0, 200);
    assert_eq!(case.ask(&put("gcp/preempted"), &[], "7").await.0, 400);
    assert_eq!(case.ask(&put("gcp/nothing"), &[], "true").await.0, 400);
    let get = "GET /w1/computeMetadata/v1/instance/preempted";
    assert_eq!(case.ask(get, &["Metadata-Flavor: Google"], "").await.2, "TRUE");
    assert_eq!(case.ask("DELETE /_control/w1/gcp/preempted", &[], "").await.0, 200);
    let seen: Value = serde_json::from_str(&case.ask("GET /_control/w1", &[], "").await.2).unwrap();
    assert_eq!(seen["requests"][0]["status"], 200);
}
