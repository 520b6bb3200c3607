//! Health for load balancers, numbers for Prometheus.

use super::Api;
use super::problem::Refusal;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use std::sync::Arc;

/// `GET /healthz/live`.
pub(super) async fn live() -> &'static str {
    "live"
}

/// `GET /healthz/ready`.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<&'static str, Refusal> {
    match api.hub.is_ready() {
        true => Ok("ready"),
        false => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "Not ready",
            "this hub is draining (--unready-when-draining)",
        )),
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.hub.metrics.render()).into_response()
}
