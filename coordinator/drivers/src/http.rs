//! How a cloud is asked over HTTP: one client with limits, one token, and one reading of what a status means.
//!
//! Left out: what is asked (`gcp_mig`, `azure_vmss`) and trying again, which is the caller's: only a token that was refused is
//! fetched once more. Redirects are not followed: no cloud's API redirects, and a token must not go where an answer points.

use crate::DriverError;
use crate::token::{Secret, TokenSource, Tokens};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

/// A connection is made within this: a cloud's address that is not reached in five seconds is not reached.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// One call with its body. Both clouds answer a change when it is accepted, not when it is done; a page of 500 machines takes two
/// seconds.
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(20);
/// Most bytes of an answer: a page of 500 machines of Google has 0.5 MB, one of Azure with instance views 2 MB.
const ANSWER_MAX: usize = 8 << 20;
/// Most pages of a listing: 500 machines each, so far beyond any group; a listing that never ends is a fault of the server.
pub(crate) const PAGES_MAX: usize = 100;
/// Most machines named in one call that ends machines. Google takes 1,000.
pub(crate) const BATCH_MAX: usize = 500;
/// Most characters of a provider's own words in an error.
const WORDS_MAX: usize = 300;

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the proxy of the environment, if there is one.
    Internet,
    /// The machine's own metadata server: never through a proxy.
    Metadata,
}

/// A client with limits.
#[derive(Debug)]
pub(crate) struct Http(Client);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// `Retry-After` in seconds. One that is a date says nothing to us: both clouds send seconds.
    pub after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Http {
    /// Reaches nobody yet.
    pub fn new(what: &str, way: Way) -> Result<Self, DriverError> {
        // Refused when there is one already: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
        let builder = if way == Way::Metadata { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| unavailable(what, &error))?;
        Ok(Self(client))
    }

    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.0.request(method, url)
    }

    /// Sends it and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Not reached, no answer within [`CALL_WITHIN`], or one that is too large.
    pub async fn send(&self, what: &str, request: RequestBuilder) -> Result<Answer, DriverError> {
        let answer = async {
            let mut response = request.send().await.map_err(|error| unavailable(what, &error))?;
            let status = response.status().as_u16();
            let after = response.headers().get("retry-after").and_then(|after| after.to_str().ok());
            let after = after.and_then(|after| after.trim().parse().ok());
            let after = after.map(Duration::from_secs);
            let mut body = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(|error| unavailable(what, &error))? {
                if body.len() + piece.len() > ANSWER_MAX {
                    let reason = format!("more than {ANSWER_MAX} bytes");
                    return Err(DriverError::Garbled { what: what.to_owned(), reason });
                }
                body.extend_from_slice(&piece);
            }
            Ok(Answer { status, after, body })
        };
        let late = |_| DriverError::TimedOut { what: what.to_owned(), seconds: CALL_WITHIN.as_secs() };
        tokio::time::timeout(CALL_WITHIN, answer).await.map_err(late)?
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// # Errors
    /// It is not what it should be.
    pub fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, DriverError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| DriverError::Garbled { what: what.to_owned(), reason: error.to_string() })
    }

    /// The error that both clouds write as `{"error": {…}}`; null where it is something else.
    pub fn error(&self) -> Value {
        let body = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        body.get("error").cloned().unwrap_or_default()
    }

    /// What a status that is no success means, with the provider's `words`.
    pub fn refusal(&self, what: &str, words: &str) -> DriverError {
        let (what, reason) = (what.to_owned(), format!("{} {words}", self.status).trim_end().to_owned());
        match self.status {
            429 => DriverError::Throttled { what, after: self.after },
            503 if self.after.is_some() => DriverError::Throttled { what, after: self.after },
            401 | 403 => DriverError::Denied { what, reason },
            404 => DriverError::NoGroup { what },
            408 | 500.. => DriverError::Unavailable { what, reason },
            400..500 => DriverError::Refused { what, reason },
            _ => DriverError::Garbled { what, reason },
        }
    }
}

/// A cloud's API, with the token that it wants.
#[derive(Debug)]
pub(crate) struct Cloud {
    http: Http,
    tokens: Tokens,
}

/// One question.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    /// The call and the group, for errors.
    pub what: &'a str,
    pub method: Method,
    pub url: Url,
    pub if_match: Option<&'a str>,
    pub body: Option<Value>,
}

impl Cloud {
    pub fn new(what: &str, source: Box<dyn TokenSource>) -> Result<Self, DriverError> {
        Ok(Self { http: Http::new(what, Way::Internet)?, tokens: Tokens::new(source) })
    }

    /// Asks, with a new token once more if the one we had is refused: tokens are revoked before their time.
    ///
    /// # Errors
    /// No token, no answer. A status that is no success is the caller's to read.
    pub async fn ask(&self, call: &Call<'_>) -> Result<(Answer, Words), DriverError> {
        let token = self.tokens.bearer(call.what).await?;
        let answer = self.send(call, &token).await?;
        if answer.status != 401 {
            return Ok((answer, Words(token)));
        }
        self.tokens.forget(&token).await;
        let token = self.tokens.bearer(call.what).await?;
        Ok((self.send(call, &token).await?, Words(token)))
    }

    async fn send(&self, call: &Call<'_>, token: &Secret) -> Result<Answer, DriverError> {
        let mut request =
            self.http.request(call.method.clone(), call.url.clone()).bearer_auth(token.expose());
        if let Some(tag) = call.if_match {
            request = request.header("if-match", tag);
        }
        request = match &call.body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            // Google refuses a POST without a length.
            None if call.method == Method::POST => request.header("content-length", "0"),
            None => request,
        };
        self.http.send(call.what, request).await
    }
}

/// Makes a provider's words fit for an error: an answer may quote the request, and with it the token.
#[derive(Debug)]
pub(crate) struct Words(std::sync::Arc<Secret>);

impl Words {
    pub fn of(&self, text: &str) -> String {
        tame(text, &[&self.0])
    }
}

/// `text` without secrets and control characters, and not longer than an error should be.
pub(crate) fn tame(text: &str, secrets: &[&Secret]) -> String {
    let hidden = secrets.iter().filter(|secret| !secret.expose().is_empty());
    let text = hidden.fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "(hidden)"));
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut tamed: String = chars.by_ref().take(WORDS_MAX).collect();
    if chars.next().is_some() {
        tamed.push('…');
    }
    tamed
}

/// Not reached, or cut off. Without the address: it says nothing that the group does not.
fn unavailable(what: &str, error: &reqwest::Error) -> DriverError {
    let mut reason = String::new();
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        // The outermost says only that a request failed, and to which address.
        if error.source().is_none() || !error.is::<reqwest::Error>() {
            reason.push_str(if reason.is_empty() { "" } else { ": " });
            reason.push_str(&error.to_string());
        }
        cause = error.source();
    }
    DriverError::Unavailable { what: what.to_owned(), reason: tame(&reason, &[]) }
}

/// `endpoint`, or `default` if it is empty, with `segments` as the end of its path.
///
/// # Errors
/// It is not an address.
pub(crate) fn address(
    what: &str,
    endpoint: &str,
    default: &str,
    segments: &[&str],
) -> Result<Url, DriverError> {
    let endpoint = if endpoint.is_empty() { default } else { endpoint };
    let bad = |reason: &str| DriverError::Unusable {
        what: what.to_owned(),
        reason: format!("endpoint `{endpoint}` is not an http or https address{reason}"),
    };
    let mut url = Url::parse(endpoint).map_err(|error| bad(&format!(": {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(bad(""));
    }
    url.path_segments_mut().map_err(|()| bad(""))?.pop_if_empty().extend(segments);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, after: Option<u64>) -> Answer {
        Answer { status, after: after.map(Duration::from_secs), body: Vec::new() }
    }

    #[test]
    fn every_status_has_one_meaning() {
        let what = || "describe of g".to_owned();
        let seven = Some(Duration::from_secs(7));
        let reason = |text: &str| text.to_owned();
        let table = [
            (429, None, DriverError::Throttled { what: what(), after: None }),
            (429, Some(7), DriverError::Throttled { what: what(), after: seven }),
            (503, Some(7), DriverError::Throttled { what: what(), after: seven }),
            (503, None, DriverError::Unavailable { what: what(), reason: reason("503 no") }),
            (500, Some(7), DriverError::Unavailable { what: what(), reason: reason("500 no") }),
            (408, None, DriverError::Unavailable { what: what(), reason: reason("408 no") }),
            (401, None, DriverError::Denied { what: what(), reason: reason("401 no") }),
            (403, None, DriverError::Denied { what: what(), reason: reason("403 no") }),
            (404, None, DriverError::NoGroup { what: what() }),
            (400, None, DriverError::Refused { what: what(), reason: reason("400 no") }),
            (409, None, DriverError::Refused { what: what(), reason: reason("409 no") }),
            (412, None, DriverError::Refused { what: what(), reason: reason("412 no") }),
            (302, None, DriverError::Garbled { what: what(), reason: reason("302 no") }),
        ];
        for (status, after, expected) in table {
            assert_eq!(answer(status, after).refusal("describe of g", "no"), expected);
        }
    }

    #[test]
    fn words_lose_secrets_control_characters_and_their_end() {
        let secret = Secret::new("ya29.abc");
        assert_eq!(tame("bad token ya29.abc\r\nsorry", &[&secret]), "bad token (hidden)  sorry");
        assert_eq!(tame(&"x".repeat(WORDS_MAX), &[&secret]), "x".repeat(WORDS_MAX));
        assert_eq!(tame(&"x".repeat(WORDS_MAX + 1), &[]), format!("{}…", "x".repeat(WORDS_MAX)));
        assert_eq!(tame("as it is", &[&Secret::new("")]), "as it is");
    }

    #[test]
    fn an_address_takes_segments_as_they_are_and_nothing_else() {
        let url = |endpoint| address("g", endpoint, "https://cloud.example", &["a b", "c/d"]);
        assert_eq!(url("").map(|url| url.to_string()), Ok("https://cloud.example/a%20b/c%2Fd".into()));
        assert_eq!(
            url("http://[::1]:7/x/").map(|url| url.to_string()),
            Ok("http://[::1]:7/x/a%20b/c%2Fd".into())
        );
        for bad in ["cloud.example", "ftp://cloud.example", "http://me:secret@cloud.example", "data:x"] {
            assert!(matches!(url(bad), Err(DriverError::Unusable { .. })), "{bad}");
        }
    }
}
