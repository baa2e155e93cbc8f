//! HTTP/1.1 as plainly as it can be spoken: one request a connection, the whole answer read. So tests see what is on the wire, and no client
//! library mends it. Left out: HTTP/2, which every gRPC test speaks.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest silence of a server that a test bears with: a long poll is not longer.
const SILENCE: Duration = Duration::from_secs(90);

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Http {
    address: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// A header, empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The problem document of a refusal: its status and code.
    ///
    /// # Panics
    /// When it is none, or says another status than the answer.
    #[must_use]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let doc = self.json();
        assert_eq!(doc["status"], self.status, "{doc}");
        assert!(["type", "title", "detail"].iter().all(|field| doc[field].is_string()), "{doc}");
        (self.status, doc["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Http {
    /// A request without a body.
    #[must_use]
    pub fn new(address: &str, method: &str, path: &str) -> Self {
        let (address, method, path) = (address.to_owned(), method.to_owned(), path.to_owned());
        Self { address, method, path, headers: Vec::new(), body: Vec::new() }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(self, media: &str, body: &str) -> Self {
        Self { body: body.as_bytes().to_vec(), ..self.header("content-type", media) }
    }

    /// Sends it and reads the answer to its end.
    ///
    /// # Panics
    /// When the server does not answer, or not in HTTP.
    #[must_use]
    pub fn send(&self) -> Answer {
        let mut reader = self.open();
        let (status, headers) = head(&mut reader);
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = chunk(&mut reader) {
                body.extend(chunk);
            }
        } else if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().expect("a length"), 0);
            if self.method != "HEAD" {
                reader.read_exact(&mut body).expect("the whole body");
            }
        }
        Answer { status, headers, body }
    }

    /// Sends it and reads the first piece of a body that does not end.
    ///
    /// # Panics
    /// As [`Self::send`].
    #[must_use]
    pub fn first_chunk(&self) -> Answer {
        let mut reader = self.open();
        let (status, headers) = head(&mut reader);
        let body = chunk(&mut reader).unwrap_or_default();
        Answer { status, headers, body }
    }

    fn open(&self) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.method, self.path, self.address
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", self.body.len());
        stream.write_all(head.as_bytes()).expect("send the head");
        // A server that refuses early does not read the rest.
        let _ = stream.write_all(&self.body);
        BufReader::new(stream)
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn head(reader: &mut impl BufRead) -> (u16, BTreeMap<String, String>) {
    let first = line(reader);
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut headers = BTreeMap::new();
    loop {
        let line = line(reader);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    (status.unwrap_or_else(|| panic!("no status in {first:?}")), headers)
}

fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let length = usize::from_str_radix(&line(reader), 16).expect("the length of a chunk");
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).expect("a whole chunk");
    line(reader);
    (length > 0).then_some(bytes)
}
