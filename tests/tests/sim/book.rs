//! What the apps know: per session what they were given, what they said and over which sockets, and the
//! events. Kept outside of the simulated machines, as a database would be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::SessionId;

/// One session as its apps saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The client's messages by offset, from 1.
    pub(crate) taken: Vec<String>,
    /// Offsets that a hub says were taken and that no app has read: what a broken socket swallowed.
    pub(crate) swallowed: Vec<u64>,
    /// How many messages the apps have said.
    pub(crate) said: u64,
    sockets: Vec<Socket>,
    /// Events by their number.
    events: BTreeMap<u64, String>,
    /// What was answered to `moving`.
    states: Vec<Vec<u8>>,
    /// Whether `ended` or a reset of this session was told.
    pub(crate) over: bool,
}

/// One socket and the messages that were said over it.
#[derive(Clone, Copy, Debug)]
struct Socket {
    first: u64,
    last: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The hub closed it with a close frame: it read all that was said before.
    Clean,
    /// It broke.
    Broken,
}

/// How a message of the client fits what was read before.
pub(crate) enum Read {
    New,
    /// The app had it: after a broken socket the hub repeats, and names the offset.
    Again,
    Wrong(String),
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: Mutex<BTreeMap<SessionId, Entry>>,
    hushed: AtomicBool,
}

impl Book {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on apps only answer.
    pub(crate) fn hush(&self) {
        self.hushed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_hushed(&self) -> bool {
        self.hushed.load(Ordering::Relaxed)
    }

    pub(crate) fn entry(&self, session: SessionId) -> Entry {
        self.entries().get(&session).cloned().unwrap_or_default()
    }

    /// A hub dialled for a session of which `offset` messages were taken; gives the socket's number.
    pub(crate) fn socket_opened(&self, session: SessionId, offset: u64) -> usize {
        let mut entries = self.entries();
        let entry = entries.entry(session).or_default();
        for missing in entry.taken.len() as u64 + 1..=offset {
            entry.swallowed.push(missing);
            entry.taken.push(String::new());
        }
        entry.sockets.push(Socket { first: entry.said + 1, last: entry.said, end: End::Open });
        entry.sockets.len() - 1
    }

    pub(crate) fn socket_over(&self, session: SessionId, socket: usize, clean: bool) {
        let mut entries = self.entries();
        let entry = entries.entry(session).or_default();
        entry.sockets[socket].end = if clean { End::Clean } else { End::Broken };
    }

    /// The next thing that the app says: its number, and the message that it answers, if it does.
    pub(crate) fn say(&self, session: SessionId, socket: usize, to: Option<&str>) -> String {
        let mut entries = self.entries();
        let entry = entries.entry(session).or_default();
        entry.said += 1;
        entry.sockets[socket].last = entry.said;
        match to {
            Some(text) => format!("e {} {text}", entry.said),
            None => format!("d {}", entry.said),
        }
    }

    /// The client's message with this offset was read.
    pub(crate) fn taken(&self, session: SessionId, offset: u64, text: &str) -> Read {
        let mut entries = self.entries();
        let entry = entries.entry(session).or_default();
        let have = entry.taken.len() as u64;
        if offset == have + 1 {
            entry.taken.push(text.to_owned());
            return Read::New;
        }
        let before = usize::try_from(offset - 1).ok().and_then(|at| entry.taken.get_mut(at));
        match before {
            Some(before) if before.as_str() == text => Read::Again,
            // It was thought to be swallowed, and comes by another socket.
            Some(before) if before.is_empty() => {
                text.clone_into(before);
                entry.swallowed.retain(|swallowed| *swallowed != offset);
                Read::New
            }
            Some(before) => Read::Wrong(format!("{session}: offset {offset} is {text:?} and was {before:?} before")),
            None => Read::Wrong(format!("{session}: offset {offset} came when only {have} messages had come")),
        }
    }

    /// Whether message `n` of the apps may be missing: it was said over a socket that broke, or is open.
    pub(crate) fn may_miss(&self, session: SessionId, n: u64) -> bool {
        let entries = self.entries();
        let Some(entry) = entries.get(&session) else { return false };
        entry.sockets.iter().any(|socket| socket.first <= n && n <= socket.last && socket.end == End::Broken)
    }

    /// An event; gives the answer's body.
    pub(crate) fn event(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let event: Value =
            serde_json::from_slice(body).map_err(|error| format!("an event that is no JSON: {error}"))?;
        let name = event["event"].as_str().unwrap_or_default().to_owned();
        let session = event["session"].as_str().and_then(|text| text.parse::<SessionId>().ok());
        let (Some(session), Some(n)) = (session, event["n"].as_u64()) else {
            return Err(format!("an event without session and number: {event}"));
        };
        let mut entries = self.entries();
        let entry = entries.entry(session).or_default();
        match entry.events.get(&n) {
            Some(before) if *before != name => {
                return Err(format!("{session}: event {n} is {name:?} and was {before:?} before"));
            }
            Some(_) => {}
            None => {
                let last = entry.events.last_key_value().map(|(last, _)| *last);
                if let Some(last) = last.filter(|last| *last > n) {
                    return Err(format!("{session}: event {n} ({name}) came for the first time after event {last}"));
                }
                entry.events.insert(n, name.clone());
            }
        }
        match name.as_str() {
            "moving" => {
                let state = format!("{session} had taken {}", entry.taken.len()).into_bytes();
                entry.states.push(state.clone());
                return Ok(state);
            }
            "resumed" => {
                let state =
                    event["state_base64"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
                if !state.is_empty() && !entry.states.contains(&state) {
                    let shown = String::from_utf8_lossy(&state).into_owned();
                    return Err(format!("{session}: resumed with a state that no app gave: {shown:?}"));
                }
            }
            "ended" => entry.over = true,
            _ => {}
        }
        Ok(Vec::new())
    }
}
