//! A new session and the app: `opened` (or `reset`) first, then the socket, and only then the welcome.

use super::dial::{self, DialError};
use super::events::{self, Answer as Answered, Event, Kind, Queue, Subject};
use super::link;
use super::side::{Batch, Bell, Farewell, Side, Stage};
use super::socket::AppSocket;
use super::{troubles, words};
use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use crate::message::Message;
use crate::telemetry::AppTrouble;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::app::{Answer, GiveUp, Next, Redials};
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
    /// No socket.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl AppError {
    fn answer(&self) -> Answer {
        match self {
            Self::Event(_) => Answer::None,
            Self::EventRefused(status) => Answer::Status(status.as_u16()),
            Self::Dial(error) => error.answer(),
        }
    }
}

/// The app did not take a new session, and what its client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unopened {
    /// Why.
    pub why: AppError,
    /// Refused for good, or when to come back.
    pub give_up: GiveUp,
}

/// The tries of one opening.
struct Tries<'a> {
    hub: &'a Hub,
    redials: Redials,
    until: Instant,
}

impl<'a> Tries<'a> {
    fn begin(hub: &'a Hub) -> Self {
        let until = Instant::now() + Duration::from_millis(OPEN_MS);
        Self { hub, redials: Redials::begin(hub.now()), until }
    }

    /// Rests before the next try, if there is to be one.
    async fn failed(&mut self, why: AppError) -> Result<(), Unopened> {
        let hub = self.hub;
        let mut limits = link::redial_limits(hub);
        limits.within_ms = limits.within_ms.min(OPEN_MS);
        let chance = hub.random() as u64;
        match self.redials.failed(hub.now(), why.answer(), &hub.config.app_finals, limits, chance) {
            Next::Again(at) => {
                tokio::time::sleep(Duration::from_millis(at.since(hub.now()))).await;
                Ok(())
            }
            Next::GiveUp(give_up) => Err(Unopened { why, give_up }),
        }
    }
}

/// Asks the app to take a new session, within some 5 s. The app chooses `record.profile.protocol` among
/// the client's. `None`: there is no app to ask.
///
/// # Errors
/// See [`Unopened`]; it is counted and told in the log here. An app that was told `opened` is told `ended` then.
pub async fn open(
    hub: &Arc<Hub>,
    id: SessionId,
    record: &mut Record<Message>,
    opening: Opening,
) -> Result<Option<Opened>, Unopened> {
    let opened = opened(hub, id, record, opening).await;
    if let Err(Unopened { why, give_up }) = &opened {
        let trouble = match give_up {
            GiveUp::Refused => AppTrouble::Refused,
            GiveUp::Away { .. } => AppTrouble::Away,
        };
        troubles::tell(hub, trouble, id, why);
    }
    opened
}

async fn opened(
    hub: &Arc<Hub>,
    id: SessionId,
    record: &mut Record<Message>,
    opening: Opening,
) -> Result<Option<Opened>, Unopened> {
    if hub.config.app.is_none() && hub.config.app_events.is_none() {
        return Ok(None);
    }
    let mut tries = Tries::begin(hub);
    let subject = Subject::of(id, record);
    if hub.config.app_events.is_some() {
        record.app_events += 1;
        let kind = match opening {
            Opening::New => Kind::Opened,
            Opening::Reset { replaces, why } => Kind::Reset { replaces, why },
        };
        tell(&mut tries, &subject, &Event { n: record.app_events, kind }, &record.state).await?;
    }
    if hub.config.app.is_none() {
        return Ok(Some(Opened { socket: None }));
    }
    match knock(&mut tries, id, record).await {
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

async fn tell(tries: &mut Tries<'_>, subject: &Subject, event: &Event, state: &[u8]) -> Result<(), Unopened> {
    let (hub, until) = (tries.hub, tries.until);
    let body = events::body(hub.id, subject, event, state);
    loop {
        let posting = async {
            let _turn = hub.app.posts.acquire().await;
            events::post(hub, body.clone(), false).await
        };
        let why = match tokio::time::timeout_at(until, posting).await {
            Ok(Answered::Taken(_)) => return Ok(()),
            Ok(Answered::Refused(status)) => AppError::EventRefused(status),
            Ok(Answered::Failed(why)) => AppError::Event(why),
            Err(_) => AppError::Event("no answer".into()),
        };
        tries.failed(why).await?;
    }
}

async fn knock(tries: &mut Tries<'_>, id: SessionId, record: &Record<Message>) -> Result<dial::Dialled, Unopened> {
    let (hub, until) = (tries.hub, tries.until);
    loop {
        let dialling = async {
            let app = hub.config.app.as_ref().ok_or_else(|| DialError::Unreachable("no --app is set".into()))?;
            dial::dial(hub, dial::request(hub, app, id, record, false)?).await
        };
        let why = match tokio::time::timeout_at(until, dialling).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(error)) => error,
            Err(_) => DialError::Late(OPEN_MS),
        };
        tries.failed(why.into()).await?;
    }
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
