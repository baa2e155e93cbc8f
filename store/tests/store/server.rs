//! A small HTTP server of our own: it forwards to the real one, or answers itself, and does damage where it is told to.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request or its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answered so, without the server behind.
    Status(u16, &'static str),
    /// The connection ends in the middle of the request's body; a real store keeps nothing of it, so the one behind sees nothing.
    CutRequest,
    /// The connection ends in the middle of the answer's body.
    CutAnswer,
    /// One byte of the answer's body is another.
    FlipAnswer,
    /// One byte of the request's body is another.
    FlipRequest,
    /// The answer's body comes in 16 pieces with pauses.
    Slow,
    /// The answer that the first request like this got.
    Stale,
    /// Never answered.
    Hang,
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: hyper::HeaderMap,
    pub bytes: usize,
    /// Whether the server behind has answered it.
    pub forwarded: bool,
}

impl Asked {
    /// Part `number` of an upload.
    pub fn is_part(&self, number: u32) -> bool {
        self.method == "PUT" && self.target.contains(&format!("partNumber={number}&"))
    }

    pub fn is_list(&self) -> bool {
        self.method == "GET" && self.target.contains("list-type=2")
    }
}

type Matches = fn(&Asked) -> bool;

struct Rule {
    matches: Matches,
    left: usize,
    fault: Fault,
    /// For [`Fault::Stale`].
    first: Option<(u16, Bytes)>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    asked: Vec<Asked>,
}

/// The server; it ends with its runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    behind: Option<SocketAddr>,
    state: Arc<Mutex<State>>,
}

type Answer = Response<Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>>;

impl Server {
    /// In front of `behind`; without it every request is answered with an empty 200.
    pub async fn start(behind: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), behind, state: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| server.clone().serve(request));
                    // An error is a connection that we or the client cut.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        server
    }

    /// The next `times` requests that match meet `fault`.
    pub fn plan(&self, matches: Matches, times: usize, fault: Fault) {
        self.state.lock().unwrap().rules.push(Rule { matches, left: times, fault, first: None });
    }

    pub fn forget_plans(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// How many that match were asked, and how many of them were answered by the server behind.
    pub fn count(&self, matches: Matches) -> (usize, usize) {
        let asked = self.asked();
        let all = asked.iter().filter(|asked| matches(asked));
        (all.clone().count(), all.filter(|asked| asked.forwarded).count())
    }

    async fn serve(self, request: Request<Incoming>) -> io::Result<Answer> {
        let (head, mut body) = request.into_parts();
        let mut asked = Asked {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers.clone(),
            bytes: 0,
            forwarded: false,
        };
        let (number, fault) = {
            let mut state = self.state.lock().unwrap();
            let rule = state.rules.iter_mut().find(|rule| rule.left > 0 && (rule.matches)(&asked));
            let fault = rule.map(|rule| {
                rule.left -= 1;
                rule.fault.clone()
            });
            state.asked.push(asked.clone());
            (state.asked.len() - 1, fault)
        };
        if matches!(fault, Some(Fault::Hang)) {
            std::future::pending::<()>().await;
        }
        if matches!(fault, Some(Fault::CutRequest)) {
            let half = body.size_hint().exact().unwrap_or(0) / 2;
            let mut got = 0;
            while got < half {
                let Some(Ok(frame)) = body.frame().await else { break };
                got += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Err(io::Error::other("cut"));
        }
        let mut bytes = BytesMut::from(&body.collect().await.map_err(io::Error::other)?.to_bytes()[..]);
        if let Some(Fault::Status(status, text)) = fault {
            return Ok(answer(status, &hyper::HeaderMap::new(), whole(text.into())));
        }
        if matches!(fault, Some(Fault::FlipRequest)) {
            flip(&mut bytes);
        }
        asked.bytes = bytes.len();
        let Some(behind) = self.behind else {
            self.state.lock().unwrap().asked[number] = asked;
            return Ok(answer(200, &hyper::HeaderMap::new(), whole(Bytes::new())));
        };
        let (status, headers, body) = forward(behind, &head, bytes.freeze()).await?;
        asked.forwarded = true;
        let mut state = self.state.lock().unwrap();
        state.asked[number] = asked.clone();
        // Whether it is replayed or not: the first answer is the one that will be old.
        for rule in state.rules.iter_mut().filter(|rule| matches!(rule.fault, Fault::Stale)) {
            if (rule.matches)(&asked) && rule.first.is_none() {
                rule.first = Some((status, body.clone()));
            }
        }
        let first = state.rules.iter().find_map(|rule| rule.first.clone());
        drop(state);
        Ok(match fault {
            Some(Fault::Stale) => {
                let (status, body) = first.unwrap_or((status, body));
                let mut headers = headers;
                headers.insert(header::CONTENT_LENGTH, body.len().into());
                answer(status, &headers, whole(body))
            }
            Some(Fault::CutAnswer) => {
                let half = body.slice(..body.len() / 2);
                let pieces = [Ok(Frame::data(half)), Err(io::Error::other("cut"))];
                answer(status, &headers, Box::pin(StreamBody::new(stream::iter(pieces))))
            }
            Some(Fault::FlipAnswer) => {
                let mut bytes = BytesMut::from(&body[..]);
                flip(&mut bytes);
                answer(status, &headers, whole(bytes.freeze()))
            }
            Some(Fault::Slow) => {
                let piece = body.len().div_ceil(16).max(1);
                let pieces: Vec<_> =
                    body.chunks(piece).map(|piece| Ok(Frame::data(body.slice_ref(piece)))).collect();
                let slow = stream::iter(pieces).then(|piece| async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    piece
                });
                answer(status, &headers, Box::pin(StreamBody::new(slow)))
            }
            _ => answer(status, &headers, whole(body)),
        })
    }
}

fn flip(bytes: &mut BytesMut) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

fn whole(bytes: Bytes) -> Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>> {
    Box::pin(Full::new(bytes).map_err(|never| match never {}))
}

fn answer(
    status: u16,
    headers: &hyper::HeaderMap,
    body: Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>,
) -> Answer {
    let mut answer = Response::builder().status(status).body(body).unwrap();
    let passed = headers.iter().filter(|(name, _)| *name != header::CONNECTION);
    answer.headers_mut().extend(passed.map(|(name, value)| (name.clone(), value.clone())));
    answer
}

async fn forward(
    behind: SocketAddr,
    head: &hyper::http::request::Parts,
    body: Bytes,
) -> io::Result<(u16, hyper::HeaderMap, Bytes)> {
    let stream = TcpStream::connect(behind).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((head.status.as_u16(), head.headers, body))
}
