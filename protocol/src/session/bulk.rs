//! The heavy part of a session (rule 10): copied to its next hub while the session still serves, so that
//! the freeze carries no more than what changed since. Both ends are here: what the owner notes
//! ([`Mark`]), what travels ([`Bulk`], [`Difference`]) and what the next hub holds ([`Shelf`]).
//!
//! A bulk is no copy of a session: nobody owns anything by it, and it is good for nothing but for the
//! difference that names it. Its number is a generation that was offered for nothing else, so the session
//! and the number name it for ever. A difference that does not fit is never guessed at: the next hub says
//! `lacking`, and the owner sends everything.

use super::record::{Profile, Record, bytes, outbox};
use crate::id::{HubId, SessionId};
use crate::position::{Epoch, Generation, Offset};
use crate::replay::{Payload, Replay};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A session with less than this to copy (state and unacked messages, in bytes) is frozen at once, and
/// its snapshot carries everything: a round trip more would cost it more than it saves.
pub const BULK_MIN_BYTES: usize = 16 << 10;
/// How long the freeze waits for the answer to a bulk, in milliseconds; the session serves on meanwhile.
/// Without an answer the freeze begins all the same and carries everything.
pub const BULK_WAIT_MS: u64 = 1_500;
/// How long the owner counts on a bulk that it sent, in milliseconds: a thaw and a further try reuse it.
pub const BULK_REUSE_MS: u64 = 45_000;
/// How long a hub holds a bulk without the difference, in milliseconds: longer than its owner counts on it.
pub const BULK_TTL_MS: u64 = 60_000;

/// The heavy part of a session as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "M: Payload + Serialize", deserialize = "M: Payload + Deserialize<'de>"))]
pub struct Bulk<M> {
    /// What the offsets count in.
    pub epoch: Epoch,
    /// Towards the client, not acked yet.
    #[serde(with = "outbox")]
    pub outbox: Replay<M>,
    /// The app's own opaque bytes.
    #[serde(with = "bytes")]
    pub state: Vec<u8>,
    /// What the hub knows and does not interpret. Channels are few, and travel with the difference.
    pub profile: Arc<Profile>,
}

/// A session, less what a bulk already told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "M: Payload + Serialize", deserialize = "M: Payload + Deserialize<'de>"))]
pub struct Difference<M> {
    /// Below it everything is acked; from here to the base of `rest.outbox` the messages are in the bulk.
    pub base: Offset,
    /// Whether the state is the bulk's; `rest.state` is empty then.
    pub same_state: bool,
    /// Whether the profile is the bulk's; `rest.profile` is empty then.
    pub same_profile: bool,
    /// Everything else, channels too, and the messages since the bulk.
    pub rest: Record<M>,
}

/// What the owner remembers of a bulk that it sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    end: Offset,
    state: Vec<u8>,
    profile: Arc<Profile>,
}

impl<M: Payload> Bulk<M> {
    /// The bulk of a session as it is now.
    pub fn of(record: &Record<M>) -> Self {
        Self {
            epoch: record.epoch,
            outbox: record.outbox.clone(),
            state: record.state.clone(),
            profile: record.profile.clone(),
        }
    }

    /// The whole session again; None: the difference stands on something else than this bulk.
    pub fn with(&self, difference: &Difference<M>) -> Option<Record<M>> {
        let (base, from) = (difference.base, difference.rest.outbox.base());
        let covered = base == from || (base < from && self.outbox.base() <= base && from <= self.outbox.end());
        if self.epoch != difference.rest.epoch || !covered {
            return None;
        }
        let mut record = difference.rest.clone();
        if difference.same_state {
            record.state.clone_from(&self.state);
        }
        if difference.same_profile {
            record.profile = self.profile.clone();
        }
        let earlier = from.since(base) as usize;
        if earlier > 0 {
            let skipped = base.since(self.outbox.base()) as usize;
            let messages = self.outbox.iter().skip(skipped).take(earlier).chain(difference.rest.outbox.iter());
            record.outbox = Replay::restored(base, messages.cloned());
        }
        Some(record)
    }
}

/// What a snapshot of this session would weigh, as far as a bulk can carry it.
pub(super) fn weight<M: Payload>(record: &Record<M>) -> usize {
    record.state.len() + record.outbox.bytes()
}

impl Mark {
    /// What is in a bulk of this session that is made now.
    pub(super) fn of<M: Payload>(record: &Record<M>) -> Self {
        Self { end: record.outbox.end(), state: record.state.clone(), profile: record.profile.clone() }
    }

    /// The weight of what a difference would have to carry.
    pub(super) fn weight_since<M: Payload>(&self, record: &Record<M>) -> usize {
        let state = if record.state == self.state { 0 } else { record.state.len() };
        let messages = record.outbox.iter().skip(self.end.since(record.outbox.base()) as usize);
        state + messages.map(Payload::size_bytes).sum::<usize>()
    }

    /// What changed since.
    pub(super) fn difference<M: Payload>(&self, record: &Record<M>) -> Difference<M> {
        let base = record.outbox.base();
        let from = self.end.max(base);
        let messages = record.outbox.iter().skip(from.since(base) as usize).cloned();
        let (same_state, same_profile) = (record.state == self.state, record.profile == self.profile);
        let rest = Record {
            epoch: record.epoch,
            outbox: Replay::restored(from, messages),
            acked: record.acked,
            received: record.received,
            untaken: record.untaken.clone(),
            state: if same_state { Vec::new() } else { record.state.clone() },
            tokens: record.tokens,
            attempt: record.attempt,
            applied: record.applied.clone(),
            app_events: record.app_events,
            channels: record.channels.clone(),
            profile: if same_profile { Profile::shared(Profile::default()) } else { record.profile.clone() },
        };
        Difference { base, same_state, same_profile, rest }
    }
}

/// What became of a bulk that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelved {
    /// It is held (or was already): say `bulk_held`. True: it is new, so it must be dropped after [`BULK_TTL_MS`].
    Held(bool),
    /// There is no room: say `bulk_refused`.
    Refused,
    /// A later one is held: this one came late, and nobody waits for an answer.
    Late,
}

/// The bulks that a hub holds for its peers: one per session, the newest. Owners are fenced by generation,
/// and so are bulks: a higher number is a later bulk, whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shelf<M> {
    bulks: BTreeMap<SessionId, (HubId, Generation, Box<Bulk<M>>)>,
}

impl<M> Default for Shelf<M> {
    fn default() -> Self {
        Self { bulks: BTreeMap::new() }
    }
}

impl<M: Payload> Shelf<M> {
    /// A bulk came. `has_room`: whether the hub may hold one more for a session of which it holds none.
    pub fn put(
        &mut self,
        session: SessionId,
        from: HubId,
        bulk: Generation,
        of: Box<Bulk<M>>,
        has_room: bool,
    ) -> Shelved {
        match self.bulks.get(&session) {
            Some((_, held, _)) if *held > bulk => return Shelved::Late,
            Some((_, held, _)) if *held == bulk => return Shelved::Held(false),
            None if !has_room => return Shelved::Refused,
            Some(_) | None => {}
        }
        self.bulks.insert(session, (from, bulk, of));
        Shelved::Held(true)
    }

    /// The session that this difference makes of the bulk that it names; None: it is not here, or does not
    /// fit. The bulk stays: a try that is aborted is followed by another.
    pub fn complete(
        &self,
        session: SessionId,
        from: HubId,
        bulk: Generation,
        with: &Difference<M>,
    ) -> Option<Record<M>> {
        let (sender, held, contents) = self.bulks.get(&session)?;
        if (*sender, *held) != (from, bulk) {
            return None;
        }
        contents.with(with)
    }

    /// It is of no use any more: the session is live here, or its time to live is over.
    pub fn drop_up_to(&mut self, session: SessionId, bulk: Generation) {
        if self.bulks.get(&session).is_some_and(|(_, held, _)| *held <= bulk) {
            self.bulks.remove(&session);
        }
    }

    /// That hub is gone: whatever it gave away, its difference will not come.
    pub fn peer_gone(&mut self, hub: HubId) {
        self.bulks.retain(|_, (from, ..)| *from != hub);
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.bulks.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.bulks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::ReplayLimits;

    const S: SessionId = SessionId(1);
    const A: HubId = HubId(0xa);
    const B: HubId = HubId(0xb);

    fn record() -> Record<u8> {
        Record::new(Epoch(1), Profile::default())
    }

    /// One change of a session, by a number.
    fn change(record: &mut Record<u8>, chance: u64) {
        const LIMITS: ReplayLimits = ReplayLimits { messages_max: 5, bytes_max: 64 };
        let small = (chance >> 8) as u8;
        match chance % 8 {
            0..=2 => drop(record.outbox.push(small, &LIMITS)),
            3 => {
                let acked = Offset(record.acked.0.max(record.outbox.base().0) + u64::from(small % 3));
                record.ack(acked.min(record.outbox.end()), record.outbox.end());
            }
            4 => record.state = vec![small; usize::from(small % 4)],
            5 if small.is_multiple_of(2) => drop(record.channels.insert(format!("room {}", small % 4).into())),
            5 => record.profile_mut().language = Some(format!("l{}", small % 4).into()),
            6 => {
                record.received = record.received.next();
                record.untaken.push_back(small);
            }
            _ => {
                record.issue();
                record.attempt += 1;
                record.applied.insert("hub".into(), chance);
                record.app_events += 1;
            }
        }
    }

    /// A number after a number, evenly spread.
    fn next(chance: &mut u64) -> u64 {
        *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *chance >> 24
    }

    #[test]
    fn a_bulk_and_its_difference_are_the_session_whatever_happened_between_them() {
        for seed in 0..2_000 {
            let (mut chance, mut record) = (seed, record());
            for _ in 0..next(&mut chance) % 12 {
                change(&mut record, next(&mut chance));
            }
            let (bulk, mark) = (Bulk::of(&record), Mark::of(&record));
            for _ in 0..next(&mut chance) % 12 {
                change(&mut record, next(&mut chance));
            }
            assert_eq!(bulk.with(&mark.difference(&record)), Some(record), "seed {seed}");
        }
    }

    #[test]
    fn a_difference_to_another_bulk_is_never_guessed_at() {
        let mut now = record();
        (0..3).for_each(|n| change(&mut now, n << 8));
        let (earlier, mark) = (Bulk::of(&record()), Mark::of(&now));
        let difference = mark.difference(&now);
        assert_eq!(earlier.with(&difference), None, "it lacks the messages before the mark");
        let mut other_epoch = Bulk::of(&now);
        other_epoch.epoch = Epoch(2);
        assert_eq!(other_epoch.with(&difference), None);
    }

    #[test]
    fn a_bulk_that_comes_twice_is_held_once_and_a_late_one_displaces_none() {
        let mut shelf = Shelf::default();
        let bulk = || Box::new(Bulk::of(&record()));
        assert_eq!(shelf.put(S, A, Generation(3), bulk(), true), Shelved::Held(true));
        assert_eq!(shelf.put(S, A, Generation(3), bulk(), false), Shelved::Held(false));
        assert_eq!(shelf.put(S, A, Generation(2), bulk(), true), Shelved::Late);
        assert_eq!(shelf.put(S, B, Generation(5), bulk(), false), Shelved::Held(true), "in the place of the older one");
        let difference = Mark::of(&record()).difference(&record());
        assert_eq!(shelf.complete(S, A, Generation(3), &difference), None);
        assert_eq!(shelf.complete(S, A, Generation(5), &difference), None, "that bulk is B's");
        assert_eq!(shelf.complete(S, B, Generation(5), &difference), Some(record()));
        assert_eq!(shelf.len(), 1);
    }

    #[test]
    fn a_full_shelf_takes_no_more_and_what_is_over_makes_room() {
        let mut shelf = Shelf::default();
        let bulk = || Box::new(Bulk::of(&record()));
        assert_eq!(shelf.put(S, A, Generation(3), bulk(), false), Shelved::Refused);
        shelf.put(S, A, Generation(3), bulk(), true);
        shelf.drop_up_to(S, Generation(2));
        assert!(!shelf.is_empty(), "a later bulk than the one whose time is over");
        shelf.drop_up_to(S, Generation(3));
        assert!(shelf.is_empty());
        shelf.put(S, A, Generation(4), bulk(), true);
        shelf.peer_gone(B);
        assert!(!shelf.is_empty());
        shelf.peer_gone(A);
        assert!(shelf.is_empty());
    }

    #[test]
    fn a_bulk_and_a_difference_survive_their_json() {
        let mut now = record();
        (0..3).for_each(|n| change(&mut now, n << 8));
        let (bulk, mark) = (Bulk::of(&now), Mark::of(&now));
        (0..40).for_each(|n| change(&mut now, n * 259));
        let difference = mark.difference(&now);
        let json = serde_json::to_string(&(&bulk, &difference)).expect("plain values");
        let back: (Bulk<u8>, Difference<u8>) = serde_json::from_str(&json).expect("what was written");
        assert_eq!(back, (bulk, difference));
    }
}
