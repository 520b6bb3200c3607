//! What the drain's task has not looked at yet.
//!
//! Events of the hub come one for each thing that happened: a connection that came or went, a step of a handover.
//! Clients' wishes (`ready`, `busy`) cost a client nothing to send, so each session has one slot, in which the newest
//! stands, and they are handed on together, at most every tenth of a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::drain::Event;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Millis;

/// Wishes are handed on at most so often, in milliseconds.
const WISHES_EVERY_MS: u64 = 100;
/// Of the reason for being busy so much is kept; a status shows less.
const WHY_CHARS_MAX: usize = 200;

#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    events: VecDeque<Event>,
    wishes: BTreeMap<SessionId, Wish>,
    /// When wishes may be handed on again.
    wishes_at: Millis,
}

/// What a client wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It may be moved now.
    Ready,
    /// Not for so long.
    Busy { ms: u64, why: String },
}

impl Wish {
    fn event(self, id: SessionId) -> Event {
        match self {
            Self::Ready => Event::Ready { id },
            Self::Busy { ms, why } => Event::Busy { id, ms, why },
        }
    }
}

impl Inbox {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(super) fn push(&self, event: Event) {
        self.contents().events.push_back(event);
    }

    /// A client wishes something, instead of what it wished before. True: somebody should look.
    pub(super) fn wish(&self, id: SessionId, mut wish: Wish) -> bool {
        if let Wish::Busy { why, .. } = &mut wish
            && let Some((end, _)) = why.char_indices().nth(WHY_CHARS_MAX)
        {
            why.truncate(end);
            why.shrink_to_fit();
        }
        let mut contents = self.contents();
        let is_first = contents.wishes.is_empty();
        contents.wishes.insert(id, wish);
        is_first
    }

    /// Everything that is to be looked at now, in its order.
    pub(super) fn take(&self, now: Millis) -> VecDeque<Event> {
        let mut contents = self.contents();
        let mut events = std::mem::take(&mut contents.events);
        if !contents.wishes.is_empty() && contents.wishes_at <= now {
            contents.wishes_at = now.plus(WISHES_EVERY_MS);
            events.extend(std::mem::take(&mut contents.wishes).into_iter().map(|(id, wish)| wish.event(id)));
        }
        events
    }

    /// When there is something to take again without anybody ringing.
    pub(super) fn next(&self) -> Option<Millis> {
        let contents = self.contents();
        (!contents.wishes.is_empty()).then_some(contents.wishes_at)
    }

    /// Forgets everything: a new drain begins.
    pub(super) fn clear(&self) {
        let mut contents = self.contents();
        contents.events.clear();
        contents.wishes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId(1);
    const OTHER: SessionId = SessionId(2);

    fn busy(ms: u64) -> Wish {
        Wish::Busy { ms, why: "w".repeat(60_000) }
    }

    #[test]
    fn a_client_that_wishes_without_end_has_one_slot_and_a_short_reason() {
        let inbox = Inbox::default();
        let rung = (0..10_000).filter(|ms| inbox.wish(ONE, busy(*ms))).count();
        assert_eq!(rung, 1, "and rings once");
        let taken: Vec<Event> = inbox.take(Millis(0)).into();
        let [Event::Busy { id: ONE, ms: 9_999, why }] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(why.len(), WHY_CHARS_MAX);
    }

    #[test]
    fn wishes_are_handed_on_together_and_not_too_often_and_events_at_once_and_in_order() {
        let inbox = Inbox::default();
        inbox.wish(ONE, Wish::Ready);
        assert_eq!(inbox.take(Millis(5)), [Event::Ready { id: ONE }]);
        assert!(inbox.wish(ONE, busy(1)));
        assert!(!inbox.wish(OTHER, Wish::Ready));
        inbox.wish(ONE, Wish::Ready);
        inbox.push(Event::ConnectionLost { id: OTHER });
        inbox.push(Event::ConnectionBack { id: OTHER });
        let lost_and_back = [Event::ConnectionLost { id: OTHER }, Event::ConnectionBack { id: OTHER }];
        assert_eq!(inbox.take(Millis(6)), lost_and_back);
        let next = inbox.next().expect("wishes wait");
        assert_eq!(next, Millis(5 + WISHES_EVERY_MS));
        assert_eq!(inbox.take(next), [Event::Ready { id: ONE }, Event::Ready { id: OTHER }]);
        assert_eq!(inbox.next(), None);
    }
}
