//! Health for load balancers, numbers for Prometheus.

use super::Api;
use super::problem::Refusal;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use std::sync::Arc;
use tidegate_protocol::control::{Readiness, WhenDraining};

/// `GET /healthz/live`.
pub(super) async fn live() -> &'static str {
    "live"
}

/// `GET /healthz/ready`: 200 means *send newcomers here*. `?draining=404` answers 404 in a drain.
pub(super) async fn ready(State(api): State<Arc<Api>>, uri: Uri) -> Result<String, Refusal> {
    let asked = WhenDraining::asked_in(uri.query().unwrap_or_default()).map_err(Refusal::bad_request)?;
    let readiness = api.hub.readiness();
    match readiness.status(asked.unwrap_or_else(|| api.hub.when_draining())) {
        200 => Ok(readiness.words()),
        404 => Err(unready(StatusCode::NOT_FOUND, readiness)),
        _ => Err(unready(StatusCode::SERVICE_UNAVAILABLE, readiness)),
    }
}

fn unready(status: StatusCode, readiness: Readiness) -> Refusal {
    Refusal::new(status, readiness.as_str(), "Not ready", readiness.why())
}

/// `GET /metrics`.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.hub.metrics.render()).into_response()
}
