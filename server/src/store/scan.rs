//! Reads a log from its beginning and finds out what it holds, whatever state it is in.
//!
//! A damaged place is either the torn tail of a write that never was said `Ok` to, or real damage: something whole comes after it. Real
//! damage must not let anybody resume a session that was taken up or moved, so where it could hide such a word it counts as said:
//! a reset is declared to the client, two owners would not be.

use super::index::{Change, Index, RecordState};
use super::record::{FILE_HEADER, FILE_MAGIC, HEADER_BYTES, Header, Kind, MAGIC};
use super::{Disk, LOG_NAME, Limits, Seal, StoreError};
use std::collections::BTreeSet;
use tidegate_protocol::id::SessionId;

/// Bytes read from the disk at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sessions that resume where they were, in the order of their ids.
    pub parked: Vec<SessionId>,
    /// Sessions that the process before took up, and crashed: their bodies yield a reset with user, channels and state.
    pub taken_up: Vec<SessionId>,
    /// Sessions whose record is damaged: nothing of them is left but the id.
    pub lost: Vec<SessionId>,
    /// Damaged places that were skipped, each logged as an error.
    pub damaged: u64,
    /// Sessions that are among `taken_up` only because a damaged place after their record may have said so.
    pub doubtful: u64,
    /// Bytes at the end that a crash had left half written; nobody was told that they were safe.
    pub torn_bytes: u64,
}

/// What a scan yields besides the index.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) index: Index,
    /// Where the last whole record ends.
    pub(super) good_bytes: u64,
    pub(super) recovered: Recovered,
    /// Sessions that damage made doubtful: the log must say that they are taken up before anything is cut or written.
    pub(super) demoted: BTreeSet<SessionId>,
    lost: BTreeSet<SessionId>,
}

/// A damaged place, with what its header still tells.
struct Damage {
    offset: u64,
    header: Option<Header>,
}

/// Reads the whole log. The file must exist.
pub(super) fn scan(disk: &dyn Disk, seal: &dyn Seal, limits: &Limits, file_bytes: u64) -> Result<Scanned, StoreError> {
    let mut window = Window { disk, file_bytes, start: 0, bytes: Vec::new() };
    let mut scanned = Scanned::default();
    // Damaged places with nothing whole after them so far: a torn tail, unless something comes.
    let mut pending = Vec::new();
    check_file_header(&mut window, &mut scanned)?;
    let mut at = FILE_HEADER.len() as u64;
    scanned.good_bytes = at.min(file_bytes);
    while at < file_bytes {
        let header = Header::parse(window.get(at, HEADER_BYTES)?, limits.sealed_bytes_max());
        let Some(header) = header else {
            pending.push(Damage { offset: at, header: None });
            match window.find_header(at + 1, limits)? {
                Some(next) => at = next,
                None => break,
            }
            continue;
        };
        let record = window.get(at, header.record_bytes())?;
        let whole = record.len() == header.record_bytes() && header.open(seal, &record[HEADER_BYTES..]).is_some();
        let record_bytes = header.record_bytes() as u64;
        if whole {
            pending.drain(..).for_each(|damage| scanned.middle(&damage));
            let record_bytes = u32::try_from(record_bytes).expect("parse allows no record longer than a u32");
            scanned.record(Change { kind: header.kind, session: header.session, offset: at, record_bytes });
            scanned.good_bytes = at + record_bytes as u64;
        } else {
            pending.push(Damage { offset: at, header: Some(header) });
        }
        at += record_bytes;
    }
    let is_key = |damage: &Damage| damage.header.is_some_and(|header| header.kind == Kind::Key);
    if scanned.good_bytes <= FILE_HEADER.len() as u64 && pending.len() > 1 && pending.iter().any(is_key) {
        return Err(StoreError::WrongKey);
    }
    pending.iter().for_each(|damage| scanned.tail(damage));
    scanned.finish(file_bytes);
    Ok(scanned)
}

fn check_file_header(window: &mut Window<'_>, scanned: &mut Scanned) -> Result<(), StoreError> {
    let header = window.get(0, FILE_HEADER.len())?;
    if header == FILE_HEADER {
        return Ok(());
    }
    let version = |header: &[u8]| header.get(6..8).and_then(|at| at.try_into().ok()).map_or(0, u16::from_le_bytes);
    let (found, known) = (version(header), version(&FILE_HEADER));
    if header.starts_with(FILE_MAGIC) && found > known {
        return Err(StoreError::Version { found, known });
    }
    // The header is written and renamed into place as a whole, so this is damage; what comes after it may be fine.
    tracing::error!(file = LOG_NAME, "the first bytes of the log are damaged; reading the records after them");
    scanned.recovered.damaged += 1;
    Ok(())
}

impl Scanned {
    fn record(&mut self, change: Change) {
        self.index.apply(change);
        self.demoted.remove(&change.session);
        self.lost.remove(&change.session);
    }

    /// Damage with something whole after it.
    fn middle(&mut self, damage: &Damage) {
        self.recovered.damaged += 1;
        match damage.header {
            Some(header) => {
                tracing::error!(offset = damage.offset, session = %header.session, kind = ?header.kind, "a record in the log is damaged; skipped");
                if header.kind == Kind::Parked && self.index.get(header.session).is_none() {
                    self.lost.insert(header.session);
                }
                self.doubt(header.session);
            }
            None => {
                let parked = |(session, entry): (SessionId, super::index::Entry)| {
                    (entry.state == RecordState::Parked).then_some(session)
                };
                let doubtful: Vec<_> = self.index.iter().filter_map(parked).collect();
                tracing::error!(
                    offset = damage.offset,
                    doubtful = doubtful.len(),
                    "the log is damaged and does not tell whose records were here; skipped, and what was parked before is reset instead of resumed"
                );
                doubtful.into_iter().for_each(|session| self.doubt(session));
            }
        }
    }

    /// Damage with nothing whole after it: a write that the crash cut, of which nobody was told. But a word that a session
    /// is gone or taken up was about to be acted on, or has rotted since, so it counts.
    fn tail(&mut self, damage: &Damage) {
        if let Some(header) = damage.header.filter(|header| header.kind != Kind::Parked) {
            self.doubt(header.session);
        }
    }

    fn doubt(&mut self, session: SessionId) {
        if self.index.get(session).is_some_and(|entry| entry.state == RecordState::Parked) {
            self.index.demote(session);
            self.demoted.insert(session);
        }
    }

    fn finish(&mut self, file_bytes: u64) {
        self.index.log_bytes = self.good_bytes;
        self.index.damaged = self.recovered.damaged;
        let found = &mut self.recovered;
        for (session, entry) in self.index.iter() {
            match entry.state {
                RecordState::Parked => found.parked.push(session),
                RecordState::TakenUp => found.taken_up.push(session),
            }
        }
        found.lost = self.lost.iter().copied().collect();
        found.doubtful = self.demoted.len() as u64;
        found.torn_bytes = file_bytes - self.good_bytes;
        if found.torn_bytes > 0 {
            tracing::warn!(
                bytes = found.torn_bytes,
                "the end of the log was half written when the process before ended; dropped"
            );
        }
    }
}

/// The part of the file that is in memory just now.
struct Window<'a> {
    disk: &'a dyn Disk,
    file_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `len` bytes at `offset`; fewer only at the end of the file.
    fn get(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let len = usize::try_from(self.file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        let held = self.start..self.start + self.bytes.len() as u64;
        if !(held.contains(&offset) && offset + len as u64 <= held.end) {
            self.bytes.resize(len.max(WINDOW_BYTES), 0);
            let count =
                self.disk.read_at(LOG_NAME, offset, &mut self.bytes).map_err(StoreError::disk("read the log"))?;
            self.bytes.truncate(count);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from.min(self.bytes.len())..(from + len).min(self.bytes.len())])
    }

    /// Where the next readable header begins, from `offset` on.
    fn find_header(&mut self, mut offset: u64, limits: &Limits) -> Result<Option<u64>, StoreError> {
        while offset + HEADER_BYTES as u64 <= self.file_bytes {
            let bytes = self.get(offset, WINDOW_BYTES)?;
            if bytes.len() < HEADER_BYTES {
                // The file became shorter while it was read; the lock forbids that, but a loop must end all the same.
                return Ok(None);
            }
            let is_header = |at: &usize| {
                bytes[*at..].starts_with(&MAGIC) && Header::parse(&bytes[*at..], limits.sealed_bytes_max()).is_some()
            };
            let last = bytes.len() - HEADER_BYTES;
            if let Some(at) = (0..=last).find(is_header) {
                return Ok(Some(offset + at as u64));
            }
            offset += last as u64 + 1;
        }
        Ok(None)
    }
}
