//! `/metrics`: the scrape of this member. With the token of a user, as everything else: Prometheus sends one.

use super::super::service::Service;
use super::openapi::Api;
use super::operation::Operation;
use crate::metrics::Format;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};

pub(super) fn routes(api: Api) -> Api {
    let about = "Metrics of this member.\nPrometheus text, or OpenMetrics for who accepts `application/openmetrics-text`.";
    api.get(
        "/metrics",
        get,
        Operation::new("cluster", "getMetrics", about)
            .text("Metrics", "text/plain")
            .text("Metrics", "application/openmetrics-text"),
    )
}

async fn get(State(service): State<Service>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let mut response = service.metrics(format).await.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}
