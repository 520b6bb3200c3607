//! The app behind the hub: a socket per session (`--app`), and events by HTTP POST (`--app-events`).
//!
//! The session's cell holds a [`Side`]: what the link is meant to do. One task per session does it
//! ([`link`]), and only while there is a socket or something to tell; the hub rings it. Everything here
//! that takes an [`Inner`] runs under the cell's lock and never blocks.
//!
//! | part | what |
//! |---|---|
//! | `open` | a new session, before its welcome |
//! | `link`, `plan`, `posting` | the task: relays, posts, dials again, settles |
//! | `relay` | what the client says, into the app's socket |
//! | `words` | its last words, and how long it rests between tries |
//! | `side` | what the cell holds |
//! | `notice` | news of a drain |
//! | `socket`, `dial`, `pulse` | one WebSocket to the app, and whether it is alive |
//! | `troubles` | what apps do that clients feel: counted, and told in the log |
//! | `events` | what is posted |

mod dial;
mod events;
mod link;
mod notice;
mod open;
mod plan;
mod posting;
mod pulse;
mod relay;
mod side;
mod socket;
#[cfg(test)]
pub(crate) mod tests;
mod troubles;
mod words;

pub use dial::{DialError, is_under_path};
pub use notice::{Notice, notify_all};
pub use open::{AppError, Opened, Opening, Unopened, attach, open};
pub use relay::relay;
pub use side::Side;
pub use troubles::left_out;

use crate::config::{Config, SettingError};
use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use crate::peer_list::PeerNames;
use crate::telemetry::AppTrouble;
use crate::tls::{self, Connector};
use crate::world::World;
use bytes::Bytes;
use events::{Kind, Queue, Subject};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pulse::Beat;
use rustls::ClientConfig;
use side::{Batch, Bye, Farewell, Stage, Then};
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::session::State;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long an idle connection for events is kept: below what common servers allow.
const IDLE_MS: u64 = 4_000;

/// The code for a client that the app will not have: no other try can help.
pub const REFUSED: u16 = 1008;
/// Why a client is to come back later, as a word of the wire.
pub const AWAY: &str = "app_unavailable";
/// When a client that found its session without an app is to look again, in milliseconds.
pub const LOOK_AGAIN_MS: u64 = 500;

/// What all sessions share on the way to the app.
pub struct App {
    client: Option<Client<Connector, Full<Bytes>>>,
    tls: Option<Arc<ClientConfig>>,
    dials: Semaphore,
    posts: Arc<Semaphore>,
    left_out: troubles::LeftOut,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("dials", &self.dials).field("posts", &self.posts).finish_non_exhaustive()
    }
}

impl App {
    /// The client, the semaphores, and what TLS needs if the app is reached by it.
    ///
    /// # Errors
    /// The system's certificate authorities cannot be used.
    pub fn new(config: &Config, world: &World) -> Result<Self, SettingError> {
        let limits = &config.limits;
        let asked = config.app.is_some() || config.app_events.is_some();
        let tls = if asked { Some(tls::client_config(None)?) } else { None };
        let client = config.app_events.as_ref().and(tls.clone()).map(|tls| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_millis(IDLE_MS))
                .pool_max_idle_per_host(limits.app_posts as usize)
                .build(tls::connector(world.clone(), tls, PeerNames::default(), limits.app_event_ms))
        });
        let permits = |count: u64| (count as usize).min(Semaphore::MAX_PERMITS);
        let posts = Arc::new(Semaphore::new(permits(limits.app_posts)));
        let dials = Semaphore::new(permits(limits.app_dials));
        Ok(Self { client, tls, dials, posts, left_out: Default::default() })
    }
}

/// Whether sessions are relayed to an app.
pub fn relays(hub: &Hub) -> bool {
    hub.config.app.is_some()
}

/// The session is served here after a handover, a thaw or a restart: the app is told `resumed`, then dialled.
pub fn bind(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner, resumed: bool) {
    if hub.config.app.is_none() && hub.config.app_events.is_none() {
        return;
    }
    let Some(record) = inner.session.record() else { return };
    let (last, subject) = (record.app_events, Subject::of(cell.id, record));
    let side = inner.app.get_or_insert_with(|| {
        let (subject, bell) = (Arc::new(subject), Arc::default());
        Box::new(Side {
            stage: Stage::Resting,
            events: Queue::after(last),
            subject,
            bye: None,
            bell,
            line: None,
            batch: Batch::default(),
        })
    });
    match &mut side.stage {
        Stage::Resting | Stage::Away => {
            if resumed && hub.config.app_events.is_some() {
                side.events.push(&mut inner.session, Kind::Resumed { why: "bound" });
            }
            side.stage = Stage::Binding { resumed, alone: false };
            link::start(hub, cell, side, None);
        }
        // The old socket is closed first.
        Stage::Settling { then, .. } => *then = Then::Bind { resumed },
        Stage::Binding { .. } | Stage::Open | Stage::Ending { .. } => {}
    }
    side.bell.ring();
}

/// A client comes back to a session that is served here. True: its app was given up, so that nothing would be behind
/// its connection. The app is tried once more; the client is to look again.
pub fn is_away(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) -> bool {
    let Some(side) = &mut inner.app else { return false };
    match side.stage {
        Stage::Away => {
            if hub.config.app_events.is_some() {
                side.events.push(&mut inner.session, Kind::Resumed { why: "socket_lost" });
            }
            side.stage = Stage::Binding { resumed: true, alone: true };
            link::start(hub, cell, side, None);
            true
        }
        Stage::Binding { alone, .. } => alone,
        Stage::Resting | Stage::Open | Stage::Settling { .. } | Stage::Ending { .. } => false,
    }
}

/// Looks whether the app's socket is alive: asks an app that is silent, and gives up a socket that has been silent
/// for three heartbeats. Once a tick.
pub fn beat(hub: &Hub, cell: &Cell, inner: &Inner, now_s: u32, heartbeat_s: u32) {
    let Some(side) = &inner.app else { return };
    let (Stage::Open, Some(line)) = (&side.stage, &side.line) else { return };
    match line.pulse().beat(now_s, heartbeat_s) {
        Beat::Sound => {}
        Beat::Ask => line.ping(),
        Beat::Dead => {
            troubles::tell(hub, AppTrouble::Silent, cell.id, &format_args!("{heartbeat_s} s each"));
            line.lock().shut();
        }
    }
    if !line.lock().is_clean() {
        side.bell.ring();
    }
}

/// The session ended or is elsewhere: the app's socket is closed, and an end is told.
pub fn unbind(hub: &Arc<Hub>, _cell: &Arc<Cell>, inner: &mut Inner) {
    let Some(side) = inner.app.take() else { return };
    let Side { stage, mut events, subject, bye, bell, batch, .. } = *side;
    events.drop_steps();
    let ended = matches!(inner.session.state(), State::Ended { .. });
    let bye = match (&stage, bye) {
        (Stage::Ending { code, reason }, _) => {
            Bye { code: *code, reason: reason.clone(), rest: Vec::new(), rest_from: 0 }
        }
        (_, Some(bye)) if ended => *bye,
        (_, _) if ended => Bye { code: 1001, reason: "the session is over".into(), rest: Vec::new(), rest_from: 0 },
        (_, _) => Bye { code: 1012, reason: "the session is elsewhere".into(), rest: Vec::new(), rest_from: 0 },
    };
    if ended && hub.config.app_events.is_some() {
        events.push(&mut inner.session, Kind::Ended { code: bye.code, reason: bye.reason.clone() });
    }
    let Bye { code, reason, mut rest, rest_from } = bye;
    // What was put already is not said twice.
    rest.drain(..(batch.end.saturating_sub(rest_from) as usize).min(rest.len()));
    let farewell = Farewell { code, reason, rest, events: events.into_waiting() };
    if matches!(stage, Stage::Resting | Stage::Away) {
        if !farewell.events.is_empty() || !farewell.rest.is_empty() {
            tokio::spawn(words::last_words(hub.clone(), subject, farewell, None));
        }
        return;
    }
    // Only here is it set, and a side is unbound once.
    drop(bell.farewell.set(Box::new(farewell)));
    bell.ring();
}

/// The session is frozen: the app finishes. True: the machine will hear of [`Settled`] from the link,
/// after `--limit-app-moving-time` at the latest. False: nobody has to finish.
///
/// [`Settled`]: tidegate_protocol::session::Event::Settled
pub fn settle(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) -> bool {
    let Some(side) = &mut inner.app else { return false };
    let until = Instant::now() + Duration::from_millis(hub.config.limits.app_moving_ms);
    let then = Then::Settled;
    let tells = hub.config.app_events.is_some();
    match &mut side.stage {
        Stage::Resting if !tells => return false,
        Stage::Resting => {
            side.events.push(&mut inner.session, Kind::Moving);
            side.stage = Stage::Settling { until, put_off: false, then };
            link::start(hub, cell, side, None);
        }
        Stage::Binding { .. } | Stage::Open => {
            // An app that has not heard `resumed` does not have the state: the one in the record holds.
            let knows = !side.events.owes_resumed();
            side.events.drop_steps();
            if tells && knows {
                side.events.push(&mut inner.session, Kind::Moving);
            }
            side.stage = Stage::Settling { until, put_off: false, then };
        }
        // It thawed and froze again before the app was done: what runs is as good for this freeze.
        Stage::Settling { then: next, .. } => *next = then,
        // The app is done already, or away. What its client has not got moves.
        Stage::Ending { .. } | Stage::Away => return false,
    }
    side.bell.ring();
    true
}

/// There may be messages for the app, or room for its own.
pub fn wake(inner: &Inner) {
    if let Some(side) = &inner.app
        && side.stage != Stage::Resting
    {
        side.bell.ring();
    }
}

/// The session's connection was given all there is: an app that ended the session waits for that.
pub fn caught_up(inner: &Inner) {
    if let Some(side) = &inner.app
        && matches!(side.stage, Stage::Ending { .. })
    {
        side.bell.ring();
    }
}

/// The client is about to end the session: this is what the app's socket is closed with, once it got
/// what the client said before.
pub fn client_bye(inner: &mut Inner, conn: ConnectionId, code: u16, reason: String) {
    if inner.session.counted() != Some(conn) {
        // A connection that was displaced ends nothing.
        return;
    }
    let (Some(side), Some(record)) = (&mut inner.app, inner.session.record()) else { return };
    let rest = record.untaken.iter().cloned().collect();
    side.bye = Some(Box::new(Bye { code, reason, rest, rest_from: record.taken().0 }));
}
