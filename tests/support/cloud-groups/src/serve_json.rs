//! A server of JSON: one cloud behind a lock, a record of every call, and faults instead of answers.

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// Most bytes of a question's body.
const BODY_MAX: usize = 1 << 20;
/// Pieces of 64 KiB of an answer that is too large: 16 MiB.
const LARGE_PIECES: usize = 256;

/// What is asked.
#[derive(Debug)]
pub struct Ask<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// The query, decoded.
    pub query: &'a [(String, String)],
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl Ask<'_> {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(self.query, name)
    }

    /// The body as JSON; null: it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.body).unwrap_or_default()
    }

    /// A field of a body that is a form.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let form: Vec<_> = url::form_urlencoded::parse(self.body).into_owned().collect();
        find(&form, name).map(str::to_owned)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    #[must_use]
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A call as it was made. Tokens and secrets are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `POST`, …
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// The body, if it is JSON.
    pub body: Value,
    /// 0: no answer was given.
    pub status: u16,
}

impl Call {
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The last part of the path.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What is wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    /// Only where the path has this in it.
    pub path: &'static str,
    /// So many calls; then all is well again.
    pub times: usize,
}

/// Instead of an answer, but for `Late`.
#[derive(Debug, Clone)]
pub enum Kind {
    Answer(Reply),
    /// Nothing at all. The call is not done.
    Hang,
    /// The call is done, and its answer lost.
    Lost,
    /// The right answer after a while.
    Late(Duration),
    /// 200, and bytes that mean nothing.
    Junk,
    /// 200, and far more than anybody wants.
    Large,
    /// 200, and a connection that ends in the middle.
    Cut,
}

/// One cloud.
pub trait Cloud: Send + 'static {
    fn answer(&mut self, ask: &Ask<'_>) -> Reply;
}

/// A running server; it ends with its value.
#[derive(Debug)]
pub struct Server<C: Cloud> {
    address: SocketAddr,
    shared: Arc<Shared<C>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared<C> {
    cloud: Mutex<C>,
    calls: Mutex<Vec<Call>>,
    faults: Mutex<Vec<Fault>>,
    /// How many calls have arrived.
    arrived: watch::Sender<usize>,
}

impl<C: Cloud> Server<C> {
    /// Listens on a port of this machine that is free; `make` gets its address.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(make: impl FnOnce(&str) -> C) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            cloud: Mutex::new(make(&format!("http://{address}"))),
            calls: Mutex::default(),
            faults: Mutex::default(),
            arrived: watch::channel(0).0,
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, task })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at the cloud, or changes it by hand.
    pub fn with<T>(&self, look: impl FnOnce(&mut C) -> T) -> T {
        look(&mut self.shared.cloud.lock())
    }

    pub fn fault(&self, fault: Fault) {
        self.shared.faults.lock().push(fault);
    }

    /// Every call so far, in order of their ends.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().clone()
    }

    /// Every call since the last time.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.calls.lock())
    }

    /// Returns once `count` calls in all have arrived, answered or not.
    pub async fn arrived(&self, count: usize) {
        // The sender lives as long as we do.
        let _ = self.shared.arrived.subscribe().wait_for(|arrived| *arrived >= count).await;
    }

    /// How many calls in all have arrived.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        *self.shared.arrived.borrow()
    }
}

impl<C: Cloud> Drop for Server<C> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<C: Cloud>(listener: TcpListener, shared: Arc<Shared<C>>) {
    // Connections end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            let serve = service_fn(move |request| {
                let shared = shared.clone();
                async move { answer(&shared, request).await }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Out = Response<BoxBody<Bytes, io::Error>>;

/// An error ends the connection without an answer.
async fn answer<C: Cloud>(shared: &Shared<C>, request: Request<Incoming>) -> io::Result<Out> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path();
    let query: Vec<_> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    // 1. What is wrong.
    let fault = {
        let mut faults = shared.faults.lock();
        let mut hit = faults.iter_mut().find(|fault| fault.times > 0 && path.contains(fault.path));
        hit.as_mut().map(|fault| {
            fault.times -= 1;
            fault.kind.clone()
        })
    };
    // 2. What is answered.
    let ask = Ask { method: &head.method, path, query: &query, headers: &head.headers, body: &body };
    let reply = match &fault {
        None | Some(Kind::Late(_) | Kind::Lost) => Some(shared.cloud.lock().answer(&ask)),
        Some(Kind::Answer(reply)) => Some(reply.clone()),
        Some(Kind::Hang) => None,
        Some(Kind::Junk | Kind::Large | Kind::Cut) => Some(Reply::new(200, "")),
    };
    // 3. The record, before whoever asked hears anything.
    shared.calls.lock().push(Call {
        method: head.method.to_string(),
        path: path.to_owned(),
        query: query.clone(),
        body: ask.json(),
        status: reply.as_ref().map_or(0, |reply| reply.status),
    });
    shared.arrived.send_modify(|arrived| *arrived += 1);
    let broken = match fault {
        None | Some(Kind::Answer(_)) => None,
        Some(Kind::Late(pause)) => {
            tokio::time::sleep(pause).await;
            None
        }
        Some(Kind::Hang) => {
            tokio::time::sleep(FOR_EVER).await;
            None
        }
        Some(Kind::Lost) => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Some(Kind::Junk) => Some(pieces(vec![Ok(b"\x00\xff{\"]<html>".to_vec())])),
        Some(Kind::Large) => Some(pieces((0..LARGE_PIECES).map(|_| Ok(vec![b'['; 64 << 10])).collect())),
        Some(Kind::Cut) => {
            let reset = io::Error::from(io::ErrorKind::ConnectionReset);
            Some(pieces(vec![Ok(b"{\"targetSize\": 1".to_vec()), Err(reset)]))
        }
    };
    let reply = reply.unwrap_or_else(|| Reply::new(500, ""));
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let whole = || Full::from(reply.body).map_err(|never: Infallible| match never {}).boxed();
    response.body(broken.unwrap_or_else(whole)).map_err(io::Error::other)
}

fn pieces(pieces: Vec<io::Result<Vec<u8>>>) -> BoxBody<Bytes, io::Error> {
    let frames = pieces.into_iter().map(|piece| piece.map(|piece| Frame::data(Bytes::from(piece))));
    StreamBody::new(stream::iter(frames)).boxed()
}
