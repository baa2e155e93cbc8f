//! REST: the use cases of [`super::service`] over HTTP, beside gRPC on the one port, and their OpenAPI document.
//!
//! One file a resource: its routes with what the document says of them, then its handlers. [`openapi`] puts them together, `problem` is every
//! refusal, `extract` what handlers take.
//!
//! Architecture invariant: nothing is answered without the token of a user but `/healthz` and `/readyz`.

mod autoscale;
mod checkpoints;
mod cluster;
mod cost;
mod devices;
mod doc;
mod extract;
mod health;
mod jobs;
mod logs;
mod metrics;
pub mod openapi;
mod operation;
mod page;
mod pools;
mod problem;
mod workers;

use super::service::Service;
use crate::security::{Caller, Gate};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use openapi::Api;
use operation::Operation;
use problem::Problem;
use std::sync::Arc;

/// Largest body of a call that says no other limit, bytes: a few fields.
const BODY_BYTES_MAX: usize = 64 << 10;

/// All calls.
fn api() -> Api {
    let api = [
        health::routes,
        jobs::routes,
        logs::routes,
        checkpoints::routes,
        workers::routes,
        devices::routes,
        pools::routes,
        autoscale::routes,
        cost::routes,
        cluster::routes,
        metrics::routes,
    ]
    .into_iter()
    .fold(Api::default(), |api, routes| routes(api));
    let about = "This document.";
    let openapi = Operation::new("cluster", "getOpenApi", about).answers::<serde_json::Value>("OpenAPI 3.1");
    api.get("/openapi.json", openapi_json, openapi)
}

/// The document, written once.
#[derive(Clone)]
struct Document(Arc<str>);

/// The routes of REST; gRPC's go beside them.
pub fn router(service: Service) -> Router {
    let (private, public, document) = api().finish();
    let gate = service.gate.clone();
    let private = private
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::Extension(Document(document.to_string().into())))
        .route_layer(middleware::from_fn_with_state(gate.clone(), authenticate));
    let public = public.method_not_allowed_fallback(method_not_allowed);
    let nothing = move |uri: Uri, headers: HeaderMap| async move { not_found(&gate, &uri, &headers) };
    private.merge(public).fallback(nothing).with_state(service)
}

async fn openapi_json(axum::Extension(Document(text)): axum::Extension<Document>) -> Response {
    let mut response = Response::new(Body::from(text.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}

fn caller(gate: &Gate, headers: &HeaderMap) -> Result<Caller, Problem> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    Ok(gate.caller(value)?)
}

/// Lets users in and notes who calls.
async fn authenticate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match caller(&gate, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// axum adds the header `Allow`.
async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is nothing that {} knows", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
}

/// A path that nobody has: of gRPC a service of another version, else a mistake, which is named to users alone.
fn not_found(gate: &Gate, uri: &Uri, headers: &HeaderMap) -> Response {
    let media = extract::media_type(headers).unwrap_or_default();
    if media.starts_with("application/grpc") {
        let status = tonic::Status::unimplemented(format!("no service at {}", uri.path()));
        return status.into_http();
    }
    if let Err(problem) = caller(gate, headers) {
        return problem.into_response();
    }
    Problem::new(StatusCode::NOT_FOUND, "PATH_NOT_FOUND", format!("there is nothing at {}", uri.path()))
        .hint("/openapi.json describes every call")
        .into_response()
}
