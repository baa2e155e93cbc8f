//! HTTP: whose machine is asked, what is wrong today, and who answers.

use crate::fault::FaultKind;
use crate::{Clouds, aws, azure, gcp};
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
use jiff::Timestamp;
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

/// What a cloud answers.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

/// What is asked of a cloud, apart from the machine.
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

    /// A parameter of the query, as it stands there.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, v)| v)
    }
}

/// Serves until it is dropped.
pub async fn accept(listener: TcpListener, clouds: Arc<Clouds>) {
    // Connections end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let clouds = clouds.clone();
        connections.spawn(async move {
            let serve = service_fn(move |request| {
                let clouds = clouds.clone();
                async move { Ok::<_, Infallible>(answer(&clouds, request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Out = Response<BoxBody<Bytes, io::Error>>;

async fn answer(clouds: &Clouds, request: Request<Incoming>) -> Out {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await.map(|body| body.to_bytes()) else {
        return respond(Reply::new(413, ""), Timestamp::now());
    };
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    if let Some(rest) = path.strip_prefix("/_control/") {
        return respond(control(clouds, &head.method, rest, &body), Timestamp::now());
    }
    // 1. Whose it is.
    let (machine, path) = split(path);
    let full = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    // 2. What is wrong.
    let (fault, now) = clouds.with(machine, |m| (m.fault.clone(), m.now()));
    if let Some(fault) = fault.filter(|fault| path.contains(fault.path.as_str())) {
        let status = if fault.kind == FaultKind::Status { fault.status } else { 200 };
        clouds.with(machine, |m| m.asked(&head.method, &full, status));
        return broken(fault.kind, status).await;
    }
    // 3. Who answers.
    let ask = Ask { method: &head.method, path, query, headers: &head.headers, body: &body };
    let reply = if path.starts_with("/latest/") {
        clouds.with(machine, |m| aws::answer(m, &ask))
    } else if path.starts_with("/computeMetadata/") {
        gcp::answer(clouds, machine, &ask).await
    } else if path.starts_with("/metadata/") {
        clouds.with(machine, |m| azure::answer(m, &ask))
    } else {
        Reply::new(404, "")
    };
    clouds.with(machine, |m| m.asked(&head.method, &full, reply.status));
    respond(reply, now)
}

/// `/w1/latest/…` is machine `w1`; `/latest/…` the one without a name.
fn split(path: &str) -> (&str, &str) {
    let roots = ["/latest/", "/computeMetadata/", "/metadata/"];
    if roots.iter().any(|root| path.starts_with(root)) {
        return ("", path);
    }
    let rest = path.trim_start_matches('/');
    rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
}

fn control(clouds: &Clouds, method: &Method, rest: &str, body: &[u8]) -> Reply {
    let (machine, what) = rest.split_once('/').unwrap_or((rest, ""));
    let done = match *method {
        Method::GET => return Reply::new(200, clouds.with(machine, |m| m.seen()).to_string()),
        Method::PUT => {
            let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
            match value {
                Ok(value) => clouds.change(machine, |m| m.put(what, &value)),
                Err(error) => return Reply::new(400, error.to_string()),
            }
        }
        Method::DELETE => clouds.change(machine, |m| m.delete(what)),
        _ => return Reply::new(405, ""),
    };
    match done {
        Ok(()) => Reply::new(200, json!({}).to_string()),
        Err(error) => Reply::new(400, error.to_string()),
    }
}

fn respond(reply: Reply, now: Timestamp) -> Out {
    let mut response = Response::builder().status(reply.status).header("date", date(now));
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = Full::from(reply.body).map_err(|never: Infallible| match never {}).boxed();
    response.body(body).unwrap_or_else(|_| Response::new(empty()))
}

/// As HTTP writes it.
pub fn date(time: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

fn empty() -> BoxBody<Bytes, io::Error> {
    Full::default().map_err(|never: Infallible| match never {}).boxed()
}

async fn broken(kind: FaultKind, status: u16) -> Out {
    let frame = |bytes: &'static [u8]| Ok(Frame::data(Bytes::from_static(bytes)));
    let body = match kind {
        FaultKind::Status => empty(),
        FaultKind::Hang => {
            tokio::time::sleep(FOR_EVER).await;
            empty()
        }
        FaultKind::Junk => StreamBody::new(stream::iter([frame(b"\x00\xff{\"]<html>\r\n\r\n")])).boxed(),
        FaultKind::Large => {
            StreamBody::new(stream::iter((0..1024).map(move |_| frame(&[b'['; 1024])))).boxed()
        }
        FaultKind::Slow => {
            let bytes = stream::unfold((), move |()| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
            });
            BodyExt::boxed(StreamBody::new(bytes))
        }
        FaultKind::Cut => {
            let cut = Err(io::Error::from(io::ErrorKind::ConnectionReset));
            StreamBody::new(stream::iter([frame(b"{\"action\": \"term"), cut])).boxed()
        }
    };
    Response::builder().status(status).body(body).unwrap_or_else(|_| Response::new(empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_machine() {
        assert_eq!(split("/w1/latest/api/token"), ("w1", "/latest/api/token"));
        assert_eq!(split("/latest/api/token"), ("", "/latest/api/token"));
        assert_eq!(split("/w1"), ("w1", "/"));
        assert_eq!(split("/"), ("", "/"));
    }
}
