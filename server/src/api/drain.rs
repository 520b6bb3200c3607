//! `/v1/drain`: the driver's doors.

use super::Api;
use super::input::{JsonBody, NoParams, Params, shown};
use super::problem::Refusal;
use crate::drain::{Asker, Caller};
use axum::extract::State;
use axum::{Extension, Json};
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

/// `POST /v1/drain`: begins a drain, or joins the one that is on; either way with a claim on it. Headers say whose:
/// `Tidegate-Claimant`, `Tidegate-Attempt`, `Tidegate-Event`, `Tidegate-Deployment`. Once a DELETE with the same Attempt
/// was heard, a POST that comes after it begins nothing.
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    _: NoParams,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<(StatusCode, Json<DrainStatus>), Refusal> {
    let who = asker(&headers)?;
    let request: DrainRequest = body.parse_or_default()?;
    Ok((StatusCode::ACCEPTED, Json(api.hub.drain.start(&api.hub, &request, Some(who))?)))
}

/// Who asks, by its headers.
fn asker(headers: &HeaderMap) -> Result<Asker, Refusal> {
    Ok(Asker {
        attempt: attempt(headers)?,
        claimant: name(headers, "tidegate-claimant", "Tidegate-Claimant")?,
        event: name(headers, "tidegate-event", "Tidegate-Event")?,
        deployment: name(headers, "tidegate-deployment", "Tidegate-Deployment")?,
    })
}

/// The run of the trigger that asks, if it has a name.
fn attempt(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
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

/// A header that names something for people, too.
fn name(headers: &HeaderMap, header: &str, shown_as: &str) -> Result<Option<String>, Refusal> {
    const BYTES_MAX: usize = 256;
    let Some(value) = headers.get(header) else { return Ok(None) };
    let is_name = |text: &&str| {
        (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    };
    match value.to_str().ok().filter(is_name) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Refusal::bad_request(format!(
            "header {shown_as} is {}: give 1 to {BYTES_MAX} visible ASCII characters (others as %XX)",
            shown(&String::from_utf8_lossy(value.as_bytes()))
        ))),
    }
}

/// `GET /v1/drain`: the status, at once or when it has changed. With `Tidegate-Attempt` it renews the lease of what
/// that run asked for; without, that of who said nothing of itself.
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<DrainStatus>, Refusal> {
    let who = asker(&headers)?;
    let params = Params::read(&uri, &["wait_ms", "after"])?;
    let wait_ms = params.number("wait_ms", 0..=WAIT_MAX_MS)?.unwrap_or(0);
    let after = params.number("after", 0..=u64::MAX)?;
    Ok(Json(api.hub.drain.status(&api.hub, who, wait_ms, after).await))
}

/// `DELETE /v1/drain`: gives the hub back. With `Tidegate-Attempt`, what that run of the trigger asked for is undone, be
/// it heard already or not; with `Tidegate-Claimant` that one's claim ends; with neither an operator ends all of them.
/// When the last claim is gone the hub serves.
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    _: NoParams,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
) -> Result<Json<DrainStatus>, Refusal> {
    let who = asker(&headers)?;
    let caller = caller.map(|Extension(caller)| caller).unwrap_or_default().with_token(api.token.is_some());
    Ok(Json(api.hub.drain.cancel(&api.hub, who, caller)))
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
