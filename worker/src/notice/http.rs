//! What is asked of a metadata server: one small answer over one plain connection. No proxy, no redirect, nothing kept open: such a
//! server is one hop away, and whoever stands between is not it.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Most bytes of an answer.
pub const ANSWER_MAX: usize = 64 << 10;
/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take, all of it.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, and what comes before every path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    prefix: String,
}

/// Why a text is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("{0:?} does not begin with http://")]
    Scheme(String),
    #[error("{0:?} is no address: {1}")]
    Url(String, url::ParseError),
    #[error("{0:?} has more than a host, a port and a path")]
    More(String),
}

impl Endpoint {
    /// # Errors
    /// It is not `http://HOST[:PORT][/PATH]`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let url = url::Url::parse(text).map_err(|error| EndpointError::Url(text.to_owned(), error))?;
        let Some(host) = url.host_str().filter(|_| url.scheme() == "http") else {
            return Err(EndpointError::Scheme(text.to_owned()));
        };
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(EndpointError::More(text.to_owned()));
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(80),
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// As the `Host` header names it; an IPv6 address is in brackets.
    fn authority(&self) -> String {
        if self.port == 80 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub method: &'a Method,
    /// With its query.
    pub path: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: &'a str,
    pub within: Duration,
}

impl<'a> Ask<'a> {
    /// A GET.
    pub fn get(path: &'a str, headers: &'a [(&'static str, &'a str)], within: Duration) -> Self {
        Self { method: &Method::GET, path, headers, body: "", within }
    }
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text, without the white space around it; none when it is no UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok().map(str::trim)
    }

    /// The server's clock, or this machine's where it does not say: `time`s in an answer are by the server's.
    pub fn date(&self) -> Timestamp {
        let said = self.header("date").and_then(parse_date);
        said.unwrap_or_else(Timestamp::now)
    }
}

/// Reads a JSON object. A list is none, although a structure could be read from one: an empty list must not pass for an answer without
/// announcements.
///
/// # Errors
/// It is no object, or not this one.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
    serde_json::from_value(object.into())
}

/// `Mon, 19 Sep 2016 18:29:47 GMT`.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("cannot connect to {0} within {1:?}")]
    ConnectTime(String, Duration),
    #[error("no answer within {0:?}")]
    AnswerTime(Duration),
    #[error("the answer is larger than {ANSWER_MAX} bytes")]
    Large,
    #[error("the path cannot be asked for: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the answer is broken: {0}")]
    Broken(#[from] hyper::Error),
}

/// Asks once.
///
/// # Errors
/// No connection, no answer in time, one that is too large or no HTTP.
pub async fn ask(to: &Endpoint, ask: Ask<'_>) -> Result<Answer, AskError> {
    let name = format!("{}:{}", to.host, to.port);
    let host = to.host.trim_start_matches('[').trim_end_matches(']');
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, to.port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(AskError::Connect(name, error)),
        Err(_) => return Err(AskError::ConnectTime(name, CONNECT_TIMEOUT)),
    };
    timeout(ask.within, answer(stream, to, ask)).await.unwrap_or(Err(AskError::AnswerTime(ask.within)))
}

async fn answer(stream: TcpStream, to: &Endpoint, ask: Ask<'_>) -> Result<Answer, AskError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(ask.method)
        .uri(format!("{}{}", to.prefix, ask.path))
        .header("host", to.authority())
        .header("connection", "close");
    for (name, value) in ask.headers {
        let mut value = HeaderValue::from_str(value).map_err(hyper::http::Error::from)?;
        value.set_sensitive(true);
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(ask.body.as_bytes())))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            if bytes.len() + data.len() > ANSWER_MAX {
                return Err(AskError::Large);
            }
            bytes.extend_from_slice(data);
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes.freeze() })
    };
    // The connection is driven here, and goes with this call: nothing of it outlives a timeout.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // It may be over a moment before the last of the answer is read.
        ended = connection => { ended?; exchange.await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_plain() {
        let at = |text| Endpoint::parse(text).map(|e| (e.to_string(), e.authority()));
        let (shown, host) = at("http://169.254.169.254").unwrap();
        assert_eq!((shown.as_str(), host.as_str()), ("http://169.254.169.254:80", "169.254.169.254"));
        let (shown, host) = at("http://[fd00:ec2::254]:8080/a/").unwrap();
        assert_eq!(
            (shown.as_str(), host.as_str()),
            ("http://[fd00:ec2::254]:8080/a", "[fd00:ec2::254]:8080")
        );
        for bad in ["https://h", "h:80", "", "file:///x", "http://", "http://u:p@h/", "http://h/?a=1"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_of_headers_are_read() {
        let at = parse_date("Mon, 19 Sep 2016 18:29:47 GMT").unwrap();
        assert_eq!(at.to_string(), "2016-09-19T18:29:47Z");
        for bad in ["", "yesterday", "2016-09-19", "Mon, 99 Sep 2016 18:29:47 GMT"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }
}
