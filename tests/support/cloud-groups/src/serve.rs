//! HTTP: which cloud is asked, what is wrong today, and who answers. A further cloud is one more arm of each `match`.

use crate::call::Call;
use crate::fault::{Fault, FaultKind, take};
use crate::{State, asg, control};
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
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// Most bytes of a question's body.
const BODY_MAX: usize = 1 << 20;
/// Most calls that are remembered.
const CALLS_MAX: usize = 100_000;

/// What a cloud answers.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Of an error: its code, for the record.
    pub code: String,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }
}

/// What is asked of a cloud.
#[derive(Debug)]
pub struct Ask<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl Ask<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Whose interface is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloud {
    Asg,
}

impl Cloud {
    fn of(ask: &Ask<'_>) -> Option<Self> {
        // All calls of AWS's query protocol are POSTs to the root.
        (*ask.method == Method::POST && ask.path == "/").then_some(Self::Asg)
    }

    /// What is called, before it is known what comes of it.
    fn call(self, ask: &Ask<'_>) -> Call {
        match self {
            Self::Asg => asg::api::call(ask),
        }
    }

    fn answer(self, state: &mut State, ask: &Ask<'_>, call: &Call) -> Reply {
        let now = state.now();
        match self {
            Self::Asg => asg::api::answer(&mut state.asg, ask, call, now),
        }
    }

    /// A fault in the cloud's own words.
    fn refuse(self, fault: &Fault) -> Reply {
        match self {
            Self::Asg => asg::api::refuse(fault),
        }
    }
}

/// Serves until it is dropped.
pub async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = state.clone();
        connections.spawn(async move {
            let serve = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Out = Response<BoxBody<Bytes, io::Error>>;

async fn answer(state: &Mutex<State>, request: Request<Incoming>) -> Out {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await.map(|body| body.to_bytes()) else {
        return respond(Reply::new(413, ""));
    };
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    if let Some(rest) = path.strip_prefix("/_control") {
        return respond(controlled(state, &head.method, rest.trim_start_matches('/'), &body));
    }
    let ask = Ask { method: &head.method, path, query, headers: &head.headers, body: &body };
    // 1. Which cloud.
    let Some(cloud) = Cloud::of(&ask) else { return respond(Reply::new(404, "")) };
    let mut call = cloud.call(&ask);
    // 2. What is wrong, and what is done all the same.
    let (fault, reply) = {
        let mut state = state.lock();
        let fault = take(&mut state.faults, &call.action);
        let reply = match &fault {
            None => cloud.answer(&mut state, &ask, &call),
            Some(fault) if fault.kind.is_done() => cloud.answer(&mut state, &ask, &call),
            Some(fault) => broken(cloud, fault),
        };
        call.status = reply.status;
        call.code.clone_from(&reply.code);
        if state.calls.len() < CALLS_MAX {
            state.calls.push(call);
        }
        (fault, reply)
    };
    // 3. How it is told.
    match fault.map(|fault| (fault.kind, fault.delay_ms)) {
        Some((FaultKind::Hang, _)) => tokio::time::sleep(FOR_EVER).await,
        Some((FaultKind::Slow, ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Some((FaultKind::Lost, _)) => return cut(reply),
        _ => {}
    }
    respond(reply)
}

/// What a fault says when nothing is done.
fn broken(cloud: Cloud, fault: &Fault) -> Reply {
    match fault.kind {
        FaultKind::Error | FaultKind::Throttle => cloud.refuse(fault),
        FaultKind::Html => Reply::new(fault.status, "<html><body><h1>somebody in between</h1></body></html>"),
        FaultKind::Junk => Reply::new(200, "\u{0}\u{1}{\"]<html>\r\n\r\n"),
        FaultKind::Hang | FaultKind::Lost | FaultKind::Slow => Reply::default(),
    }
}

fn controlled(state: &Mutex<State>, method: &Method, what: &str, body: &[u8]) -> Reply {
    let mut state = state.lock();
    let done = match *method {
        Method::GET => return Reply::new(200, control::seen(&mut state).to_string()),
        Method::PUT => {
            let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
            match value {
                Ok(value) => control::put(&mut state, what, &value),
                Err(error) => return Reply::new(400, error.to_string()),
            }
        }
        Method::DELETE => control::delete(&mut state, what),
        _ => return Reply::new(405, ""),
    };
    match done {
        Ok(()) => Reply::new(200, json!({}).to_string()),
        Err(error) => Reply::new(400, error.to_string()),
    }
}

fn respond(reply: Reply) -> Out {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = Full::from(reply.body).map_err(|never: Infallible| match never {}).boxed();
    response.body(body).unwrap_or_else(|_| {
        Response::new(Full::default().map_err(|never: Infallible| match never {}).boxed())
    })
}

/// Half of it, then the end of the connection.
fn cut(reply: Reply) -> Out {
    let length = reply.body.len();
    let half = Bytes::from(reply.body).slice(..length / 2);
    let mut response = respond(Reply { status: reply.status, headers: reply.headers, ..Reply::default() });
    let parts = [Ok(Frame::data(half)), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    *response.body_mut() = BodyExt::boxed(StreamBody::new(stream::iter(parts)));
    response
}
