//! Messages to all, to a user, to a channel: applied in one origin's order, numbered for each session
//! that is served here, and remembered for a while for sessions that arrive late (rule 17).
//!
//! Each message carries a stamp (origin's incarnation, n). A session freezes with the vector of stamps
//! applied so far; where it goes live, thaws, or is taken up from the disk, it gets what is missing from this ring,
//! and what it had already is skipped when it comes. Nothing is kept per idle session.
//!
//! What a hub could not get (it was away, or its link was) comes later, from its origin's ring and in order. Where
//! that is too short, or nobody is left who has it, it is a **hole**: every session that it may concern is told.
//! A process that ends in good order leaves its ledger to the next one beside its parked sessions (`remains.rs`);
//! without it, what was parked is told that something may be missing.

use super::Hub;
use super::cell::{Cell, Inner};
use super::conn;
use super::remains::Remains;
use crate::app;
use crate::message::Message;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::control::Target;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::id::{Incarnation, SessionId};
use tidegate_protocol::replay::{Payload, ReplayLimits};
use tidegate_protocol::session::State;
use tidegate_protocol::session::channels::Channels;
use tidegate_protocol::session::record::{Profile, Record};

/// Marks the origin of messages that stay on one hub. Incarnations are milliseconds of Unix time, so none has it.
const STAYS: u64 = 1 << 63;

/// Sessions that are written to before others may run: some 0.2 ms.
const TURN: usize = 32;

/// A fleet-wide message with its stamp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The run of the hub that it was posted to.
    pub origin: Incarnation,
    /// Its number there.
    pub n: u64,
    /// To whom. Never a single session.
    pub to: Target,
    /// What.
    pub message: Message,
}

/// The ledger behind its lock. Taken before any cell's lock, see [`Cell`].
#[derive(Debug)]
pub struct Ledger(Mutex<Fan>);

impl Ledger {
    /// A ledger for this run of the hub, which goes on with what the run before left.
    pub fn new(own: Incarnation, ring_messages_max: usize, ring_bytes_max: usize, remains: Option<Remains>) -> Self {
        let mut fan = Fan {
            own,
            applied: BTreeMap::new(),
            met_at: BTreeMap::from([(own, 0), (staying(own), 0)]),
            over: BTreeSet::new(),
            past: BTreeMap::new(),
            heirs: BTreeSet::from([own]),
            doubted: BTreeSet::new(),
            left: false,
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_messages_max,
            ring_bytes_max,
        };
        if let Some(remains) = remains {
            fan.go_on_with(remains);
        }
        fan.applied.extend([(own, 0), (staying(own), 0)]);
        Self(Mutex::new(fan))
    }

    /// The lock.
    pub fn lock(&self) -> MutexGuard<'_, Fan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was applied, and the recent past.
#[derive(Debug)]
pub struct Fan {
    pub(super) own: Incarnation,
    pub(super) applied: BTreeMap<Incarnation, u64>,
    /// Where the numbers of runs stood when this hub met them: up to there nothing was ever applied here.
    met_at: BTreeMap<Incarnation, u64>,
    /// Runs that are no more (or not met again yet), and of which the ring still has messages.
    pub(super) over: BTreeSet<Incarnation>,
    /// The last numbers of runs of which nothing is left here, for sessions on disk.
    pub(super) past: BTreeMap<Incarnation, u64>,
    /// This run, and the runs before it whose ledgers it goes on with.
    pub(super) heirs: BTreeSet<Incarnation>,
    /// Of those the runs after which, while this hub was away, something was published that nobody can give it any
    /// more: what they parked may lack it.
    pub(super) doubted: BTreeSet<Incarnation>,
    /// It was left to the next process: what is stamped now would be known to nobody.
    pub(super) left: bool,
    /// With how many sessions each was numbered for.
    pub(super) ring: VecDeque<(Entry, u64)>,
    pub(super) ring_bytes: usize,
    ring_messages_max: usize,
    ring_bytes_max: usize,
}

/// What came of a fleet-wide message on one hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Sessions that it was numbered for, and those on disk that get it when they are taken up.
    pub sessions: u64,
    /// Sessions on their way between hubs that are not counted here: one of the two has them, or will.
    pub moving: Vec<SessionId>,
    /// Sessions that are counted here and have just come: the other hub may name them as moving.
    pub came: Vec<SessionId>,
}

/// How many of these are named, each: beyond it an answer may count a session twice, or not at all.
const NAMED_MAX: usize = 1_024;
/// Forgotten runs whose last number is remembered; the oldest goes first.
pub(super) const PAST_MAX: usize = 1_024;

impl Fan {
    /// Stamps a message that was posted to this hub.
    pub fn stamp(&self, to: Target, message: Message) -> Entry {
        self.stamped(self.own, to, message)
    }

    /// Stamps a message that stays on this hub. It has numbers of its own: one that peers never get must
    /// not look like a gap to them, nor reach sessions that come later from elsewhere.
    pub fn stamp_staying(&self, to: Target, message: Message) -> Entry {
        self.stamped(staying(self.own), to, message)
    }

    fn stamped(&self, origin: Incarnation, to: Target, message: Message) -> Entry {
        let n = self.applied.get(&origin).copied().unwrap_or(0) + 1;
        Entry { origin, n, to, message }
    }

    /// Whether nothing is stamped any more, since the process ends.
    pub fn is_left(&self) -> bool {
        self.left
    }

    /// The last stamp of this hub: what it tells its peers when it meets them.
    pub fn own_last(&self) -> u64 {
        self.applied.get(&self.own).copied().unwrap_or(0)
    }

    /// A peer said where its numbering stands: what came before was never for sessions of this hub. But for those
    /// that lay on its disk meanwhile: true says that they may have missed something.
    pub fn baseline(&mut self, origin: Incarnation, n: u64) -> bool {
        self.over.remove(&origin);
        if self.applied.contains_key(&origin) {
            return false;
        }
        let known = self.past.remove(&origin);
        self.applied.insert(origin, known.unwrap_or(n));
        if known.is_none() {
            self.met_at.insert(origin, n);
        }
        known.is_none() && n > 0 && self.doubt_heirs()
    }

    /// What runs before this one have parked may have missed something. False: there were none.
    fn doubt_heirs(&mut self) -> bool {
        let own = self.own;
        self.doubted.extend(self.heirs.iter().filter(|run| **run != own));
        self.heirs.len() > 1
    }

    /// Another hub has had so much of a run that is no more: what this hub lacks of that nobody brings any more.
    pub fn lacks_of(&mut self, origin: Incarnation, n: u64) -> Option<Lack> {
        let known = self.applied.get_mut(&origin).or_else(|| self.past.get_mut(&origin));
        match known {
            Some(had) if *had < n => {
                let from = std::mem::replace(had, n);
                Some(Lack::Since(origin, from))
            }
            Some(_) => None,
            None => {
                let lacks = n > 0 && self.doubt_heirs();
                if lacks {
                    // So that it is told once.
                    self.past.insert(origin, n);
                }
                lacks.then_some(Lack::WhileAway)
            }
        }
    }

    /// Forgets a run of a hub that is no more, once the ring has nothing of it: a session that leaves must say
    /// that it has had what is there, or it gets it again when it comes back from a hub that never did.
    pub fn forget(&mut self, origin: Incarnation) {
        if self.ring.iter().any(|(entry, _)| entry.origin == origin) {
            self.over.insert(origin);
        } else if let Some(n) = self.applied.remove(&origin) {
            self.met_at.remove(&origin);
            self.past.insert(origin, n);
            while self.past.len() > PAST_MAX {
                self.past.pop_first();
            }
        }
    }

    /// How far this hub is with every run that it knows, those that are over and still in the ring included.
    pub fn had(&self) -> BTreeMap<String, u64> {
        let runs = self.applied.iter().filter(|(origin, _)| origin.0 & STAYS == 0);
        runs.map(|(origin, n)| (origin.to_string(), *n)).collect()
    }

    /// Its own messages after `n` and below `below`, as far as the ring has them, up to these bounds.
    pub fn own_after(&self, n: u64, below: u64, messages_max: usize, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let wanted = |entry: &&Entry| entry.origin == self.own && entry.n > n && entry.n < below;
        let found = self.ring.iter().map(|(entry, _)| entry).filter(wanted);
        let fits = |entry: &&Entry| {
            bytes += entry.message.size_bytes();
            bytes <= bytes_max || bytes == entry.message.size_bytes()
        };
        found.take(messages_max).take_while(fits).cloned().collect()
    }

    /// The vector of stamps, as the snapshot of a session carries it: what was applied here, and what of
    /// it the session had already from the hub before and this one has yet to apply (`ahead`).
    pub fn leaving_with(&self, ahead: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut vector: BTreeMap<String, u64> =
            self.applied.iter().map(|(origin, n)| (origin.to_string(), *n)).collect();
        for (origin, had) in ahead {
            let n = vector.entry(origin).or_default();
            *n = had.max(*n);
        }
        vector
    }

    /// Numbers a message for every session here that it is for. A stamp that was applied already changes nothing, and
    /// is answered as it was.
    pub fn apply(&mut self, hub: &Arc<Hub>, entry: Entry) -> Applied {
        let last = match self.applied.get(&entry.origin) {
            Some(last) => *last,
            None => {
                let before = entry.n.saturating_sub(1);
                self.met_at.insert(entry.origin, before);
                before
            }
        };
        if entry.n <= last {
            let again = self.ring.iter().rev().find(|(kept, _)| (kept.origin, kept.n) == (entry.origin, entry.n));
            return Applied { sessions: again.map_or(0, |(_, sessions)| *sessions), ..Applied::default() };
        }
        if entry.n > last + 1 {
            self.hole(hub, entry.origin, entry.n - 1, false);
        }
        self.applied.insert(entry.origin, entry.n);
        let audience = hub.index.audience(hub, &entry.to);
        let (mut applied, mut cells) = (Applied { sessions: audience.parked, ..Applied::default() }, audience.cells);
        let just_come = hub.arrivals.recent(hub.now());
        cells.retain(|cell| match number(hub, cell, &entry) {
            Numbered::Here => {
                if just_come.contains(&cell.id) && applied.came.len() < NAMED_MAX {
                    applied.came.push(cell.id);
                }
                true
            }
            Numbered::Moving => {
                if applied.moving.len() < NAMED_MAX {
                    applied.moving.push(cell.id);
                }
                false
            }
            Numbered::Not => false,
        });
        applied.sessions += cells.len() as u64;
        self.remember(entry, applied.sessions);
        write_out(hub, cells);
        applied
    }

    pub(super) fn remember(&mut self, entry: Entry, sessions: u64) {
        self.ring_bytes += entry.message.size_bytes();
        self.ring.push_back((entry, sessions));
        while self.ring.len() > self.ring_messages_max || self.ring_bytes > self.ring_bytes_max {
            let Some((oldest, _)) = self.ring.pop_front() else { return };
            self.ring_bytes -= oldest.message.size_bytes();
            if self.over.remove(&oldest.origin) {
                self.forget(oldest.origin);
            }
        }
    }

    /// Messages of a run up to a number are lost to this hub: whoever has not had them elsewhere is told. `restored`:
    /// only who lay on its disk is concerned.
    pub fn hole(&mut self, hub: &Hub, origin: Incarnation, up_to: u64, restored: bool) {
        let name = origin.to_string();
        let mut sessions = 0_u64;
        for cell in hub.all_cells() {
            if restored && hub.store.state(cell.id).is_none() {
                continue;
            }
            let mut inner = cell.lock();
            let lacks = inner
                .session
                .record_mut(false)
                .is_some_and(|record| record.applied.get(&name).is_none_or(|had| *had < up_to));
            if lacks {
                declare_gap(hub, &mut inner);
                sessions += 1;
            }
        }
        if sessions == 0 {
            return;
        }
        tracing::warn!(run = %origin, up_to, sessions, "fleet-wide messages are missing here and nobody can give them: these sessions are told");
    }

    /// A session is taken up whose record was written by that run: its stamps, as [`Fan::catch_up`] needs them.
    pub fn restore(&self, record: &mut Record<Message>, parked_by: Option<Incarnation>) {
        let goes_on = |run: Incarnation| self.heirs.contains(&run) && !self.doubted.contains(&run);
        let mut missed = !parked_by.is_some_and(goes_on);
        if let Some(run) = parked_by.filter(|run| !self.heirs.contains(run)) {
            // Its own messages are told as a gap. A hub that still has one must not bring it after newer ones.
            record.applied.insert(run.to_string(), u64::MAX);
        }
        for (origin, last) in &self.past {
            missed |= record.applied.remove(&origin.to_string()).is_some_and(|had| had < *last);
        }
        // Whom this hub met only after it was parked: from there on everything is for it, too.
        for (origin, at) in &self.met_at {
            record.applied.entry(origin.to_string()).or_insert(*at);
        }
        if missed {
            record.miss();
        }
    }

    /// A session serves here again (thawed, live, taken up): what it missed is numbered now, in order.
    /// Stamps that this hub has yet to apply stay in the record, so that they are skipped when they come.
    pub fn catch_up(&self, hub: &Arc<Hub>, inner: &mut Inner) {
        let Some(record) = inner.session.record_mut(false) else { return };
        let mut seen = std::mem::take(&mut record.applied);
        if seen.is_empty() {
            return;
        }
        record.keep_missed(&mut seen);
        let (profile, channels) = (record.profile.clone(), record.channels.clone());
        let mut short = false;
        for (origin, had) in &seen {
            let Ok(origin) = origin.parse::<Incarnation>() else { continue };
            let here = self.applied.get(&origin).copied();
            match here {
                Some(here) if here > *had => {
                    let kept =
                        self.ring.iter().filter(|(entry, _)| entry.origin == origin && entry.n > *had).count() as u64;
                    short |= kept < here - *had;
                }
                Some(here) if here == *had => {}
                // What stayed on another hub means nothing here.
                None if origin.0 & STAYS != 0 => {}
                Some(_) | None => {
                    record.applied.insert(origin.to_string(), *had);
                }
            }
        }
        for (entry, _) in &self.ring {
            let missed = seen.get(&entry.origin.to_string()).is_some_and(|had| entry.n > *had);
            if missed && is_for(&entry.to, &profile, &channels) {
                inner.session.number(entry.message.clone(), false, &limits(hub));
            }
        }
        if short {
            declare_gap(hub, inner);
        }
        ring(inner);
    }
}

/// What a hub lacks of a run that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// What came after this number.
    Since(Incarnation, u64),
    /// What came while it was away.
    WhileAway,
}

/// Nobody knows what is missing, so the client is told that something may be: now, or with its next welcome.
fn declare_gap(hub: &Hub, inner: &mut Inner) {
    hub.metrics.gaps.increment(1);
    if let Some(record) = inner.session.record_mut(false) {
        record.miss();
    }
    tell_missed(inner);
}

/// Tells the client of a session that something may be missing, if that is so and there is one. It is told again with
/// each welcome until it has shown that it heard.
pub fn tell_missed(inner: &mut Inner) {
    let position = inner.session.position();
    let (Some(conn), Some(record)) = (&inner.conn, inner.session.record_mut(false)) else { return };
    if !record.has_missed() {
        return;
    }
    record.miss();
    // Orders go before messages, so the client hears it where its connection stands, not where the stream ends.
    let at = position.unwrap_or_else(|| record.outbox.end());
    conn.send(&ServerFrame::Gap { from: at, to: at, why: "fan_ring_short".into() });
}

fn staying(run: Incarnation) -> Incarnation {
    Incarnation(run.0 | STAYS)
}

/// What became of a message for one session.
enum Numbered {
    Here,
    /// It is between two hubs, and its stamps say that it has yet to get it.
    Moving,
    Not,
}

fn number(hub: &Hub, cell: &Cell, entry: &Entry) -> Numbered {
    let mut inner = cell.lock();
    let Some(record) = inner.session.record_mut(false) else {
        let between = matches!(inner.session.state(), State::Frozen { .. } | State::Given { .. } | State::Copy { .. });
        let lacks =
            |record: &Record<Message>| record.applied.get(&entry.origin.to_string()).is_none_or(|had| *had < entry.n);
        let moving = between && inner.session.record().is_some_and(lacks);
        return if moving { Numbered::Moving } else { Numbered::Not };
    };
    if !record.applied.is_empty() {
        let origin = entry.origin.to_string();
        match record.applied.get(&origin) {
            Some(had) if entry.n <= *had => return Numbered::Not,
            Some(_) => drop(record.applied.remove(&origin)),
            None => {}
        }
    }
    match inner.session.number(entry.message.clone(), false, &limits(hub)) {
        Some(_) => Numbered::Here,
        None => Numbered::Not,
    }
}

/// Writes what was numbered, outside of the ledger's lock: a few tasks, as many as there are threads, take
/// the sessions in turns and let others run in between. The message is encoded once, and no session's
/// task is woken for it unless its client does not keep up.
fn write_out(hub: &Arc<Hub>, cells: Vec<Arc<Cell>>) {
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let tasks = cells.len().div_ceil(TURN).min(threads);
    let turns = Arc::new((cells, AtomicUsize::new(0)));
    for _ in 0..tasks {
        let (hub, turns) = (hub.clone(), turns.clone());
        tokio::spawn(async move {
            let (cells, next) = &*turns;
            loop {
                let from = next.fetch_add(TURN, Ordering::Relaxed);
                let Some(turn) = cells.get(from..cells.len().min(from + TURN)) else { return };
                for cell in turn {
                    conn::deliver(&hub, &mut cell.lock());
                }
                tokio::task::yield_now().await;
            }
        });
    }
}

fn ring(inner: &Inner) {
    if let Some(conn) = &inner.conn {
        conn.ring();
    }
    app::wake(inner);
}

/// The limits of one session's unacked messages.
pub fn limits(hub: &Hub) -> ReplayLimits {
    let limits = &hub.config.limits;
    ReplayLimits { messages_max: limits.unacked_messages as usize, bytes_max: limits.unacked_bytes as usize }
}

fn is_for(to: &Target, profile: &Profile, channels: &Channels) -> bool {
    match to {
        Target::All => true,
        Target::User(user) => profile.user.as_deref() == Some(user),
        Target::Channel(name) => channels.contains(name),
        Target::Session(_) => false,
    }
}

/// Whether a session counts as served for the listing's sake.
pub fn serves(state: &State<Message>) -> bool {
    matches!(state, State::Serving { .. } | State::Frozen { .. })
}

#[cfg(test)]
#[path = "fan_tests.rs"]
mod tests;
