//! A new session and the app: `opened` (or `reset`) first, then the socket, and only then the welcome.

use super::dial::{self, DialError};
use super::events::{self, Answer, Event, Kind, Queue, Subject};
use super::link;
use super::side::{Batch, Bell, Farewell, Side, Stage};
use super::socket::AppSocket;
use super::words;
use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use crate::message::Message;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::session::record::Record;
use tokio::time::Instant;

/// How long a new session may wait for its app, all tries together, in milliseconds.
const OPEN_MS: u64 = 5_000;

/// Why the app hears of a session for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is new.
    New,
    /// Continuity was lost: it stands in the place of another.
    Reset {
        /// Which one.
        replaces: SessionId,
        /// A word of the wire, such as `owner_lost`.
        why: &'static str,
    },
}

/// The app has taken a session; [`attach`] makes it the session's.
#[derive(Debug)]
pub struct Opened {
    socket: Option<AppSocket>,
}

/// Why the app did not take a new session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// The event could not be posted in time.
    #[error("the app took no event within {OPEN_MS} ms: {0}")]
    Event(String),
    /// The event was refused.
    #[error("the app answered {0} to the event of a new session")]
    EventRefused(StatusCode),
    /// The client's path cannot be asked for.
    #[error("the app cannot be asked for this path: {0}")]
    Path(String),
    /// No socket.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl AppError {
    /// Whether the app looked at this session and will not have it, so that its client need not come back.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Event(_) => false,
            Self::EventRefused(_) | Self::Path(_) => true,
            Self::Dial(error) => error.is_final(),
        }
    }
}

/// Asks the app to take a new session, within some 5 s. The app chooses `record.profile.protocol` among
/// the client's. `None`: there is no app to ask.
///
/// # Errors
/// See [`AppError`]. An app that was told `opened` is told `ended` then.
pub async fn open(
    hub: &Arc<Hub>,
    id: SessionId,
    record: &mut Record<Message>,
    opening: Opening,
) -> Result<Option<Opened>, AppError> {
    if hub.config.app.is_none() && hub.config.app_events.is_none() {
        return Ok(None);
    }
    let until = Instant::now() + Duration::from_millis(OPEN_MS);
    let subject = Subject::of(id, record);
    if hub.config.app_events.is_some() {
        record.app_events += 1;
        let kind = match opening {
            Opening::New => Kind::Opened,
            Opening::Reset { replaces, why } => Kind::Reset { replaces, why },
        };
        tell(hub, &subject, &Event { n: record.app_events, kind }, &record.state, until).await?;
    }
    if hub.config.app.is_none() {
        return Ok(Some(Opened { socket: None }));
    }
    match knock(hub, id, record, until).await {
        Ok(dialled) => {
            record.profile_mut().protocol = dialled.protocol;
            Ok(Some(Opened { socket: Some(dialled.socket) }))
        }
        Err(error) => {
            if hub.config.app_events.is_some() {
                let kind = Kind::Ended { code: 1006, reason: "its socket could not be opened".into() };
                let events = vec![Event { n: record.app_events + 1, kind }];
                let farewell = Farewell { code: 1001, reason: String::new(), rest: Vec::new(), events };
                tokio::spawn(words::last_words(hub.clone(), Arc::new(subject), farewell, None));
            }
            Err(error)
        }
    }
}

async fn tell(hub: &Hub, subject: &Subject, event: &Event, state: &[u8], until: Instant) -> Result<(), AppError> {
    let body = events::body(hub.id, subject, event, state);
    let mut tries = 0;
    loop {
        let posting = async {
            let _turn = hub.app.posts.acquire().await;
            events::post(hub, body.clone(), false).await
        };
        match tokio::time::timeout_at(until, posting).await {
            Ok(Answer::Taken(_)) => return Ok(()),
            Ok(Answer::Refused(status)) => return Err(AppError::EventRefused(status)),
            Ok(Answer::Failed(why)) => rest(hub, &mut tries, until).await.map_err(|()| AppError::Event(why))?,
            Err(_) => return Err(AppError::Event("no answer".into())),
        }
    }
}

async fn knock(hub: &Hub, id: SessionId, record: &Record<Message>, until: Instant) -> Result<dial::Dialled, AppError> {
    let Some(app) = &hub.config.app else { return Err(DialError::Unreachable("no --app is set".into()).into()) };
    let mut tries = 0;
    loop {
        let request = dial::request(hub, app, id, record, false).map_err(|error| AppError::Path(error.to_string()))?;
        match tokio::time::timeout_at(until, dial::dial(hub, request)).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(error)) if error.is_final() => return Err(error.into()),
            Ok(Err(error)) => rest(hub, &mut tries, until).await.map_err(|()| error)?,
            Err(_) => return Err(DialError::Late(OPEN_MS).into()),
        }
    }
}

/// Rests before the next try; `Err` if there is no time for one.
async fn rest(hub: &Hub, tries: &mut u32, until: Instant) -> Result<(), ()> {
    let at = Instant::now() + words::backoff(hub, *tries);
    *tries += 1;
    if at >= until {
        return Err(());
    }
    tokio::time::sleep_until(at).await;
    Ok(())
}

/// Makes what [`open`] opened the session's; under its cell's lock.
pub fn attach(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner, opened: Opened) {
    let Some(record) = inner.session.record() else { return };
    let line = opened.socket.as_ref().map(AppSocket::line);
    let side = Side {
        stage: if opened.socket.is_some() { Stage::Open } else { Stage::Resting },
        events: Queue::after(record.app_events),
        subject: Arc::new(Subject::of(cell.id, record)),
        bye: None,
        bell: Arc::new(Bell::default()),
        line,
        batch: Batch::default(),
    };
    if let Some(socket) = opened.socket {
        link::start(hub, cell, &side, Some(socket));
    }
    inner.app = Some(Box::new(side));
}
