//! The first exchange: who is it, and for which session. Ends with an order in the connection's lane
//! (a welcome, a retry or a close), now or when the hubs have settled it.

use super::connection::Request;
use crate::app::{self, Opening};
use crate::auth::{AuthError, Identity};
use crate::fault::{self, Step};
use crate::hub::Hub;
use crate::hub::cell::Cell;
use crate::hub::conn::{Conn, Order};
use crate::keys::{TokenError, UserTag};
use crate::message::Message;
use crate::telemetry::Rejected;
use std::sync::Arc;
use tidegate_protocol::app::GiveUp;
use tidegate_protocol::close::{self, Close};
use tidegate_protocol::frame::{Hello, ServerFrame};
use tidegate_protocol::id::{ResumeToken, SessionId};
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::credentials::Denied;
use tidegate_protocol::session::record::{HelloFacts, Profile, Record};

/// The longest language tag that a hello may carry.
const LANGUAGE_BYTES_MAX: usize = 35;
/// What a newcomer is told to wait when the hub is full of sessions, in milliseconds.
const FULL_RETRY_MS: u64 = 2_000;

/// Answers a hello.
pub async fn greet(hub: &Arc<Hub>, conn: &Arc<Conn>, request: &Request, hello: Hello) {
    fault::at(Step::HelloReceived);
    conn.greeted(hub.now());
    if hello.language.as_ref().is_some_and(|tag| tag.len() > LANGUAGE_BYTES_MAX) {
        hub.metrics.rejected.of(Rejected::Protocol).increment(1);
        conn.close(Close::ProtocolError, format!("hello.language is no tag of at most {LANGUAGE_BYTES_MAX} bytes"));
        return;
    }
    match &hello.token {
        Some(token) => match hub.mint.open(token, hub.unix_ms()) {
            Ok(body) => {
                let identity = match shown_by(hub, request, &hello) {
                    Ok(identity) => identity,
                    Err(error) => return refuse_auth(hub, conn, &error),
                };
                let shown = identity.as_ref().and_then(|identity| identity.user.as_deref());
                if body.user.zip(shown).is_some_and(|(owner, shown)| owner != UserTag::of(shown)) {
                    return refuse_token(hub, conn, TokenError::OtherUser);
                }
                let facts = HelloFacts {
                    serial: body.serial,
                    attempt: hello.attempt,
                    old: hello.old,
                    received: hello.received,
                    epoch: hello.epoch,
                };
                if let Some(identity) = identity {
                    hub.said.keep(conn.id, profile(request, hello, identity));
                }
                hub.returning(body.session, conn.id, facts, body.hub).await;
            }
            Err(error) => refuse_token(hub, conn, error),
        },
        None => match hub
            .auth
            .identify(hello.auth.as_ref().or(request.bearer.as_ref()).map(|jwt| jwt.0.as_str()), hub.unix_ms())
        {
            Ok(identity) => newcomer(hub, conn, request, hello, identity).await,
            Err(error) => refuse_auth(hub, conn, &error),
        },
    }
}

/// Who a client that comes back says it is: by the hello's JWT, which must be right, or else by the one of the
/// upgrade, which may be an old one and was good enough once. Without any the token alone speaks for it.
fn shown_by(hub: &Hub, request: &Request, hello: &Hello) -> Result<Option<Identity>, AuthError> {
    let identify = |jwt: &ResumeToken| hub.auth.identify(Some(&jwt.0), hub.unix_ms());
    match (&hello.auth, &request.bearer) {
        _ if !hub.auth.is_needed() => Ok(Some(Identity::default())),
        (Some(jwt), _) => identify(jwt).map(Some),
        (None, Some(jwt)) => Ok(identify(jwt).ok()),
        (None, None) => Ok(None),
    }
}

/// Takes a newer JWT for the session that a connection serves. One that is not right ends the connection.
pub fn renew(hub: &Hub, conn: &Conn, cell: &Cell, jwt: &ResumeToken) {
    if !hub.auth.is_needed() {
        return;
    }
    if !conn.may_renew(hub.now_s()) {
        conn.close(Close::ProtocolError, "auth: at most one a second");
        return;
    }
    let shown = match hub.auth.identify(Some(&jwt.0), hub.unix_ms()) {
        Ok(identity) => identity.credentials(),
        Err(error) => return refuse_auth(hub, conn, &error),
    };
    let mut inner = cell.lock();
    let Some(shown) = shown.filter(|_| inner.session.counted() == Some(conn.id)) else { return };
    match hub.renew(cell.id, &mut inner, &shown) {
        Ok(()) => {}
        // Not 4510 as beside a token: the token is good, it is the JWT that does not belong here.
        Err(Denied::OtherUser) => {
            hub.metrics.rejected.of(Rejected::Unauthorized).increment(1);
            conn.close(Close::AuthFailed, "the JWT is of another user than this session's");
        }
        Err(denied) => hub.turn_away(conn, denied),
    }
}

fn refuse_token(hub: &Hub, conn: &Conn, error: TokenError) {
    let (close, metric) = match error {
        TokenError::Malformed | TokenError::Forged => (Close::BadToken, Rejected::TokenForged),
        TokenError::Expired { .. } => (Close::TokenExpired, Rejected::TokenExpired),
        TokenError::OtherUser => (Close::BadToken, Rejected::Unauthorized),
    };
    hub.metrics.rejected.of(metric).increment(1);
    conn.close(close, error.to_string());
}

fn refuse_auth(hub: &Hub, conn: &Conn, error: &AuthError) {
    let (close, metric) = match error {
        AuthError::Missing => (Close::AuthRequired, Rejected::Unauthorized),
        AuthError::Expired { .. } => (Close::AuthExpired, Rejected::Unauthorized),
        AuthError::TooManyChannels { .. } => (Close::TooManyChannels, Rejected::Channels),
        AuthError::Malformed(_) | AuthError::Signature(_) | AuthError::Claim { .. } => {
            (Close::AuthFailed, Rejected::Unauthorized)
        }
    };
    hub.metrics.rejected.of(metric).increment(1);
    conn.close(close, error.to_string());
}

async fn newcomer(hub: &Arc<Hub>, conn: &Arc<Conn>, request: &Request, hello: Hello, identity: Identity) {
    let room = hub.room_for_a_session();
    if is_too_late(hub, conn) {
        return;
    }
    let Some(_room) = room else { return no_room(hub, conn) };
    let record = Record::new(Epoch(1), profile(request, hello, identity));
    start(hub, conn, record, Opening::New).await;
}

/// There is no room.
fn no_room(hub: &Hub, conn: &Conn) {
    hub.metrics.rejected.of(Rejected::Sessions).increment(1);
    hub.peers.turned_away();
    hub.retry(conn.id, FULL_RETRY_MS, "full");
}

/// Whether no session begins here any more; says so. To be asked by whoever has a [`Room`](crate::hub::Room)
/// already: a hub that ends waits for those.
fn is_too_late(hub: &Hub, conn: &Conn) -> bool {
    let too_late = hub.is_parked_for_good();
    if too_late {
        // The next process on this data directory will serve it, or another hub.
        hub.retry(conn.id, tidegate_protocol::session::RETRY_PARKED_MS, "parked");
    }
    too_late
}

/// Starts a new session under a new id: first the app (it has a say in the subprotocol), then the welcome.
async fn start(hub: &Arc<Hub>, conn: &Arc<Conn>, mut record: Record<Message>, opening: Opening) {
    let id = SessionId(hub.random());
    let side = match app::open(hub, id, &mut record, opening).await {
        Ok(side) => side,
        Err(unopened) => {
            match unopened.give_up {
                GiveUp::Refused => {
                    let why = unopened.to_string();
                    conn.order(Order::Close(app::REFUSED, close::reason(&why).to_owned().into()));
                }
                GiveUp::Away { after_ms } => hub.retry(conn.id, after_ms, app::AWAY),
            }
            return;
        }
    };
    hub.index.share(&mut record);
    let mut out = Vec::new();
    let session = Session::begin(id, hub.id, record, conn.id, 0, &mut out);
    let cell = Cell::new(session, hub.now());
    hub.insert(cell.clone());
    let mut inner = cell.lock();
    hub.index.add(id, inner.session.record());
    if let Some(side) = side {
        app::attach(hub, &cell, &mut inner, side);
    }
    crate::hub::act::carry_out(hub, &cell, &mut inner, out, None);
    hub.drain.arrived(hub, &cell, &mut inner);
}

/// Continuity was lost: says so, then starts a new session with what is left of the old one.
pub async fn reset(
    hub: &Arc<Hub>,
    conn: &Arc<Conn>,
    replaces: SessionId,
    why: &'static str,
    record: Option<Box<Record<Message>>>,
) {
    // A session that is here, or of which something is left to begin with, has its place already.
    let room = match record.is_some() || hub.cell(replaces).is_some() {
        true => Some(hub.room_in_any_case()),
        false => hub.room_for_a_session(),
    };
    if is_too_late(hub, conn) {
        return;
    }
    let Some(_room) = room else { return no_room(hub, conn) };
    let shown = hub.said.take(conn.id);
    let record = record.map(|mut record| {
        let shown = shown.as_ref().and_then(Profile::credentials).filter(|_| hub.auth.is_needed());
        let channels_max = hub.config.limits.channels_per_session;
        let now_unix_ms = if hub.auth.is_needed() { hub.unix_ms() } else { 0 };
        record.admit(shown.as_ref(), channels_max, now_unix_ms).map(|_| record)
    });
    let record = match record.transpose() {
        Ok(record) => record,
        Err(denied) => return hub.turn_away(conn, denied),
    };
    tracing::warn!(session = %replaces, why, "session reset: its client and its app are told");
    hub.metrics.resets.increment(1);
    hub.replaced(replaces);
    conn.send(&ServerFrame::Reset { why: why.into(), replaces });
    let record = match (record, shown) {
        (Some(record), _) => *record,
        // Nothing is left of the old one but what its client said just now.
        (None, Some(profile)) => Record::new(Epoch(2), profile),
        (None, None) => {
            conn.close(Close::AuthRequired, "continuity was lost; connect again with hello.auth");
            return;
        }
    };
    start(hub, conn, record, Opening::Reset { replaces, why }).await;
}

fn profile(request: &Request, hello: Hello, identity: Identity) -> Profile {
    Profile {
        user: identity.user.map(Into::into),
        // Absent means this path: most sessions of a hub without an app then share one profile.
        path: (request.path != super::CONNECT_PATH).then(|| request.path.as_str().into()),
        query: request.query.as_deref().map(Into::into),
        headers: request.headers.clone(),
        protocols: hello.protocols,
        protocol: None,
        language: hello.language.map(Into::into),
        auth_expires_unix_ms: identity.expires_unix_ms,
        granted: identity.channels.iter().map(|name| name.as_str().into()).collect(),
    }
}
