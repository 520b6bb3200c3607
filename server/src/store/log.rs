//! The log itself: one caller at a time, blocking. The writer thread owns it.

use super::index::{Change, Index, RecordState};
use super::record::{self, FILE_HEADER, HEADER_BYTES, Header, Kind};
use super::scan::{self, Recovered};
use super::{BESIDE_BYTES_MAX, BESIDE_NAME, BESIDE_NEXT_NAME, Disk, LOG_NAME, LOG_NEXT_NAME, Limits, Seal, StoreError};
use crate::fault::{self, Step};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tidegate_protocol::id::SessionId;

/// Bytes written at a time while the log is rewritten.
const COPY_BYTES: usize = 1 << 20;

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) seal: Arc<dyn Seal>,
    pub(super) limits: Limits,
    // A plain lock, held for one look or one read of the disk, never across an await. A reader holds it while it reads, so
    // that a rewrite cannot move the record under it.
    index: RwLock<Index>,
}

impl Shared {
    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leave_beside(&self, plain: &[u8]) -> Result<(), StoreError> {
        let failed = || StoreError::disk("leave something for the next process");
        let (disk, sealed) = (&self.disk, self.seal.seal(BESIDE_NAME, plain));
        disk.create(BESIDE_NEXT_NAME).map_err(failed())?;
        disk.append(BESIDE_NEXT_NAME, 0, &sealed).map_err(failed())?;
        disk.sync(BESIDE_NEXT_NAME).map_err(failed())?;
        disk.rename(BESIDE_NEXT_NAME, BESIDE_NAME).map_err(failed())?;
        disk.sync_dir().map_err(failed())
    }

    pub(super) fn take_beside(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = || StoreError::disk("take what the process before left");
        let Some(bytes) = self.disk.size_bytes(BESIDE_NAME).map_err(failed())? else { return Ok(None) };
        let mut sealed = vec![0; usize::try_from(bytes).unwrap_or_default().min(BESIDE_BYTES_MAX)];
        let count = self.disk.read_at(BESIDE_NAME, 0, &mut sealed).map_err(failed())?;
        sealed.truncate(count);
        self.disk.remove(BESIDE_NAME).map_err(failed())?;
        self.disk.sync_dir().map_err(failed())?;
        Ok(self.seal.open(BESIDE_NAME, &sealed))
    }

    /// State and body of a session; `None` if it is not in the log. Blocks.
    pub(super) fn read(&self, session: SessionId) -> Result<Option<(RecordState, Vec<u8>)>, StoreError> {
        let index = self.index();
        let Some(entry) = index.get(session) else { return Ok(None) };
        let mut bytes = vec![0; entry.record_bytes as usize];
        let count =
            self.disk.read_at(LOG_NAME, entry.offset, &mut bytes).map_err(StoreError::disk("read a parked record"))?;
        drop(index);
        let header = Header::parse(&bytes[..count], self.limits.sealed_bytes_max());
        let whole = header.filter(|header| {
            header.kind == Kind::Parked && header.session == session && header.record_bytes() == count
        });
        match whole.and_then(|header| header.open(&*self.seal, &bytes[HEADER_BYTES..])) {
            Some(body) => Ok(Some((entry.state, body))),
            None => Err(StoreError::Damaged { session }),
        }
    }
}

/// Whether the file is what [`Log::len_bytes`] says it is. Nothing is written before it is sound again.
///
/// ```text
///   Sound ──append or sync failed──► Torn  ──cut back and synced──► Sound
///   Sound ──renamed, dir not synced──► Loose ──dir synced──► Sound
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    /// There may be bytes after the last good one.
    Torn,
    /// The file's name may be forgotten in a crash, and with it all that is written to it.
    Loose,
}

/// Records that are written together or not at all: one parked session, or all sessions of one other call.
pub(super) struct Unit {
    pub(super) bytes: Vec<u8>,
    /// Offsets count from the unit's begin.
    pub(super) changes: Vec<Change>,
}

impl Unit {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), changes: Vec::new() }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, seal: &dyn Seal, kind: Kind, session: SessionId, body: &[u8]) {
        let offset = self.bytes.len();
        record::encode(seal, kind, session, body, &mut self.bytes);
        let record_bytes = u32::try_from(self.bytes.len() - offset)
            .expect("bodies are checked against Limits::record_bytes_max, which is a u32");
        self.changes.push(Change { kind, session, offset: offset as u64, record_bytes });
    }
}

/// The open log.
pub(super) struct Log {
    pub(super) shared: Arc<Shared>,
    len_bytes: u64,
    health: Health,
    // Dead bytes that the last rewrite left, or gave up on: only more than these are worth another.
    dead_floor_bytes: u64,
}

impl Log {
    /// Opens the log, or begins one. Reads all of it.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        limits: Limits,
    ) -> Result<(Self, Recovered), StoreError> {
        disk.remove(LOG_NEXT_NAME).map_err(StoreError::disk("remove a rewrite that was not finished"))?;
        let size = disk.size_bytes(LOG_NAME).map_err(StoreError::disk("look at the log"))?;
        let scanned = match size {
            Some(file_bytes) => scan::scan(&*disk, &*seal, &limits, file_bytes)?,
            None => scan::Scanned::default(),
        };
        let shared = Arc::new(Shared { disk, seal, limits, index: RwLock::new(scanned.index) });
        let mut log = Self { shared, len_bytes: scanned.good_bytes, health: Health::Sound, dead_floor_bytes: 0 };
        if log.len_bytes < FILE_HEADER.len() as u64 {
            log.rewrite()?;
            return Ok((log, scanned.recovered));
        }
        // What was read may never have been synced, name and bytes: the crash may have come just before. From here on it counts.
        log.shared.disk.sync(LOG_NAME).map_err(StoreError::disk("sync the log"))?;
        log.health = Health::Loose;
        log.make_sound()?;
        if scanned.recovered.torn_bytes > 0 {
            log.health = Health::Torn;
            log.make_sound()?;
        }
        if !scanned.demoted.is_empty() {
            log.append_demoted(&scanned.demoted)?;
        }
        if scanned.recovered.damaged > 0 || !log.shared.index().has_key() {
            log.compact();
        }
        Ok((log, scanned.recovered))
    }

    /// Says in the log what damage made of sessions, so that the next scan, which may not see the damage, finds the same.
    fn append_demoted(&mut self, sessions: &BTreeSet<SessionId>) -> Result<(), StoreError> {
        let mut unit = Unit::new();
        for session in sessions {
            unit.push(&*self.shared.seal, Kind::TakenUp, *session, &[]);
        }
        self.append(&[unit]).into_iter().collect()
    }

    /// Writes units and syncs them. The answer has one entry per unit; those with `Ok` are durable and in the index.
    pub(super) fn append(&mut self, units: &[Unit]) -> Vec<Result<(), StoreError>> {
        if let Err(error) = self.make_sound() {
            return vec![Err(error); units.len()];
        }
        let start = self.len_bytes;
        let mut offsets = vec![start; units.len()];
        let mut results = vec![Ok(()); units.len()];
        let together: Vec<u8> = units.iter().flat_map(|unit| unit.bytes.iter().copied()).collect();
        match self.write("write to the log", &together) {
            Ok(()) => {
                let mut at = start;
                for (offset, unit) in offsets.iter_mut().zip(units) {
                    *offset = at;
                    at += unit.bytes.len() as u64;
                }
            }
            // Together they do not fit; some may.
            Err(_) => self.write_singly(units, &mut offsets, &mut results),
        }
        if let Err(error) = self.shared.disk.sync(LOG_NAME).map_err(StoreError::disk("sync the log")) {
            self.len_bytes = start;
            self.health = Health::Torn;
            let error = if self.make_sound().is_ok() { error } else { error.unrepaired() };
            return vec![Err(error); units.len()];
        }
        fault::at(Step::AfterLogSync);
        self.refuse_parks_if_removed(units, &mut results);
        let mut index = self.shared.index_mut();
        for ((unit, offset), _) in units.iter().zip(&offsets).zip(&results).filter(|(_, result)| result.is_ok()) {
            for change in &unit.changes {
                index.apply(Change { offset: offset + change.offset, ..*change });
            }
        }
        index.log_bytes = self.len_bytes;
        results
    }

    /// What is parked in a log that has lost its name is nobody's: whoever was told that it is safe would be told
    /// wrong. Everything else that is said to the log only takes sessions out of it, and may go on.
    fn refuse_parks_if_removed(&self, units: &[Unit], results: &mut [Result<(), StoreError>]) {
        let parks = |unit: &Unit| unit.changes.iter().any(|change| change.kind == Kind::Parked);
        if !units.iter().any(parks) {
            return;
        }
        let in_place = self.shared.disk.check_in_place(LOG_NAME).map_err(StoreError::disk("look at the log"));
        let Err(error) = in_place else { return };
        for (_, result) in units.iter().zip(results).filter(|(unit, _)| parks(unit)) {
            *result = Err(error.clone());
        }
    }

    fn write_singly(&mut self, units: &[Unit], offsets: &mut [u64], results: &mut [Result<(), StoreError>]) {
        for ((unit, offset), result) in units.iter().zip(offsets).zip(results.iter_mut()) {
            *result = self.cut_back().and_then(|()| {
                *offset = self.len_bytes;
                self.write("write to the log", &unit.bytes)
            });
        }
        if let Err(error) = self.cut_back() {
            tracing::error!(%error, "the log has bytes after its end that cannot be cut; tried again before the next write");
            for result in results {
                *result = std::mem::replace(result, Ok(())).map_err(StoreError::unrepaired);
            }
        }
    }

    fn write(&mut self, doing: &'static str, bytes: &[u8]) -> Result<(), StoreError> {
        fault::at(Step::BeforeLogWrite);
        // Halves only where a test looks at what a crash between them leaves; else the second one is empty.
        let (first, second) = fault::halves(Step::MidLogWrite, bytes);
        let disk = &self.shared.disk;
        let written = disk.append(LOG_NAME, self.len_bytes, first).and_then(|()| {
            fault::at(Step::MidLogWrite);
            if second.is_empty() { Ok(()) } else { disk.append(LOG_NAME, self.len_bytes + first.len() as u64, second) }
        });
        match written {
            Ok(()) => {
                self.len_bytes += bytes.len() as u64;
                fault::at(Step::AfterLogWrite);
                Ok(())
            }
            Err(error) => {
                self.health = Health::Torn;
                Err(StoreError::disk(doing)(error))
            }
        }
    }

    /// Cuts off what a failed write left; the caller syncs.
    fn cut_back(&mut self) -> Result<(), StoreError> {
        if self.health == Health::Torn {
            let cut = self.shared.disk.truncate(LOG_NAME, self.len_bytes);
            cut.map_err(StoreError::disk("cut off what a failed write left")).map_err(StoreError::unrepaired)?;
            self.health = Health::Sound;
        }
        Ok(())
    }

    fn make_sound(&mut self) -> Result<(), StoreError> {
        let disk = &*self.shared.disk;
        match self.health {
            Health::Sound => {}
            Health::Torn => {
                disk.truncate(LOG_NAME, self.len_bytes)
                    .map_err(StoreError::disk("cut off what a failed write left"))?;
                disk.sync(LOG_NAME).map_err(StoreError::disk("sync the log"))?;
            }
            Health::Loose => disk.sync_dir().map_err(StoreError::disk("sync the data directory"))?,
        }
        self.health = Health::Sound;
        Ok(())
    }

    /// Rewrites the log if that is worth it. A failure is logged; the log as it was goes on.
    pub(super) fn compact_if_worth(&mut self) {
        let index = self.shared.index();
        let (dead, live) = (index.stats().dead_bytes, index.live_bytes());
        drop(index);
        let grown = dead.saturating_sub(self.dead_floor_bytes);
        if grown >= self.shared.limits.compact_dead_bytes_min && dead > live {
            self.compact();
        }
    }

    /// Errors if `bytes` more would make the log too large, even rewritten.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), StoreError> {
        let bytes_max = self.shared.limits.log_bytes_max;
        if self.len_bytes + bytes <= bytes_max {
            return Ok(());
        }
        // Only if that helps, or each refused session would rewrite the log again.
        let stats = self.shared.index().stats();
        if stats.dead_bytes > self.dead_floor_bytes && self.len_bytes - stats.dead_bytes + bytes <= bytes_max {
            self.compact();
        }
        match self.len_bytes + bytes {
            bytes if bytes > bytes_max => Err(StoreError::LogFull { bytes, bytes_max }),
            _ => Ok(()),
        }
    }

    /// Drops what is dead. A failure is logged; the log as it was goes on.
    pub(super) fn compact(&mut self) {
        if let Err(error) = self.make_sound().and_then(|()| self.rewrite()) {
            tracing::warn!(%error, "the log could not be rewritten; it goes on as it is");
        }
        self.dead_floor_bytes = self.shared.index().stats().dead_bytes;
    }

    /// Empties the log if nobody may be resumed from it. For a clean exit: what was taken up is accounted for by then.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.make_sound()?;
        let stats = self.shared.index().stats();
        if stats.parked > 0 || (stats.taken_up == 0 && stats.dead_bytes == 0) {
            return Ok(());
        }
        let taken_up: Vec<_> = self.shared.index().iter().map(|(session, _)| session).collect();
        let mut index = self.shared.index_mut();
        for session in taken_up {
            index.apply(Change { kind: Kind::Ended, session, offset: 0, record_bytes: 0 });
        }
        drop(index);
        self.rewrite()
    }

    /// Writes what is alive to a new file and puts it in the place of the old one. Until the rename nothing has happened.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.shared.disk);
        let (next, damaged) = match self.write_next() {
            Ok(next) => next,
            Err(error) => {
                // Best effort: the next open removes it too.
                let _ = disk.remove(LOG_NEXT_NAME);
                return Err(error);
            }
        };
        let mut index = self.shared.index_mut();
        disk.rename(LOG_NEXT_NAME, LOG_NAME).map_err(StoreError::disk("rename the rewritten log"))?;
        self.len_bytes = next.log_bytes;
        let damaged = index.damaged + damaged;
        *index = next;
        index.damaged = damaged;
        drop(index);
        self.health = Health::Loose;
        self.make_sound()
    }

    /// The new file, synced, its index, and how many damaged records were left out.
    fn write_next(&self) -> Result<(Index, u64), StoreError> {
        let Shared { disk, seal, .. } = &*self.shared;
        let failed = || StoreError::disk("write the new log");
        disk.create(LOG_NEXT_NAME).map_err(failed())?;
        let mut index = Index::default();
        let mut damaged = 0;
        let mut unit = Unit { bytes: FILE_HEADER.to_vec(), changes: Vec::new() };
        unit.push(&**seal, Kind::Key, SessionId(0), &[]);
        let sessions: Vec<_> = self.shared.index().iter().map(|(session, _)| session).collect();
        for session in sessions {
            match self.shared.read(session) {
                Ok(Some((state, body))) => {
                    // Sealed anew, so that a key that is rotated out can be forgotten one day.
                    unit.push(&**seal, Kind::Parked, session, &body);
                    if state == RecordState::TakenUp {
                        unit.push(&**seal, Kind::TakenUp, session, &[]);
                    }
                }
                Ok(None) => {}
                Err(StoreError::Damaged { session }) => {
                    tracing::error!(%session, "a parked record is damaged; its session is lost");
                    damaged += 1;
                }
                Err(error) => return Err(error),
            }
            if unit.bytes.len() >= COPY_BYTES {
                Self::flush(&**disk, &mut unit, &mut index).map_err(failed())?;
            }
        }
        Self::flush(&**disk, &mut unit, &mut index).map_err(failed())?;
        disk.sync(LOG_NEXT_NAME).map_err(failed())?;
        Ok((index, damaged))
    }

    fn flush(disk: &dyn Disk, unit: &mut Unit, index: &mut Index) -> std::io::Result<()> {
        disk.append(LOG_NEXT_NAME, index.log_bytes, &unit.bytes)?;
        for change in unit.changes.drain(..) {
            index.apply(Change { offset: index.log_bytes + change.offset, ..change });
        }
        index.log_bytes += unit.bytes.len() as u64;
        unit.bytes.clear();
        Ok(())
    }
}
