//! What the hub tells the kitchen: `POST /tidegate/events`. At least once, in order per session, keyed by session,
//! epoch and n; so each is carried out once and a repeat gets the same answer.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Kitchen;
use crate::guests::{Arrival, Brought, EventKey, Full};
use crate::table::Table;

/// How many bytes one event may have: the largest state as base64, and room for the rest.
pub(crate) const EVENT_MAX_BYTES: usize = 128 * 1024;

/// One event. Fields that the kitchen has no use for are left unread.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    event: String,
    /// Absent in events about the hub itself.
    session: Option<String>,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    n: u64,
    /// The id of the hub that says so.
    hub: Option<String>,
    /// In `reset`: the session that this one replaces.
    replaces: Option<String>,
    /// In `resumed` and `reset`: what led to it.
    why: Option<String>,
    /// In `resumed` and `reset`: what this kitchen, or another instance of it, gave in `moving`.
    state_base64: Option<String>,
}

impl Event {
    fn key(&self) -> EventKey {
        (self.epoch, self.n)
    }

    fn arrival(&self, now_ms: u64) -> Arrival {
        // The hub holds what was given to it last, in a `moving` long ago; the table here has lived on since.
        let socket_lost = self.why.as_deref() == Some("socket_lost");
        let brought = if socket_lost { Brought::Older } else { Brought::Newer };
        Arrival { hub: self.hub.clone(), table: self.table(now_ms), brought }
    }

    /// The table that the event brings. A state that cannot be read is reported and counts as none: the session goes
    /// on with an empty table, and its page says so.
    fn table(&self, now_ms: u64) -> Option<Table> {
        let text = self.state_base64.as_deref().filter(|text| !text.is_empty())?;
        let session = self.session.as_deref();
        match STANDARD.decode(text) {
            Ok(state) if state.is_empty() => None,
            Ok(state) => Table::unpack(&state, now_ms)
                .inspect_err(|why| tracing::error!(session, %why, "a state cannot be taken up"))
                .ok(),
            Err(why) => {
                tracing::error!(session, %why, "a state is not base64");
                None
            }
        }
    }
}

/// Answers one event.
pub(crate) async fn take(State(kitchen): State<Kitchen>, event: Result<Json<Event>, JsonRejection>) -> Response {
    let event = match event {
        Ok(Json(event)) => event,
        Err(why) => return refuse(why.status(), &why.body_text()),
    };
    let Some(session) = event.session.as_deref() else {
        tracing::info!(event = event.event, hub = event.hub, "the hub says");
        return ok();
    };
    tracing::debug!(event = event.event, session, epoch = event.epoch, n = event.n, "event");
    let guests = &kitchen.guests;
    let done = match event.event.as_str() {
        "opened" => guests.opened(session, event.key(), event.hub.clone()),
        "resumed" => guests.resumed(session, event.key(), event.arrival(guests.now_ms())),
        "reset" => {
            if let Some(replaced) = event.replaces.as_deref().filter(|replaced| *replaced != session) {
                guests.ended(replaced);
            }
            guests.resumed(session, event.key(), event.arrival(guests.now_ms()))
        }
        "ended" => {
            guests.ended(session);
            Ok(())
        }
        "moving" => return moving(&kitchen, session, event.key()).await,
        // `drain`, `recalled`, and what a newer hub may say: the page hears of a drain from its own socket.
        _ => Ok(()),
    };
    done.map_or_else(|full: Full| refuse(StatusCode::SERVICE_UNAVAILABLE, &full.to_string()), |()| ok())
}

async fn moving(kitchen: &Kitchen, session: &str, key: EventKey) -> Response {
    match kitchen.guests.moving(session, key).await {
        Ok(state) => ([("content-type", "application/octet-stream")], state).into_response(),
        Err(why) => {
            tracing::warn!(session, %why, "cannot let a session move");
            refuse(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())
        }
    }
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}
