//! An answer: a document as JSON, and the one of mutations.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// A document on its way out.
pub struct Doc<T>(pub T);

impl<T: Serialize> IntoResponse for Doc<T> {
    fn into_response(self) -> Response {
        // Plain data: it can always be written.
        let json = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// What a mutation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changed {
    /// Task indices, or attempts, that changed; none: it was so already.
    pub changed: u64,
}
