//! A receiver of web hooks: over real HTTP, checks signatures with its own code, and does today what it is told.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What both sides know.
pub const SECRET: &str = "a secret that nobody else may see";
/// How old a signature may be.
const WINDOW: Duration = Duration::from_secs(300);

/// What is answered to a call whose signature is right.
#[derive(Clone)]
pub enum Answer {
    Is(u16, Vec<(&'static str, String)>, Bytes),
    /// The connection stays open and nothing comes.
    Never,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Is(status, Vec::new(), body.into())
    }

    pub fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Is(status, mut headers, body) => {
                headers.push((name, value.into()));
                Self::Is(status, headers, body)
            }
            Self::Never => Self::Never,
        }
    }
}

/// A call whose signature was right.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub order: Value,
    pub key: Option<String>,
}

/// Ends when it is dropped.
pub struct Receiver {
    pub address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct State {
    answer: Answer,
    calls: Vec<Call>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub async fn start(answer: Answer) -> Self {
        Self::serve(answer, None).await
    }

    /// The same over TLS.
    pub async fn start_tls(answer: Answer, acceptor: TlsAcceptor) -> Self {
        Self::serve(answer, Some(acceptor)).await
    }

    async fn serve(answer: Answer, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { answer, calls: Vec::new() }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let serve = service_fn(move |request| receive(state.clone(), request));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let http = http1::Builder::new();
                    let Some(acceptor) = acceptor else {
                        let _ = http.serve_connection(TokioIo::new(stream), serve).await;
                        return;
                    };
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = http.serve_connection(TokioIo::new(stream), serve).await;
                    }
                });
            }
        });
        Self { address, state, task }
    }

    pub fn answers(&self, answer: Answer) {
        self.state.lock().unwrap().answer = answer;
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }
}

async fn receive(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, 1 << 20).collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    if head.method != "POST" || header("content-type").as_deref() != Some("application/json") {
        return Ok(reply(415, &[], "POST JSON"));
    }
    if let Err(why) = verify(&header("muster-signature").unwrap_or_default(), &body) {
        return Ok(reply(401, &[], why));
    }
    let answer = {
        let mut state = state.lock().unwrap();
        let order = serde_json::from_slice(&body).unwrap();
        state.calls.push(Call { path: head.uri.path().to_owned(), order, key: header("idempotency-key") });
        state.answer.clone()
    };
    match answer {
        Answer::Is(status, headers, body) => Ok(reply(status, &headers, body)),
        Answer::Never => std::future::pending().await,
    }
}

fn reply(status: u16, headers: &[(&'static str, String)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(body.into())).unwrap()
}

fn verify(header: &str, body: &[u8]) -> Result<(), &'static str> {
    let mut parts = header.split(',').filter_map(|part| part.split_once('='));
    let (Some(("t", at)), Some(("v1", given)), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err("no signature");
    };
    let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(at.parse().map_err(|_| "no time")?);
    let age = SystemTime::now().duration_since(sent).unwrap_or_else(|ahead| ahead.duration());
    if age > WINDOW {
        return Err("an old signature");
    }
    let signed = [at.as_bytes(), b".", body].concat();
    let expected = hex(&hmac(SECRET.as_bytes(), &signed));
    // A test has no secret to keep from a stopwatch.
    if expected == given { Ok(()) } else { Err("a wrong signature") }
}

/// The header of a call that was sent at `at`.
pub fn signature(at: u64, body: &str) -> String {
    let sum = hmac(SECRET.as_bytes(), format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex(&sum))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 2104 with SHA-256, for keys of at most a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad =
        |byte: u8| -> Vec<u8> { (0..64).map(|i| key.get(i).copied().unwrap_or_default() ^ byte).collect() };
    let inner = Sha256::digest([pad(0x36), text.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}
