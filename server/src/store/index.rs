//! What is in the log, in memory: where each session's body lies. The bodies stay on disk.

use super::record::Kind;
use std::collections::BTreeMap;
use tidegate_protocol::id::SessionId;

/// What the log says of a session that is in it.
///
/// ```text
///            park                taken_up
///   absent ───────► Parked ───────────────────► TakenUp
///     ▲  ▲            │  ▲ └ damage after it ┘    │  │
///     │  └────────────┘  └────────────────────────┘  │
///     │   moved, ended              park             │
///     └──────────────────────────────────────────────┘
///                      moved, ended
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// Nobody goes on with it: it may be taken up, and resumes where it was.
    Parked,
    /// A process took it up. Found when a log is opened: that process crashed, so the body yields a reset with user, channels and state.
    TakenUp,
}

/// Where a session's parked record lies, and what counts for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: RecordState,
    pub(super) offset: u64,
    pub(super) record_bytes: u32,
}

/// Numbers of the store, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions that may be taken up.
    pub parked: usize,
    /// Sessions that were taken up and are not over.
    pub taken_up: usize,
    /// Length of the log.
    pub log_bytes: u64,
    /// How much of the log nobody needs any more.
    pub dead_bytes: u64,
    /// Damaged places met since the store was opened.
    pub damaged: u64,
}

/// One record, as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) kind: Kind,
    pub(super) session: SessionId,
    pub(super) offset: u64,
    pub(super) record_bytes: u32,
}

/// The sessions in the log, in the order of their ids, so that whoever lists them always gets the same order.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<SessionId, Entry>,
    parked: usize,
    live_bytes: u64,
    key_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) damaged: u64,
}

impl Index {
    pub(super) fn get(&self, session: SessionId) -> Option<Entry> {
        self.entries.get(&session).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, Entry)> + '_ {
        self.entries.iter().map(|(session, entry)| (*session, *entry))
    }

    pub(super) fn after(&self, after: Option<SessionId>) -> impl Iterator<Item = (SessionId, Entry)> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.entries.range((from, Unbounded)).map(|(session, entry)| (*session, *entry))
    }

    pub(super) fn apply(&mut self, change: Change) {
        let Change { kind, session, offset, record_bytes } = change;
        match kind {
            Kind::Parked => self.set(session, Some(Entry { state: RecordState::Parked, offset, record_bytes })),
            Kind::TakenUp => self.demote(session),
            Kind::Moved | Kind::Ended => self.set(session, None),
            Kind::Key => self.key_bytes = u64::from(record_bytes),
        }
    }

    /// Makes a session one that nobody may resume from here. A session that is not in the log stays out of it.
    pub(super) fn demote(&mut self, session: SessionId) {
        if let Some(entry) = self.get(session) {
            self.set(session, Some(Entry { state: RecordState::TakenUp, ..entry }));
        }
    }

    fn set(&mut self, session: SessionId, entry: Option<Entry>) {
        let old = match entry {
            Some(entry) => {
                self.parked += usize::from(entry.state == RecordState::Parked);
                self.live_bytes += u64::from(entry.record_bytes);
                self.entries.insert(session, entry)
            }
            None => self.entries.remove(&session),
        };
        if let Some(old) = old {
            self.parked -= usize::from(old.state == RecordState::Parked);
            self.live_bytes -= u64::from(old.record_bytes);
        }
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Whether the file begins as it should.
    pub(super) fn has_key(&self) -> bool {
        self.key_bytes > 0
    }

    /// What even an empty log takes.
    fn overhead_bytes(&self) -> u64 {
        super::record::FILE_HEADER.len() as u64 + self.key_bytes
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            parked: self.parked,
            taken_up: self.entries.len() - self.parked,
            log_bytes: self.log_bytes,
            dead_bytes: self.log_bytes.saturating_sub(self.overhead_bytes() + self.live_bytes),
            damaged: self.damaged,
        }
    }
}
