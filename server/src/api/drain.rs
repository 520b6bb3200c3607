//! `/v1/drain`: the driver's doors.

use super::Api;
use super::input::{JsonBody, NoParams, Params, shown};
use super::problem::Refusal;
use crate::drain::Attempt;
use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
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

/// `POST /v1/drain`: begins a drain, or joins the one that is on. The header `Tidegate-Attempt` names the run of the
/// trigger: once a DELETE with the same name was heard, a POST that comes after it begins nothing.
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    _: NoParams,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<(StatusCode, Json<DrainStatus>), Refusal> {
    let attempt = attempt(&headers)?;
    let request: DrainRequest = body.parse_or_default()?;
    Ok((StatusCode::ACCEPTED, Json(api.hub.drain.start(&api.hub, &request, attempt.as_ref())?)))
}

/// The run of the trigger that asks, if it has a name.
fn attempt(headers: &HeaderMap) -> Result<Option<Attempt>, Refusal> {
    const CHARS_MAX: usize = 64;
    let Some(value) = headers.get("tidegate-attempt") else { return Ok(None) };
    let is_name = |text: &&str| {
        (1..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match value.to_str().ok().filter(is_name) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Refusal::bad_request(format!(
            "header Tidegate-Attempt is {}: give 1 to {CHARS_MAX} letters, digits and hyphens",
            shown(&String::from_utf8_lossy(value.as_bytes()))
        ))),
    }
}

/// `GET /v1/drain`: the status, at once or when it has changed.
pub(super) async fn status(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<DrainStatus>, Refusal> {
    let params = Params::read(&uri, &["wait_ms", "after"])?;
    let wait_ms = params.number("wait_ms", 0..=WAIT_MAX_MS)?.unwrap_or(0);
    let after = params.number("after", 0..=u64::MAX)?;
    Ok(Json(api.hub.drain.status(&api.hub, wait_ms, after).await))
}

/// `DELETE /v1/drain`: calls it off; after its end, serves again. With `Tidegate-Attempt`, what that run of the
/// trigger asked for is undone, be it heard already or not, and nobody else's drain.
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    _: NoParams,
    headers: HeaderMap,
) -> Result<Json<DrainStatus>, Refusal> {
    let attempt = attempt(&headers)?;
    Ok(Json(api.hub.drain.cancel(&api.hub, attempt.as_ref())))
}

/// `POST /v1/drain/continue`: somebody has looked at the gate that holds the drain, and it goes on.
pub(super) async fn go_on(State(api): State<Arc<Api>>, _: NoParams) -> Result<Json<DrainStatus>, Refusal> {
    api.hub.drain.go_on(&api.hub).map(Json).map_err(|status| {
        let held = status.why.map_or_else(String::new, |why| format!(", because {why}"));
        Refusal::new(
            StatusCode::CONFLICT,
            "not-at-a-gate",
            "No gate holds a drain",
            format!("it is {}{held}: there is no gate that could be opened", status.phase.as_str()),
        )
    })
}

/// `GET /v1/drain/report`: how the last one ended.
pub(super) async fn report(State(api): State<Arc<Api>>, _: NoParams) -> Result<Json<DrainReport>, Refusal> {
    let none = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "no-report",
            "No report",
            "no drain of this hub has ended yet: begin one with POST /v1/drain",
        )
    };
    api.hub.drain.report().await.map(Json).ok_or_else(none)
}
