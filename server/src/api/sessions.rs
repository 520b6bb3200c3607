//! `/v1/sessions`: who is here, and what an app or an operator does to one of them.

use super::Api;
use super::input::{self, Named, NoParams, Params};
use super::problem::Refusal;
use crate::auth;
use crate::hub::Hub;
use crate::hub::calls::{Call, CallError, Reply, describe};
use crate::message::Message;
use crate::store::RecordState;
use axum::Json;
use axum::extract::{Request, State};
use http::{StatusCode, Uri, header};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidegate_protocol::control::{SessionInfo, SessionPhase, SessionsPage};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::session;

/// Sessions of one page, if nothing else is asked for.
const PAGE: u64 = 100;
/// Most sessions of one page.
const PAGE_MAX: u64 = 1_000;

/// Whether a session in this state is one of this hub's: owned, or a copy held for another hub.
/// (What is on disk is listed from there.)
pub(super) fn is_held(state: &session::State<Message>) -> bool {
    use session::State as S;
    match state {
        S::Serving { .. } | S::Frozen { .. } | S::Copy { .. } => true,
        S::Nothing | S::Parked { .. } | S::Given { .. } | S::Moved { .. } | S::Ended { .. } => false,
    }
}

/// `GET /v1/sessions`: one page, in the order of ids.
pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<SessionsPage>, Refusal> {
    let params = Params::read(&uri, &["limit", "after"])?;
    let limit = params.number("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE) as usize;
    let after = params.id::<SessionId>("after")?;
    // One more than asked for tells whether there is a next page.
    let mut found = page(&api.hub, after, limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).copied();
    let mut sessions = Vec::with_capacity(found.len());
    for id in found {
        // It may have gone since it was found; then it is left out.
        sessions.extend(here(&api.hub, id).await);
    }
    Ok(Json(SessionsPage { sessions, next }))
}

/// The first ids above `after` of what is held in memory and parked on disk, each once.
fn page(hub: &Hub, after: Option<SessionId>, limit: usize) -> Vec<SessionId> {
    let mut ids = BTreeSet::from_iter(parked(hub, after, limit));
    let mut rest = hub.cell_ids();
    rest.retain(|id| after.is_none_or(|after| *id > after));
    ids.extend(smallest(rest, limit, |id| hub.cell(id).is_some_and(|cell| is_held(cell.lock().session.state()))));
    ids.into_iter().take(limit).collect()
}

/// The smallest ids that are liked, up to `limit`, in order. Only so many are sorted as a page has; when too few of
/// them are liked, twice as many.
fn smallest(mut ids: Vec<SessionId>, limit: usize, likes: impl Fn(SessionId) -> bool) -> Vec<SessionId> {
    let (mut found, mut piece) = (Vec::new(), limit.max(1));
    while found.len() < limit && !ids.is_empty() {
        let rest = if piece < ids.len() {
            ids.select_nth_unstable(piece);
            ids.split_off(piece)
        } else {
            Vec::new()
        };
        ids.sort_unstable();
        found.extend(ids.into_iter().filter(|id| likes(*id)).take(limit - found.len()));
        (ids, piece) = (rest, piece * 2);
    }
    found
}

fn parked(hub: &Hub, mut after: Option<SessionId>, limit: usize) -> Vec<SessionId> {
    let mut found = Vec::new();
    loop {
        let listed = hub.store.list(after, limit);
        found.extend(listed.iter().filter(|(_, state)| *state == RecordState::Parked).map(|(id, _)| *id));
        match listed.last() {
            Some((last, _)) if found.len() < limit => after = Some(*last),
            Some(_) | None => return found,
        }
    }
}

/// A session of this hub as the listing shows it. Looking changes nothing: a parked one stays parked.
async fn here(hub: &Arc<Hub>, id: SessionId) -> Option<SessionInfo> {
    if let Some(cell) = hub.cell(id) {
        let inner = cell.lock();
        if is_held(inner.session.state()) {
            return Some(describe(hub, &cell, &inner));
        }
    }
    if !hub.is_parked(id) {
        return None;
    }
    let (fence, record, _) = hub.read_parked(id).await?;
    Some(SessionInfo {
        session: id,
        user: record.profile.user.as_deref().map(str::to_owned),
        channels: record.channels.iter().map(|name| name.to_string()).collect(),
        state_bytes: record.state.len() as u64,
        phase: SessionPhase::Parked,
        generation: fence.generation,
        epoch: record.epoch,
        connected_ms: None,
        idle_ms: None,
        sent: record.outbox.end().0,
        acked: record.outbox.base().0,
        received: record.received.0,
    })
}

/// `GET /v1/sessions/{id}`, wherever it is.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    _: NoParams,
) -> Result<Json<SessionInfo>, Refusal> {
    let id = input::session(&id)?;
    if let Some(info) = here(&api.hub, id).await {
        return Ok(Json(info));
    }
    match api.hub.call(id, Call::Describe, true).await? {
        Reply::Described(info) => Ok(Json(*info)),
        Reply::Done | Reply::State(_) => Err(CallError::Unknown(id).into()),
    }
}

/// `DELETE /v1/sessions/{id}`: ends it by an administrator's will.
pub(super) async fn evict(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    _: NoParams,
) -> Result<StatusCode, Refusal> {
    done(&api, &id, Call::Evict).await
}

/// `PUT /v1/sessions/{id}/channels/{name}`.
pub(super) async fn join(
    State(api): State<Arc<Api>>,
    Named((id, name)): Named<(String, String)>,
    _: NoParams,
) -> Result<StatusCode, Refusal> {
    done(&api, &id, Call::Join(channel(name)?)).await
}

/// `DELETE /v1/sessions/{id}/channels/{name}`.
pub(super) async fn leave(
    State(api): State<Arc<Api>>,
    Named((id, name)): Named<(String, String)>,
    _: NoParams,
) -> Result<StatusCode, Refusal> {
    done(&api, &id, Call::Leave(channel(name)?)).await
}

async fn done(api: &Api, id: &str, call: Call) -> Result<StatusCode, Refusal> {
    api.hub.call(input::session(id)?, call, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn channel(name: String) -> Result<String, Refusal> {
    match auth::check_name(&name) {
        Ok(()) => Ok(name),
        Err(right) => Err(Refusal::bad_request(format!(
            "the channel's name has {} bytes, {:?}: give {right}",
            name.len(),
            name.chars().take(40).collect::<String>()
        ))),
    }
}

/// `GET /v1/sessions/{id}/state`: the app's own bytes.
pub(super) async fn state(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    _: NoParams,
) -> Result<([(header::HeaderName, &'static str); 1], Vec<u8>), Refusal> {
    let id = input::session(&id)?;
    let opaque = [(header::CONTENT_TYPE, "application/octet-stream")];
    if api.hub.is_parked(id)
        && let Some((_, record, _)) = api.hub.read_parked(id).await
    {
        return Ok((opaque, record.state));
    }
    match api.hub.call(id, Call::GetState, true).await? {
        Reply::State(state) => Ok((opaque, state)),
        Reply::Done | Reply::Described(_) => Err(CallError::Unknown(id).into()),
    }
}

/// `PUT /v1/sessions/{id}/state`: the body as it is.
pub(super) async fn set_state(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    _: NoParams,
    request: Request,
) -> Result<StatusCode, Refusal> {
    input::session(&id)?;
    let limits = &api.hub.config.limits;
    let (limit, option) = match limits.state_bytes <= limits.api_body_bytes {
        true => (limits.state_bytes, "--limit-state-bytes"),
        false => (limits.api_body_bytes, "--limit-api-body-bytes"),
    };
    let state = input::read(request.into_body(), limit, "the state", option).await?;
    done(&api, &id, Call::SetState(state.into())).await
}

#[cfg(test)]
mod tests {
    use super::smallest;
    use tidegate_protocol::id::SessionId;

    #[test]
    fn a_page_has_the_smallest_that_are_liked_in_order_however_few_are() {
        let all: Vec<SessionId> = (0..10_000u128).map(|n| SessionId(n * 7_919 % 10_007)).collect();
        for (limit, one_in) in [(1, 1), (100, 1), (100, 3), (7, 2_500), (1_000, 50)] {
            let likes = |id: SessionId| id.0.is_multiple_of(one_in);
            let mut wanted: Vec<SessionId> = all.iter().copied().filter(|id| likes(*id)).collect();
            wanted.sort_unstable();
            wanted.truncate(limit);
            assert_eq!(smallest(all.clone(), limit, likes), wanted, "{limit}, one in {one_in}");
        }
        assert_eq!(smallest(Vec::new(), 5, |_| true), []);
    }
}
