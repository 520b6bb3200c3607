//! Publishes that carry an idempotency key: a repeat is answered like the first and not sent again.
//!
//! ```text
//!            first                  its answer
//!   absent ─────────► UnderWay ─────────────────► Answered ── a repeat, and a hub had not answered ──► UnderWay
//!     ▲                   │ was not done              │ oldest, when the table is full
//!     └───────────────────┴───────────────────────────┘
//! ```

use super::problem::Refusal;
use crate::peer::Asking;
use aws_lc_rs::digest;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::control::PublishAnswer;
use tidegate_protocol::id::HubId;
use tokio::sync::watch;

/// What is kept for a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It was done everywhere.
    Done(PublishAnswer),
    /// It has this number, and these hubs had not answered: a repeat brings it there.
    Partly {
        /// What was answered.
        answer: PublishAnswer,
        /// Its number.
        n: u64,
        /// Who had not answered.
        missing: Vec<HubId>,
    },
    /// Nobody knows whether that hub has done it: a repeat asks for the same call, if that is known.
    Unknown(HubId, Option<Asking>),
}

impl Kept {
    fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// What a key stands for: the digest of the whole request.
pub(super) type Fingerprint = [u8; 32];

/// The fingerprint of a request, given in its one written form.
pub(super) fn fingerprint(request: &[u8]) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, request);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The keys of the last publishes. Bounded: the oldest answered one is forgotten first.
#[derive(Debug)]
pub(super) struct Repeats {
    table: Mutex<Table>,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<String, Entry>,
    /// Keys as they came, answered ones and those under way.
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    answer: watch::Receiver<Option<Kept>>,
}

/// What to do about a request with a key.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is the first: do it, and say how it went.
    First(Ticket),
    /// It is a repeat: wait for the first one's answer. If that never comes, it was not done: ask again.
    Repeat(watch::Receiver<Option<Kept>>),
    /// It is a repeat of one that was not done everywhere: go on from there, and say how it went.
    GoOn(Ticket, Kept),
}

/// The duty to say what became of a first request. Dropped without a word: it was not done, and a
/// repeat may do it.
#[derive(Debug)]
pub(super) struct Ticket {
    repeats: Arc<Repeats>,
    key: String,
    answer: watch::Sender<Option<Kept>>,
    /// What was known before, if it is a repeat.
    before: Option<Kept>,
}

impl Ticket {
    /// Keeps the answer for repeats.
    pub(super) fn answered(self, kept: Kept) {
        self.answer.send_replace(Some(kept));
    }

    /// It is known that nothing was done, the first time neither.
    pub(super) fn not_done(mut self) {
        self.before = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.answer.borrow().is_some() {
            return;
        }
        if let Some(before) = self.before.take() {
            self.answer.send_replace(Some(before));
        } else {
            self.repeats.lock().forget(&self.key);
        }
    }
}

impl Repeats {
    /// An empty table for so many keys.
    pub(super) fn new(keys_max: usize) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), keys_max })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is.
    ///
    /// # Errors
    /// The key was used for another request (422), or all keys that fit are under way (503).
    pub(super) fn turn(self: &Arc<Self>, key: &str, fingerprint: Fingerprint) -> Result<Turn, Refusal> {
        let mut table = self.lock();
        if let Some(entry) = table.entries.get_mut(key) {
            if entry.fingerprint != fingerprint {
                return Err(other_request(key));
            }
            let before = entry.answer.borrow().clone().filter(|kept| !kept.is_done());
            let Some(before) = before else { return Ok(Turn::Repeat(entry.answer.clone())) };
            let (answer, receiver) = watch::channel(None);
            entry.answer = receiver;
            let ticket = Ticket { repeats: self.clone(), key: key.to_owned(), answer, before: Some(before.clone()) };
            return Ok(Turn::GoOn(ticket, before));
        }
        if table.order.len() >= self.keys_max && !table.forget_oldest() {
            return Err(Refusal::busy(
                "as many idempotency keys are under way as fit (--limit-idempotency-keys)",
                1_000,
            ));
        }
        let (answer, receiver) = watch::channel(None);
        table.entries.insert(key.to_owned(), Entry { fingerprint, answer: receiver });
        table.order.push_back(key.to_owned());
        Ok(Turn::First(Ticket { repeats: self.clone(), key: key.to_owned(), answer, before: None }))
    }
}

fn other_request(key: &str) -> Refusal {
    let detail = format!(
        "idempotency_key \"{key}\" was used for another message: use a new key for each message, and the same one only to repeat it"
    );
    Refusal::new(http::StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key", "Idempotency key used twice", detail)
}

impl Table {
    fn forget(&mut self, key: &str) {
        self.entries.remove(key);
        self.order.retain(|one| one != key);
    }

    /// Makes room; false if every key is under way.
    fn forget_oldest(&mut self) -> bool {
        let answered = |key: &String| self.entries.get(key).is_none_or(|entry| entry.answer.borrow().is_some());
        let Some(at) = self.order.iter().position(answered) else { return false };
        if let Some(key) = self.order.remove(at) {
            self.entries.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(repeats: &Arc<Repeats>, key: &str) -> Ticket {
        match repeats.turn(key, fingerprint(b"a")) {
            Ok(Turn::First(ticket)) => ticket,
            other => panic!("{key} should be a first one, got {other:?}"),
        }
    }

    fn repeat(repeats: &Arc<Repeats>, key: &str) -> watch::Receiver<Option<Kept>> {
        match repeats.turn(key, fingerprint(b"a")) {
            Ok(Turn::Repeat(answer)) => answer,
            other => panic!("{key} should be a repeat, got {other:?}"),
        }
    }

    #[test]
    fn a_repeat_hears_the_firsts_answer_and_another_request_is_refused() {
        let repeats = Repeats::new(8);
        let ticket = first(&repeats, "k");
        let waiting = repeat(&repeats, "k");
        assert!(waiting.borrow().is_none(), "no answer yet");
        let answer = PublishAnswer { sessions: 3, hubs: 1, unreachable: vec![] };
        ticket.answered(Kept::Done(answer.clone()));
        assert_eq!(*waiting.borrow(), Some(Kept::Done(answer.clone())));
        assert_eq!(*repeat(&repeats, "k").borrow(), Some(Kept::Done(answer)));
        assert!(repeats.turn("k", fingerprint(b"b")).is_err(), "the same key for another request");
    }

    #[test]
    fn what_was_not_done_may_be_done_by_a_repeat() {
        let repeats = Repeats::new(8);
        let ticket = first(&repeats, "k");
        let waiting = repeat(&repeats, "k");
        drop(ticket);
        assert!(waiting.has_changed().is_err(), "who waited learns that no answer will come");
        drop(first(&repeats, "k"));
    }

    #[test]
    fn what_was_done_in_part_is_gone_on_with_by_a_repeat_and_kept_when_that_comes_to_nothing() {
        let repeats = Repeats::new(8);
        let partly = Kept::Partly { answer: PublishAnswer::default(), n: 3, missing: vec![HubId(1)] };
        first(&repeats, "k").answered(partly.clone());
        for done in [false, true] {
            let Ok(Turn::GoOn(ticket, before)) = repeats.turn("k", fingerprint(b"a")) else {
                panic!("a repeat should go on from where the first one ended")
            };
            assert_eq!(before, partly);
            let waiting = repeat(&repeats, "k");
            assert!(waiting.borrow().is_none(), "who comes meanwhile waits");
            if done {
                ticket.answered(Kept::Done(PublishAnswer::default()));
                assert_eq!(*waiting.borrow(), Some(Kept::Done(PublishAnswer::default())));
            } else {
                drop(ticket);
            }
        }
        repeat(&repeats, "k");
        first(&repeats, "l").answered(partly);
        let Ok(Turn::GoOn(ticket, _)) = repeats.turn("l", fingerprint(b"a")) else { panic!("to be gone on with") };
        ticket.not_done();
        drop(first(&repeats, "l"));
    }

    #[test]
    fn the_oldest_answered_key_makes_room_and_one_under_way_never_does() {
        let repeats = Repeats::new(2);
        let under_way = first(&repeats, "a");
        first(&repeats, "b").answered(Kept::Done(PublishAnswer::default()));
        first(&repeats, "c").answered(Kept::Done(PublishAnswer::default()));
        repeat(&repeats, "a");
        let second = first(&repeats, "b");
        assert!(repeats.turn("d", fingerprint(b"a")).is_err(), "both that fit are under way");
        drop((under_way, second));
        drop(first(&repeats, "d"));
    }
}
