//! What goes into the client machine and what comes out of it, and the two small rules beside it:
//! how long to wait, and where a `move` may lead.

use crate::frame::{ClientFrame, Notice, ServerFrame};
use crate::id::{HubId, ResumeToken, SessionId};
use crate::position::Offset;
use crate::replay::ReplayLimits;
use std::borrow::Cow;

/// One connection of one client, numbered in the order of dialling from 1. What arrives late on a
/// dropped one is known by its number and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u32);

/// How long to wait before coming back when no hub gives an order: full jitter above a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// At least so long, before the first retry too, in milliseconds.
    pub floor_ms: u64,
    /// The range of the first wait above the floor, in milliseconds; doubled with each failure.
    pub first_ms: u64,
    /// At most so long, in milliseconds.
    pub max_ms: u64,
    /// A connection that was good for so long sets the counter back to zero, in milliseconds.
    pub stable_ms: u64,
}

impl Backoff {
    /// The wait after so many failures in a row; `chance` is any evenly spread number.
    pub fn wait_ms(&self, failures: u8, chance: u64) -> u64 {
        let range = self.first_ms.saturating_mul(1 << failures.min(32));
        let above = self.max_ms.saturating_sub(self.floor_ms).min(range);
        self.floor_ms.saturating_add(chance % above.saturating_add(1).max(1))
    }

    /// One more failure; stops rising where the wait does, so that the machine stays small.
    pub(super) fn raised(&self, failures: u8) -> u8 {
        let range = self.first_ms.saturating_mul(1 << failures.min(32));
        if range < self.max_ms && failures < 32 { failures + 1 } else { failures }
    }
}

/// What a client is told once. Shared by all clients of a program, hence not kept in the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The public URL that this client uses, `ws://…` or `wss://…`.
    pub home: String,
    /// Follow a `move` to another host name too. Never from `wss:` to `ws:`.
    pub foreign_hosts: bool,
    /// Subprotocols that the application offers.
    pub protocols: Vec<String>,
    /// A JWT for `hello.auth`.
    pub auth: Option<ResumeToken>,
    /// The language for notices, as BCP 47.
    pub language: Option<String>,
    /// What may wait for the hub's ack; beyond it, [`Report::Refused`].
    pub unacked: ReplayLimits,
    /// Ack at the latest after so many messages.
    pub ack_messages: u64,
    /// Ack at the latest after so many milliseconds.
    pub ack_ms: u64,
    /// A dialled connection must be welcomed, retried or reset in this time, in milliseconds.
    pub answer_ms: u64,
    /// The waits between tries.
    pub backoff: Backoff,
}

impl Settings {
    /// The defaults of the wire's specification for this URL.
    pub fn new(home: impl Into<String>) -> Self {
        Self {
            home: home.into(),
            foreign_hosts: false,
            protocols: Vec::new(),
            auth: None,
            language: None,
            unacked: ReplayLimits { messages_max: 1024, bytes_max: 1024 * 1024 },
            ack_messages: 32,
            ack_ms: 250,
            answer_ms: 15_000,
            backoff: Backoff { floor_ms: 100, first_ms: 500, max_ms: 20_000, stable_ms: 5_000 },
        }
    }

    /// Whether a `move` may lead there: the same host name (unless allowed), and never out of TLS.
    pub fn may_follow(&self, url: &str) -> bool {
        let (Some((from, old_host)), Some((to, new_host))) = (scheme_and_host(&self.home), scheme_and_host(url)) else {
            return false;
        };
        let known = |scheme: &str| scheme.eq_ignore_ascii_case("ws") || scheme.eq_ignore_ascii_case("wss");
        let downgrade = from.eq_ignore_ascii_case("wss") && !to.eq_ignore_ascii_case("wss");
        known(to) && !downgrade && (self.foreign_hosts || old_host.eq_ignore_ascii_case(new_host))
    }
}

/// `wss://user@host:port/path` as `("wss", "host")`.
fn scheme_and_host(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority.rsplit('@').next()?;
    let host = match host_and_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host_and_port.split(':').next()?,
    };
    (!host.is_empty()).then_some((scheme, host))
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event<M> {
    /// The upgrade succeeded.
    Opened(Conn),
    /// A frame arrived.
    Frame(Conn, ServerFrame),
    /// An app message arrived, its escape taken off.
    App(Conn, M),
    /// Something else arrived, such as a WebSocket ping: the other side lives.
    Heard(Conn),
    /// The connection ended, or never came to be; the close code if there was one.
    Closed(Conn, Option<u16>),
    /// The connection ended, and the close reason says when to come back ([`crate::close::slot_ms`]).
    ClosedUntil {
        /// Which.
        conn: Conn,
        /// The close code.
        code: u16,
        /// Not before, in milliseconds.
        after_ms: u64,
    },
    /// The application sends a message.
    Send(M),
    /// The application may be moved now.
    Ready,
    /// The application asks not to be moved for so many milliseconds.
    Busy {
        /// How long, in milliseconds.
        ms: u64,
        /// For the operator's eyes.
        why: Option<String>,
    },
    /// The application ends the session; with a code, the hub's app sees it.
    End {
        /// The code for the app behind the hub.
        code: Option<u16>,
        /// The reason for the app behind the hub.
        reason: Option<String>,
    },
    /// The moment of [`Client::poll_timeout`](super::Client::poll_timeout) has come.
    Timer,
}

/// What to do about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action<M> {
    /// Open a connection; absent `url`: [`Settings::home`].
    Dial {
        /// Its number.
        conn: Conn,
        /// Where to.
        url: Option<String>,
    },
    /// Send a frame.
    Send(Conn, ClientFrame),
    /// Send an app message.
    Message(Conn, M),
    /// Close the connection, which may still be dialling; nothing that comes from it matters any more.
    Close(Conn, u16, Cow<'static, str>),
    /// Give a message to the application.
    Deliver(M),
    /// Tell the application.
    Report(Report<M>),
}

/// What an application is told beside its messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report<M> {
    /// A session began.
    Opened {
        /// Its id.
        session: SessionId,
        /// Where it lives.
        hub: HubId,
    },
    /// The session goes on over a second connection; the first worked until then.
    Moved {
        /// Where it lives now.
        hub: HubId,
    },
    /// The session goes on after its connection had been lost.
    Resumed {
        /// Where it lives now.
        hub: HubId,
    },
    /// The connection is gone; coming back.
    Reconnecting {
        /// The close code, if there was one.
        code: Option<u16>,
    },
    /// Continuity was lost, and a new session took the place of the old one.
    Reset {
        /// Why, as the hub said.
        why: Cow<'static, str>,
        /// The session that is no more.
        replaces: SessionId,
        /// The new one.
        session: SessionId,
        /// Where it lives.
        hub: HubId,
        /// What the hub had not acked; never sent again by itself.
        unsent: Vec<M>,
    },
    /// Messages `from`+1 … `to` of the hub are lost for good.
    Gap {
        /// The last one delivered.
        from: Offset,
        /// The last one lost.
        to: Offset,
        /// Why, as the hub said.
        why: Cow<'static, str>,
    },
    /// The service is pausing.
    Notice(Notice),
    /// The drain was cancelled.
    Recalled,
    /// The unacked buffer is full; the message comes back.
    Refused(M),
    /// The session is over for this client.
    Ended {
        /// The code: the app's own, or one of [`Close`](crate::close::Close).
        code: u16,
        /// In words.
        reason: Cow<'static, str>,
        /// What the hub had not acked.
        unsent: Vec<M>,
    },
}
