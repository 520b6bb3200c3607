//! Messages to all, to a user, to a channel: applied in one origin's order, numbered for each session
//! that is served here, and remembered for a while for sessions that arrive late (rule 17).
//!
//! Each message carries a stamp (origin's incarnation, n). A session freezes with the vector of stamps
//! applied so far; where it goes live (or thaws), it gets what is missing from this ring, and what it
//! had already is skipped when it comes. Nothing is kept per idle session.

use super::Hub;
use super::cell::{Cell, Inner};
use super::conn;
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
    /// An empty ledger for this run of the hub.
    pub fn new(own: Incarnation, ring_messages_max: usize, ring_bytes_max: usize) -> Self {
        Self(Mutex::new(Fan {
            own,
            applied: BTreeMap::from([(own, 0), (staying(own), 0)]),
            over: BTreeSet::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_messages_max,
            ring_bytes_max,
        }))
    }

    /// The lock.
    pub fn lock(&self) -> MutexGuard<'_, Fan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was applied, and the recent past.
#[derive(Debug)]
pub struct Fan {
    own: Incarnation,
    applied: BTreeMap<Incarnation, u64>,
    /// Runs that are no more, and of which the ring still has messages.
    over: BTreeSet<Incarnation>,
    ring: VecDeque<Entry>,
    ring_bytes: usize,
    ring_messages_max: usize,
    ring_bytes_max: usize,
}

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

    /// The last stamp of this hub: what it tells its peers when it meets them.
    pub fn own_last(&self) -> u64 {
        self.applied.get(&self.own).copied().unwrap_or(0)
    }

    /// A peer said where its numbering stands: what came before was never for sessions of this hub.
    pub fn baseline(&mut self, origin: Incarnation, n: u64) {
        self.applied.entry(origin).or_insert(n);
    }

    /// Forgets a run of a hub that is no more, once the ring has nothing of it: a session that leaves must say
    /// that it has had what is there, or it gets it again when it comes back from a hub that never did.
    pub fn forget(&mut self, origin: Incarnation) {
        if self.ring.iter().any(|entry| entry.origin == origin) {
            self.over.insert(origin);
        } else {
            self.applied.remove(&origin);
        }
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

    /// Numbers a message for every session here that it is for; says for how many. A stamp that was
    /// applied already changes nothing.
    pub fn apply(&mut self, hub: &Arc<Hub>, entry: Entry) -> usize {
        let last = self.applied.entry(entry.origin).or_insert(entry.n.saturating_sub(1));
        if entry.n <= *last {
            return 0;
        }
        *last = entry.n;
        let mut numbered = hub.index.audience(hub, &entry.to);
        numbered.retain(|cell| number(hub, cell, &entry));
        self.remember(entry);
        let sessions = numbered.len();
        write_out(hub, numbered);
        sessions
    }

    fn remember(&mut self, entry: Entry) {
        self.ring_bytes += entry.message.size_bytes();
        self.ring.push_back(entry);
        while self.ring.len() > self.ring_messages_max || self.ring_bytes > self.ring_bytes_max {
            let Some(oldest) = self.ring.pop_front() else { return };
            self.ring_bytes -= oldest.message.size_bytes();
            if self.over.remove(&oldest.origin) {
                self.forget(oldest.origin);
            }
        }
    }

    /// A session serves here again (thawed, live, taken up): what it missed is numbered now, in order.
    /// Stamps that this hub has yet to apply stay in the record, so that they are skipped when they come.
    pub fn catch_up(&self, hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) {
        let Some(record) = inner.session.record_mut(false) else { return };
        let seen = std::mem::take(&mut record.applied);
        if seen.is_empty() {
            return;
        }
        let (profile, channels) = (record.profile.clone(), record.channels.clone());
        let mut short = false;
        for (origin, had) in &seen {
            let Ok(origin) = origin.parse::<Incarnation>() else { continue };
            let here = self.applied.get(&origin).copied();
            match here {
                Some(here) if here > *had => {
                    let kept = self.ring.iter().filter(|entry| entry.origin == origin && entry.n > *had).count() as u64;
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
        for entry in &self.ring {
            let missed = seen.get(&entry.origin.to_string()).is_some_and(|had| entry.n > *had);
            if missed && is_for(&entry.to, &profile, &channels) {
                inner.session.number(entry.message.clone(), false, &limits(hub));
            }
        }
        if short {
            declare_gap(hub, cell, inner);
        }
        ring(inner);
    }
}

/// The ring was too short: nobody knows what is missing, so the client is told that something may be.
fn declare_gap(hub: &Hub, cell: &Cell, inner: &Inner) {
    tracing::warn!(session = %cell.id, "fleet-wide messages may be missing: the ring of recent ones was too short");
    hub.metrics.gaps.increment(1);
    let (Some(conn), Some(record)) = (&inner.conn, inner.session.record()) else { return };
    // Orders go before messages, so the client hears it where its connection stands, not where the stream ends.
    let at = inner.session.position().unwrap_or_else(|| record.outbox.end());
    conn.send(&ServerFrame::Gap { from: at, to: at, why: "fan_ring_short".into() });
}

fn staying(run: Incarnation) -> Incarnation {
    Incarnation(run.0 | STAYS)
}

fn number(hub: &Hub, cell: &Cell, entry: &Entry) -> bool {
    let mut inner = cell.lock();
    let Some(record) = inner.session.record_mut(false) else { return false };
    if !record.applied.is_empty() {
        let origin = entry.origin.to_string();
        match record.applied.get(&origin) {
            Some(had) if entry.n <= *had => return false,
            Some(_) => drop(record.applied.remove(&origin)),
            None => {}
        }
    }
    inner.session.number(entry.message.clone(), false, &limits(hub)).is_some()
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

/// Who is where: sessions by user and by channel, for those that this hub owns.
#[derive(Debug, Default)]
pub struct Index {
    users: dashmap::DashMap<Arc<str>, std::collections::BTreeSet<SessionId>>,
    channels: dashmap::DashMap<Arc<str>, std::collections::BTreeSet<SessionId>>,
}

impl Index {
    /// Notes a session's user and channels.
    pub fn add(&self, id: SessionId, record: Option<&Record<Message>>) {
        let Some(record) = record else { return };
        if let Some(user) = &record.profile.user {
            self.users.entry(user.clone()).or_default().insert(id);
        }
        for channel in record.channels.iter() {
            self.join(id, channel.clone());
        }
    }

    /// Notes one more channel. Gives its name back as the index has it, for the session to share.
    pub fn join(&self, id: SessionId, channel: Arc<str>) -> Arc<str> {
        let mut sessions = self.channels.entry(channel).or_default();
        sessions.insert(id);
        sessions.key().clone()
    }

    /// Lets a record share the names that the index has already.
    pub fn share(&self, record: &mut Record<Message>) {
        if !record.channels.is_empty() {
            let known = |name: &Arc<str>| self.channels.get(name).map_or_else(|| name.clone(), |one| one.key().clone());
            record.channels = record.channels.iter().map(known).collect();
        }
    }

    /// Forgets one channel of a session.
    pub fn leave(&self, id: SessionId, channel: &str) {
        remove(&self.channels, channel, id);
    }

    /// Forgets a session that is no longer owned here.
    pub fn remove(&self, id: SessionId, record: Option<&Record<Message>>) {
        let Some(record) = record else { return };
        if let Some(user) = &record.profile.user {
            remove(&self.users, user, id);
        }
        for channel in record.channels.iter() {
            remove(&self.channels, channel, id);
        }
    }

    fn audience(&self, hub: &Hub, to: &Target) -> Vec<Arc<Cell>> {
        let some = |map: &dashmap::DashMap<Arc<str>, std::collections::BTreeSet<SessionId>>, name: &str| {
            let ids: Vec<SessionId> = map.get(name).map(|ids| ids.iter().copied().collect()).unwrap_or_default();
            ids.into_iter().filter_map(|id| hub.cell(id)).collect()
        };
        match to {
            Target::All => hub.all_cells(),
            Target::User(name) => some(&self.users, name),
            Target::Channel(name) => some(&self.channels, name),
            Target::Session(_) => Vec::new(),
        }
    }
}

fn remove(map: &dashmap::DashMap<Arc<str>, std::collections::BTreeSet<SessionId>>, name: &str, id: SessionId) {
    if let Some(mut ids) = map.get_mut(name) {
        ids.remove(&id);
    }
    map.remove_if(name, |_, ids| ids.is_empty());
}

/// Whether a session counts as served for the listing's sake.
pub fn serves(state: &State<Message>) -> bool {
    matches!(state, State::Serving { .. } | State::Frozen { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_goes_back_before_a_stamp_has_come_here_is_not_given_it_twice() {
        let ledger = Ledger::new(Incarnation(2), 8, 8 << 10);
        let mut fan = ledger.lock();
        let (behind, level, strange) = (Incarnation(7), Incarnation(8), Incarnation(9));
        fan.baseline(behind, 3);
        fan.baseline(level, 5);
        let ahead = [(behind, 4), (level, 5), (strange, 1)].map(|(origin, n)| (origin.to_string(), n));
        let vector = fan.leaving_with(BTreeMap::from(ahead));
        for (origin, had) in [(behind, 4), (level, 5), (strange, 1)] {
            assert_eq!(vector.get(&origin.to_string()), Some(&had), "{origin}: the session has had {had} of it");
        }
    }

    #[test]
    fn a_run_that_is_over_stands_in_the_vector_for_as_long_as_its_messages_can_be_given_again() {
        let ledger = Ledger::new(Incarnation(2), 2, 8 << 10);
        let mut fan = ledger.lock();
        let apply = |fan: &mut Fan, origin: u64, n: u64| {
            let (origin, message) = (Incarnation(origin), Message::text("x"));
            fan.applied.insert(origin, n);
            fan.remember(Entry { origin, n, to: Target::All, message });
        };
        let had = |fan: &Fan| fan.leaving_with(BTreeMap::new()).get(&Incarnation(7).to_string()).copied();
        apply(&mut fan, 7, 1);
        apply(&mut fan, 7, 2);
        fan.forget(Incarnation(7));
        assert_eq!(had(&fan), Some(2), "both messages can be given to a session that comes late");
        apply(&mut fan, 2, 1);
        assert_eq!(had(&fan), Some(2), "the second one still can");
        apply(&mut fan, 2, 2);
        assert_eq!(had(&fan), None, "nothing of that run is left, and nothing is kept of it");
        fan.baseline(Incarnation(8), 3);
        fan.forget(Incarnation(8));
        assert!(!fan.applied.contains_key(&Incarnation(8)), "of this one there was nothing to keep");
    }

    #[test]
    fn what_was_applied_here_since_it_came_counts_for_a_session_that_leaves() {
        let ledger = Ledger::new(Incarnation(2), 8, 8 << 10);
        let mut fan = ledger.lock();
        fan.baseline(Incarnation(7), 9);
        let vector = fan.leaving_with(BTreeMap::from([(Incarnation(7).to_string(), 4)]));
        // Its own stamps stand in the vector, too.
        assert_eq!(vector.get(&Incarnation(7).to_string()), Some(&9));
    }
}
