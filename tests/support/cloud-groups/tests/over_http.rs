//! What tests of real processes say and hear: all of it in plain HTTP.

use muster_cloud_groups::Emulator;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Case(Emulator);

impl Case {
    async fn new() -> Self {
        Self(Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap())
    }

    /// Status and body of the answer to `PUT /path`, with these header lines.
    async fn ask(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.0.address()).await.unwrap();
        let length = body.len();
        let text = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn a_group_is_made_asked_for_and_looked_at() {
    let case = Case::new().await;
    let group = json!({"max": 2, "desired": 1}).to_string();
    assert_eq!(case.ask("PUT /_control/asg/groups/gpu", "", &group).await.0, 200);
    assert_eq!(case.ask("PUT /_control/asg/groups/gpu", "", r#"{"most": 2}"#).await.0, 400);
    assert_eq!(case.ask("PUT /_control/asg/in-service", "", "").await.0, 200);
    assert_eq!(case.ask("DELETE /_control/nothing", "", "").await.0, 400);

    let describe = "Action=DescribeAutoScalingGroups&Version=2011-01-01";
    let (status, body) = case.ask("POST /", "", describe).await;
    assert!(status == 403 && body.contains("<Code>MissingAuthenticationToken</Code>"), "{body}");
    let signed = "authorization: AWS4-HMAC-SHA256 Credential=K/20260101/eu-west-1/autoscaling/aws4_request, \
                  SignedHeaders=host, Signature=00\r\n";
    let (status, body) = case.ask("POST /", signed, describe).await;
    assert!(status == 200 && body.contains("<LifecycleState>InService</LifecycleState>"), "{body}");
    let (status, body) = case.ask("POST /", signed, "Action=DeleteAutoScalingGroup").await;
    assert!(status == 400 && body.contains("<Code>InvalidAction</Code>"), "{body}");
    // With a key, a signature that nobody made is refused.
    assert_eq!(case.ask("PUT /_control/asg/key", "", r#"{"id": "K", "secret": "s"}"#).await.0, 200);
    let (status, body) = case.ask("POST /", signed, describe).await;
    assert!(status == 403 && body.contains("<Code>SignatureDoesNotMatch</Code>"), "{body}");

    let seen: Value = serde_json::from_str(&case.ask("GET /_control", "", "").await.1).unwrap();
    let codes: Vec<&str> =
        seen["calls"].as_array().unwrap().iter().map(|call| call["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["MissingAuthenticationToken", "", "InvalidAction", "SignatureDoesNotMatch"]);
    assert_eq!(seen["asg"]["gpu"]["instances"].as_object().unwrap().len(), 1);
}
