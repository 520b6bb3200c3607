//! The link as the session's cell holds it: what the task is meant to do, and what it shares with the cell.

use super::events::{Event, Queue, Subject};
use super::socket::Line;
use crate::message::Message;
use futures_util::task::AtomicWaker;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use tokio::time::Instant;

/// Where the link is. The task exists in every stage but `Resting` and `Away`.
///
/// ```text
///   Resting ── bind, something to post ──► Binding ◄── the app's socket broke ──┐
///      ▲ ▲                                  │  │  │                             │
///      │ └── everything posted, no --app ───┘  │  └──────── dialled ─────────► Open ── the app closed for good ──► Ending
///      │                                       │ settle                         │ settle                             │
///      │                                       ▼                                ▼                                    │ client has all
///      └──── closed and answered, or late ── Settling ◄─────────────────────────┘                                    ▼ of it: End
///                                              └── the same, and bound again meanwhile ──► Binding
///   Binding ── dialled in vain for too long ──► Away ── its client asks again ──► Binding (alone)
///   Binding ── refused for good ──► Ending      Open ── what cannot be passed on ──► Ending
///   any ── unbind ──► the side is gone; the task says its last words and ends
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No socket, no task.
    Resting,
    /// Posts what waits, then dials if there is an app.
    Binding {
        /// What the app is told in `Tidegate-Resumed`.
        resumed: bool,
        /// Its client was sent away because the app was: it is not let in before the app is back.
        alone: bool,
    },
    /// The app was given up, and the client sent away. No socket, no task.
    Away,
    /// Relays.
    Open,
    /// The app finishes: no further message is written, the last ones are read, the state is asked for.
    Settling {
        /// When it is over, come what may.
        until: Instant,
        /// Whether it was put off, because the hub itself had stood still. That is done once.
        put_off: bool,
        /// What comes then.
        then: Then,
    },
    /// The app ended the session; its client gets all that was said before, then the app's code.
    Ending {
        /// The app's close code.
        code: u16,
        /// And its reason.
        reason: String,
    },
}

/// What comes after a settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The machine hears that the app has settled.
    Settled,
    /// The session thawed meanwhile: dial again.
    Bind {
        /// See [`Stage::Binding`].
        resumed: bool,
    },
}

/// The session's link to its app, as its cell sees it.
#[derive(Debug)]
pub struct Side {
    pub(super) stage: Stage,
    pub(super) events: Queue,
    pub(super) subject: Arc<Subject>,
    pub(super) bye: Option<Box<Bye>>,
    pub(super) bell: Arc<Bell>,
    /// The way to the app's socket, while there is one.
    pub(super) line: Option<Line>,
    pub(super) batch: Batch,
}

/// Messages that were put into the app's socket and are not known to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: usize,
    pub(super) bytes: u64,
    /// The offset of the last message that was ever put into this socket.
    pub(super) end: u64,
}

/// What the client said last, and what the app should get before it.
#[derive(Debug)]
pub(super) struct Bye {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) rest: Vec<Message>,
    /// The first of them has the offset after this one.
    pub(super) rest_from: u64,
}

/// The bell of the link's task; also how it knows that the side in the cell is still its own.
#[derive(Debug, Default)]
pub(super) struct Bell {
    waker: AtomicWaker,
    pub(super) farewell: OnceLock<Box<Farewell>>,
}

impl Bell {
    /// Wakes the link's task.
    pub(super) fn ring(&self) {
        self.waker.wake();
    }

    /// Who is woken by the next ring. Listen first, then look: a ring in between is not lost.
    pub(super) fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// What the task still has to do once the side is gone.
#[derive(Clone, Debug)]
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: String,
    /// Client messages that no app has taken.
    pub(super) rest: Vec<Message>,
    pub(super) events: Vec<Event>,
}
