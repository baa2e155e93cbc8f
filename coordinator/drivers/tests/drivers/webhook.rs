//! `webhook` against a receiver that checks what it gets.

use crate::open;
use crate::webhook_server::{Answer, Receiver, SECRET, signature};
use muster_drivers::{Driver, DriverError, Group, Instance, Phase};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

struct Rig {
    receiver: Receiver,
    driver: Arc<dyn Driver>,
    dir: TempDir,
}

impl Rig {
    async fn new(answer: Answer) -> Self {
        Self::with(answer, SECRET, "60s").await
    }

    async fn with(answer: Answer, secret: &str, timeout: &str) -> Self {
        let receiver = Receiver::start(answer).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let driver = open(&format!(
            "kind = \"webhook\"\nurl = \"http://{}/hooks/private-part?key=hidden\"\nsecret_file = {file:?}\ntimeout = {timeout:?}",
            receiver.address
        ))
        .unwrap();
        Self { receiver, driver, dir }
    }

    /// The error of a call, which may not show what is secret.
    async fn error(&self) -> DriverError {
        let error = self.driver.set_desired(1, 1).await.unwrap_err();
        for hidden in [SECRET, "private-part", "hidden"] {
            assert!(!format!("{error} {error:?} {:?}", self.driver).contains(hidden), "{error:?}");
        }
        error
    }
}

#[tokio::test]
async fn orders_are_signed_and_say_what_is_to_be_done() {
    let rig = Rig::new(Answer::new(204, "")).await;

    rig.driver.set_desired(3, 41).await.unwrap();
    rig.driver.terminate("i-1", 42).await.unwrap();
    rig.driver.hold("i-2").await.unwrap();
    rig.driver.release("i-2").await.unwrap();
    rig.driver.protect(&["i-3".to_owned()], true).await.unwrap();

    let mut calls = rig.receiver.calls();
    for call in &mut calls {
        let sent = call.order.as_object_mut().unwrap().remove("sent").unwrap();
        assert!(sent.as_str().is_some_and(|text| text.ends_with('Z')), "{sent}");
        assert_eq!(call.path, "/hooks/private-part");
    }
    let calls: Vec<(Value, Option<&str>)> =
        calls.iter().map(|call| (call.order.clone(), call.key.as_deref())).collect();
    assert_eq!(
        calls,
        [
            (
                json!({"pool": "spot", "action": "set_desired", "desired": 3, "generation": 41}),
                Some("spot/41/set_desired/")
            ),
            (
                json!({"pool": "spot", "action": "terminate", "instance": "i-1", "generation": 42}),
                Some("spot/42/terminate/i-1")
            ),
            (json!({"pool": "spot", "action": "hold", "instance": "i-2"}), None),
            (json!({"pool": "spot", "action": "release", "instance": "i-2"}), None),
            (json!({"pool": "spot", "action": "protect", "instances": ["i-3"], "on": true}), None),
        ]
    );
}

#[tokio::test]
async fn the_same_call_has_the_same_key() {
    let rig = Rig::new(Answer::new(200, "done")).await;
    rig.driver.terminate("i-1", 42).await.unwrap();
    rig.driver.terminate("i-1", 42).await.unwrap();
    let keys: Vec<_> = rig.receiver.calls().into_iter().map(|call| call.key.unwrap()).collect();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_group_is_what_it_answers() {
    let group = r#"{"desired": 1, "min": 1, "max": 4, "instances": [{"id": "a", "phase": "held", "protected": true, "image": "v1"}]}"#;
    let rig = Rig::new(Answer::new(200, group)).await;
    let instances =
        vec![Instance { id: "a".into(), phase: Phase::Held, protected: true, image: Some("v1".into()) }];
    assert_eq!(
        rig.driver.describe().await,
        Ok(Some(Group { desired: 1, min: 1, max: 4, instances, ..Group::default() }))
    );
    assert_eq!(rig.receiver.calls()[0].order["action"], "describe");

    rig.receiver.answers(Answer::new(204, ""));
    assert_eq!(rig.driver.describe().await, Ok(None));

    rig.receiver.answers(Answer::new(200, "<html>"));
    assert!(matches!(rig.driver.describe().await, Err(DriverError::Garbled { .. })));
}

#[tokio::test]
async fn a_wrong_secret_is_denied() {
    let rig = Rig::with(Answer::new(204, ""), "another secret, long enough", "60s").await;
    let error = rig.error().await;
    assert!(
        matches!(&error, DriverError::Denied { reason, .. } if reason.contains("a wrong signature")),
        "{error}"
    );
    assert!(rig.receiver.calls().is_empty());
}

#[tokio::test]
async fn each_refusal_is_told_apart() {
    let rig = Rig::new(Answer::new(204, "")).await;
    let what = || format!("webhook http://{} of pool spot: set_desired", rig.receiver.address);
    let unavailable = |reason: &str| DriverError::Unavailable { what: what(), reason: reason.into() };
    for (answer, expected) in [
        (Answer::new(500, "\nbroken\nby day"), unavailable("500 Internal Server Error: broken")),
        (Answer::new(503, ""), unavailable("503 Service Unavailable")),
        (
            Answer::new(503, "").with("retry-after", "7"),
            DriverError::Throttled { what: what(), after: Some(Duration::from_secs(7)) },
        ),
        (
            Answer::new(429, "").with("retry-after", "99999999"),
            DriverError::Throttled { what: what(), after: Some(Duration::from_secs(99_999_999)) },
        ),
        (Answer::new(429, ""), DriverError::Throttled { what: what(), after: None }),
        (Answer::new(403, "no"), DriverError::Denied { what: what(), reason: "403 Forbidden: no".into() }),
        (Answer::new(404, ""), DriverError::NoGroup { what: what() }),
        (
            Answer::new(409, "at most 4"),
            DriverError::Refused { what: what(), reason: "409 Conflict: at most 4".into() },
        ),
    ] {
        rig.receiver.answers(answer);
        assert_eq!(rig.error().await, expected);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Receiver::start(Answer::new(204, "")).await;
    let place = format!("http://{}/", other.address);
    let rig = Rig::new(Answer::new(307, "").with("location", place)).await;

    let error = rig.error().await;

    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason.contains("redirects are not followed")),
        "{error}"
    );
    assert!(other.calls().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left() {
    let rig = Rig::with(Answer::Never, SECRET, "200ms").await;
    let error = rig.error().await;
    assert!(matches!(error, DriverError::TimedOut { seconds: 1, .. }), "{error}");
    assert_eq!(rig.receiver.calls().len(), 1, "it was reached");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let rig = Rig::new(Answer::new(200, vec![b' '; 3 << 20])).await;
    let error = rig.driver.describe().await.unwrap_err();
    assert!(matches!(&error, DriverError::Garbled { reason, .. } if reason.contains("1048576")), "{error}");
    // Of a refusal the beginning is enough.
    rig.receiver.answers(Answer::new(409, "at most 4\n".repeat(1 << 18)));
    let error = rig.error().await;
    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason == "409 Conflict: at most 4"),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let rig = Rig::new(Answer::new(204, "")).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let file = rig.dir.path().join("secret");
    let driver =
        open(&format!("kind = \"webhook\"\nurl = \"http://{free}/hidden\"\nsecret_file = {file:?}")).unwrap();
    let error = driver.set_desired(1, 1).await.unwrap_err();
    assert!(matches!(error, DriverError::Unavailable { .. }) && error.is_transient(), "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
}

#[tokio::test]
async fn tls_takes_the_authority_that_was_named_and_no_other() {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![own.cert.der().clone()],
        PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into()),
    );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let receiver = Receiver::start_tls(Answer::new(204, ""), acceptor).await;
    let port = receiver.address.rsplit_once(':').unwrap().1;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let secret = file("secret", SECRET);
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let call = async |settings: String| {
        let url = format!("url = \"https://localhost:{port}/\"\nsecret_file = {secret:?}");
        open(&format!("kind = \"webhook\"\n{url}\n{settings}")).unwrap().set_desired(1, 1).await
    };

    assert_eq!(call(format!("ca_file = {:?}", file("own.pem", &own.cert.pem()))).await, Ok(()));
    for settings in [String::new(), format!("ca_file = {:?}", file("other.pem", &stranger.cert.pem()))] {
        let error = call(settings).await.unwrap_err();
        assert!(
            matches!(&error, DriverError::Unavailable { reason, .. } if reason.contains("certificate")),
            "{error}"
        );
    }
    assert_eq!(receiver.calls().len(), 1);
}

/// A receiver in Python as the book prints it. Ends with the test.
struct Book(Child);

impl Drop for Book {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Book {
    /// None where there is no Python.
    async fn start(secret: &std::path::Path) -> Option<(Self, SocketAddr)> {
        let page = include_str!("../../../../docs/src/autoscaling-drivers.md");
        let program = page.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let child = Command::new("python3")
            .args(["-c", program])
            .env("SECRET_FILE", secret)
            .env("PORT", address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .inspect_err(|error| eprintln!("skipped: no python3: {error}"))
            .ok()?;
        let mut book = Self(child);
        while TcpStream::connect(address).await.is_err() {
            assert_eq!(book.0.try_wait().unwrap(), None, "it has ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some((book, address))
    }
}

#[tokio::test]
async fn the_receiver_of_the_book_takes_what_is_signed_now_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    std::fs::write(&good, SECRET).unwrap();
    std::fs::write(&bad, "another secret, long enough").unwrap();
    let Some((_book, address)) = Book::start(&good).await else { return };
    let driver = |secret: &std::path::Path| {
        open(&format!("kind = \"webhook\"\nurl = \"http://{address}/\"\nsecret_file = {secret:?}")).unwrap()
    };

    assert_eq!(driver(&good).set_desired(1, 1).await, Ok(()));
    assert_eq!(driver(&good).describe().await, Ok(None));
    assert!(matches!(driver(&bad).set_desired(1, 1).await, Err(DriverError::Denied { .. })));

    // A call that somebody recorded is good for minutes, not for ever.
    let body = r#"{"pool": "spot", "action": "terminate", "instance": "i-1", "generation": 1}"#;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let send = async |header: String| {
        let request = reqwest::Client::new().post(format!("http://{address}/")).body(body);
        request.header("Muster-Signature", header).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(signature(now, body)).await, 204);
    assert_eq!(send(signature(now - 3600, body)).await, 401);
    for nonsense in ["", "t=1", "v1=é", "t=²,v1=00", "=,=,="] {
        assert_eq!(send(nonsense.to_owned()).await, 401, "{nonsense:?}");
    }
}

#[test]
fn what_is_not_there_is_said_before_the_first_call() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("secret_file = {path:?}")
    };
    let good = file("good", SECRET);
    let url = "url = \"https://scaler.example/hook\"";
    for (settings, words) in [
        (url.to_owned(), "either secret_file or secret_env"),
        (format!("{url}\n{good}\nsecret_env = \"HOOK\""), "either secret_file or secret_env"),
        (format!("{url}\nsecret_file = \"secret\""), "is a relative path"),
        (format!("{url}\nsecret_file = \"/nowhere/secret\""), "cannot read secret_file"),
        (format!("{url}\nsecret_env = \"MUSTER_TEST_NO_SUCH_VARIABLE\""), "MUSTER_TEST_NO_SUCH_VARIABLE"),
        (format!("{url}\n{}", file("short", "0123456789\n")), "the secret has 10 bytes"),
        (format!("url = \"ftp://scaler.example\"\n{good}"), "url is no address"),
        (format!("url = \"https://me:pass-word@scaler.example\"\n{good}"), "a user or a password"),
        (format!("{url}\n{good}\ntimeout = \"0s\""), "timeout is 0s"),
        (format!("{url}\n{good}\nca_file = \"/etc/hostname\""), "no certificate in PEM"),
    ] {
        let error = open(&format!("kind = \"webhook\"\n{settings}")).unwrap_err();
        assert!(
            matches!(error, DriverError::Unusable { .. }) && error.to_string().contains(words),
            "{error}"
        );
        assert!(!error.to_string().contains("pass-word"), "{error}");
    }
    let config = format!("kind = \"webhook\"\nurl = \"https://scaler.example/hidden\"\n{good}");
    let config: muster_drivers::DriverConfig = toml::from_str(&config).unwrap();
    assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
}
