//! What handlers take from a request, each refusal a problem document: who calls, the name in the path, the query, a body, the idempotency key.

use super::problem::Problem;
use crate::security::Caller;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The header with the id of a mutation.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The one name in a path.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

/// The query, every key of it known.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = url_pairs(query);
    let deserializer = serde_html_form::Deserializer::new(pairs);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Of an unknown or a doubled key the error names the key itself.
        let detail = if path == "." || path == "?" { error.to_string() } else { format!("{path}: {error}") };
        Problem::bad_request(format!("the query can't be read: {detail}"))
    })
}

fn url_pairs(query: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query.as_bytes())
}

/// Who calls, and the id that the call has by `Idempotency-Key`: empty without.
pub struct Mutation(pub muster_core::command::Request);

impl<S: Send + Sync> FromRequestParts<S> for Mutation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let user = parts.extensions.get::<Caller>().map_or_else(String::new, |caller| caller.0.clone());
        let id = match parts.headers.get(IDEMPOTENCY_KEY) {
            None => String::new(),
            Some(value) => match value.to_str() {
                Ok(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => text.to_owned(),
                _ => {
                    let detail = "Idempotency-Key has 1 to 128 printable ASCII characters and no space";
                    return Err(Problem::bad_request(detail));
                }
            },
        };
        Ok(Self(super::super::service::request(id, user)?))
    }
}

/// A body that may be absent: then it is the default.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let media = media_type(request.headers()).map(str::to_owned);
        let bytes = read_body(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        match media.as_deref() {
            Some("application/json") => {}
            other => return Err(unsupported(other, "application/json")),
        }
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let read = serde_path_to_error::deserialize(&mut deserializer);
        let value = read.map_err(|error| Problem::bad_request(format!("the body can't be read: {error}")))?;
        deserializer
            .end()
            .map_err(|error| Problem::bad_request(format!("the body can't be read: {error}")))?;
        Ok(Self(value))
    }
}

/// The bytes of a body, up to the limit of its route.
///
/// # Errors
/// 413 when it is larger, 400 when it breaks off.
pub async fn read_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TOO_LARGE",
            "the body is larger than this call takes",
        ),
        _ => Problem::bad_request(rejection.body_text()),
    })
}

/// The content type without its parameters, in lower case as it is registered; other spellings are not ours.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// 415.
#[must_use]
pub fn unsupported(media: Option<&str>, wanted: &str) -> Problem {
    let detail = match media {
        Some(media) => format!("content type {media:?}; this call takes {wanted}"),
        None => format!("the body has no content type; this call takes {wanted}"),
    };
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        limit: Option<u32>,
        #[serde(default)]
        label: Vec<String>,
    }

    #[test]
    fn a_key_that_repeats_is_a_list_and_what_is_wrong_is_named() {
        let read = read_query::<Asked>("label=a%3D1&limit=5&label=b").expect("a good query");
        assert_eq!(read, Asked { limit: Some(5), label: vec!["a=1".into(), "b".into()] });
        assert_eq!(read_query::<Asked>("").expect("nothing asked"), Asked::default());
        for (bad, named) in [("limit=x", "limit"), ("limt=5", "limt"), ("limit=1&limit=2", "limit")] {
            let problem = read_query::<Asked>(bad).expect_err("refused");
            let detail = &problem.doc().detail;
            assert!(detail.contains(named), "{bad}: {detail}");
        }
    }
}
