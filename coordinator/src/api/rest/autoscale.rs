//! `/v1/autoscale`: what each pool is to have, for whoever carries it out. At once, when it changes (long poll), or as a stream of changes (SSE).

use super::super::error::ApiError;
use super::super::service::Service;
use super::doc::Doc;
use super::extract::Query;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use muster_core::view_doc::SignalsDoc;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait of one call: proxies end what is silent for longer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A stream without news says this often that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream that finds no leader tries again after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Where a stream that was cut goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: &str = "text/event-stream";

/// Term and version of signals.
type Version = (u64, u64);

/// How long to wait, and for what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Wait so long for others than `after` (or than `If-None-Match`), 60 s at most, e.g. `30s`.
    #[schemars(regex(pattern = "^([0-5]?[0-9]|60)s$"))]
    wait: Option<String>,
    /// The `TERM.VERSION` that the caller has.
    #[schemars(regex(pattern = "^[0-9]{1,19}\\.[0-9]{1,19}$"))]
    after: Option<String>,
}

pub(super) fn routes(api: Api) -> Api {
    let about = "How many workers each pool is to have, and why.\nWithout `wait`: as it is now. With `wait` and `after` (or `If-None-Match`): as soon as it is \
        another, and after the wait as it is. With `Accept: text/event-stream`: an event `signals` for each change, its id the version, and a comment every \
        15 s while there is none. Without a leader nobody knows (503): hold.";
    let tag = json!({ "type": "string", "examples": ["\"3.17\""] });
    api.get(
        "/v1/autoscale",
        get,
        Operation::new("scaling", "getSignals", about)
            .query::<Asked>()
            .header(
                "If-None-Match",
                "The ETag that the caller has: 304 when it is still that, after the wait.",
                tag,
            )
            .answers::<SignalsDoc>("The signals")
            .text("The signals, or a stream of them", EVENT_STREAM)
            .answer_header("ETag", "\"TERM.VERSION\"")
            .refuses(&[304]),
    )
}

fn parse_version(text: &str) -> Option<Version> {
    // Nineteen digits always fit; nobody counts further.
    let number = |text: &str| {
        let plain = text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse().ok() } else { None }
    };
    let (term, version) = text.split_once('.')?;
    Some((number(term)?, number(version)?))
}

/// The version in an entity tag. A tag that is no version of ours matches nothing.
fn tagged(headers: &HeaderMap) -> Option<Version> {
    let tag = headers.get(IF_NONE_MATCH)?.to_str().ok()?;
    parse_version(tag.trim().strip_prefix("W/").unwrap_or(tag.trim()).trim_matches('"'))
}

fn wait_of(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let seconds = text.strip_suffix('s').filter(|digits| (1..=2).contains(&digits.len()));
    let seconds = seconds.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let wait = seconds.and_then(|digits| digits.parse().ok()).map(Duration::from_secs);
    wait.filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
        Problem::bad_request(format!("wait: {text:?} is not from 0s to {}s", WAIT_MAX.as_secs()))
    })
}

async fn get(
    State(service): State<Service>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let after = match asked.after.as_deref() {
        Some(text) => Some(parse_version(text).ok_or_else(|| {
            Problem::bad_request(format!("after: {text:?} is no version: write TERM.VERSION, as in 3.17"))
        })?),
        None => None,
    };
    let wait = wait_of(asked.wait.as_deref())?;
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains(EVENT_STREAM)) {
        let last = headers.get(LAST_EVENT_ID).and_then(|id| parse_version(id.to_str().ok()?));
        return follow(service, last.or(after)).await;
    }
    let known = tagged(&headers);
    let signals = service.signals(after.or(known), wait).await?;
    let is = (signals.term, signals.version);
    let mut response = if known == Some(is) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Doc(&*signals).into_response()
    };
    // Digits, a dot and quotes are a header's characters.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}.{}\"", is.0, is.1)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The stream of changes, from `last` on. What is wrong at the beginning is a problem; later it is a pause.
async fn follow(service: Service, last: Option<Version>) -> Result<Response, Problem> {
    let first = service.signals(None, Duration::ZERO).await?;
    let first = (last != Some((first.term, first.version))).then_some(first);
    let frames = stream::unfold((service, last, first), async |(service, last, first)| {
        let next = match first {
            Some(first) => Ok(first),
            None => service.signals(last, KEEP_ALIVE).await,
        };
        let (last, frame) = frame(last, next);
        if frame.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        let frame = frame.unwrap_or_else(|| Bytes::from_static(b": no leader\n\n"));
        Some((Ok::<_, Infallible>(frame), (service, last, None)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What is sent for an answer, and the version that the reader has then; no frame for an error.
fn frame(
    last: Option<Version>,
    answer: Result<Arc<SignalsDoc>, ApiError>,
) -> (Option<Version>, Option<Bytes>) {
    let Ok(signals) = answer else { return (last, None) };
    let is = (signals.term, signals.version);
    if last == Some(is) {
        return (last, Some(Bytes::from_static(b": keep-alive\n\n")));
    }
    // Plain data, written on one line.
    let json = serde_json::to_string(&*signals).unwrap_or_default();
    let text = format!("id: {}.{}\nevent: signals\ndata: {json}\n\n", is.0, is.1);
    (Some(is), Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(term: u64, version: u64) -> Arc<SignalsDoc> {
        Arc::new(SignalsDoc { term, version, ..SignalsDoc::default() })
    }

    #[test]
    fn a_change_is_an_event_and_no_change_a_comment() {
        let (last, first) = frame(None, Ok(signals(3, 1)));
        let text = String::from_utf8(first.expect("an event").to_vec()).expect("UTF-8");
        assert!(
            text.starts_with("id: 3.1\nevent: signals\ndata: {\"pools\":[]") && text.ends_with("}\n\n"),
            "{text}"
        );
        let (last, second) = frame(last, Ok(signals(3, 1)));
        assert_eq!(second.expect("a comment"), ": keep-alive\n\n");
        let (last, none) = frame(last, Err(ApiError::NoLeader("m".into())));
        assert_eq!((last, none), (Some((3, 1)), None));
        assert_eq!(frame(last, Ok(signals(4, 1))).0, Some((4, 1)));
    }

    #[test]
    fn waits_end_at_a_minute_and_versions_are_two_numbers() {
        assert_eq!(wait_of(Some("30s")).expect("a wait"), Duration::from_secs(30));
        assert_eq!(wait_of(None).expect("none"), Duration::ZERO);
        assert!(["61s", "soon", "1", "+1s", "s"].iter().all(|bad| wait_of(Some(bad)).is_err()));
        assert_eq!(parse_version("3.17"), Some((3, 17)));
        assert_eq!(parse_version("3"), None);
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("W/\"3.17\""));
        assert_eq!(tagged(&headers), Some((3, 17)));
    }
}
