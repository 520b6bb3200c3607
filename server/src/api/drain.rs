//! `/v1/drain`: the driver's doors.

use super::Api;
use super::input::{JsonBody, NoParams, Params};
use super::problem::Refusal;
use axum::Json;
use axum::extract::State;
use http::{StatusCode, Uri};
use std::sync::Arc;
use tidegate_protocol::control::{DrainReport, DrainRequest, DrainStatus, PlanAnswer};

/// Longest wait for a change of the status, in milliseconds.
const WAIT_MAX_MS: u64 = 60_000;

/// `POST /v1/drain/plan`: what a drain would do.
pub(super) async fn plan(
    State(api): State<Arc<Api>>,
    _: NoParams,
    body: JsonBody,
) -> Result<Json<PlanAnswer>, Refusal> {
    let request: DrainRequest = body.parse_or_default()?;
    Ok(Json(api.hub.drain.plan(&api.hub, &request)?))
}

/// `POST /v1/drain`: begins a drain, or joins the one that is on.
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    _: NoParams,
    body: JsonBody,
) -> Result<(StatusCode, Json<DrainStatus>), Refusal> {
    let request: DrainRequest = body.parse_or_default()?;
    Ok((StatusCode::ACCEPTED, Json(api.hub.drain.start(&api.hub, &request)?)))
}

/// `GET /v1/drain`: the status, at once or when it has changed.
pub(super) async fn status(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<DrainStatus>, Refusal> {
    let params = Params::read(&uri, &["wait_ms", "after"])?;
    let wait_ms = params.number("wait_ms", 0..=WAIT_MAX_MS)?.unwrap_or(0);
    let after = params.number("after", 0..=u64::MAX)?;
    Ok(Json(api.hub.drain.status(&api.hub, wait_ms, after).await))
}

/// `DELETE /v1/drain`: calls it off; after its end, serves again.
pub(super) async fn cancel(State(api): State<Arc<Api>>, _: NoParams) -> Json<DrainStatus> {
    Json(api.hub.drain.cancel(&api.hub))
}

/// `GET /v1/drain/report`: how the last one ended.
pub(super) async fn report(State(api): State<Arc<Api>>, _: NoParams) -> Result<Json<DrainReport>, Refusal> {
    let none = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "no-report",
            "No report",
            "no drain has ended since this hub started: begin one with POST /v1/drain",
        )
    };
    api.hub.drain.report().await.map(Json).ok_or_else(none)
}
