//! The messages towards a client that it has not acked, in order: one buffer for sending, resending
//! and handing over, so that nothing can stand in two queues and differ.

use crate::position::Offset;
use std::collections::VecDeque;

/// A message as the machines see it: something with a size.
pub trait Payload: Clone + std::fmt::Debug + PartialEq + Eq + std::hash::Hash {
    /// The size that counts against the byte limits.
    fn size_bytes(&self) -> usize;
}

impl Payload for u8 {
    fn size_bytes(&self) -> usize {
        1
    }
}

impl Payload for String {
    fn size_bytes(&self) -> usize {
        self.len()
    }
}

/// How much a replay buffer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplayLimits {
    /// At most so many messages.
    pub messages_max: usize,
    /// At most so many bytes (a single larger message is still kept, alone).
    pub bytes_max: usize,
}

/// Unacked messages `base`+1 … `end`. When it is full, the oldest go and `base` rises: whoever has
/// not seen them is told of a gap (never silence). Costs no heap while everything is acked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replay<M> {
    base: Offset,
    bytes: usize,
    messages: VecDeque<M>,
}

/// What a reader finds at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<'a, M> {
    /// The message after the asked offset.
    Message(&'a M),
    /// What came after the asked offset is gone; go on from here.
    Gap(Offset),
    /// Nothing more.
    End,
}

impl<M: Payload> Replay<M> {
    /// An empty buffer whose first message will have the offset after `base`.
    pub fn starting_at(base: Offset) -> Self {
        Self { base, bytes: 0, messages: VecDeque::new() }
    }

    /// A buffer as a snapshot carried it.
    pub fn restored(base: Offset, messages: impl IntoIterator<Item = M>) -> Self {
        let messages: VecDeque<M> = messages.into_iter().collect();
        let bytes = messages.iter().map(Payload::size_bytes).sum();
        Self { base, bytes, messages }
    }

    /// The offset below the oldest kept message.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The offset of the newest message.
    pub fn end(&self) -> Offset {
        self.base.plus(self.messages.len() as u64)
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The kept messages, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        self.messages.iter()
    }

    /// Whether one more message of this size fits without a loss.
    pub fn has_room(&self, size_bytes: usize, limits: &ReplayLimits) -> bool {
        self.messages.is_empty()
            || (self.messages.len() < limits.messages_max && self.bytes + size_bytes <= limits.bytes_max)
    }

    /// Adds a message and gives its offset; over the limits the oldest are dropped (a gap for whoever lacks them).
    pub fn push(&mut self, message: M, limits: &ReplayLimits) -> Offset {
        while !self.has_room(message.size_bytes(), limits) {
            self.drop_oldest();
        }
        self.bytes += message.size_bytes();
        self.messages.push_back(message);
        self.end()
    }

    /// Lets the oldest go until what is left has at most so many bytes: a gap for whoever lacks them.
    pub fn keep_newest(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            self.drop_oldest();
        }
        self.messages.shrink_to_fit();
    }

    /// Forgets everything up to and with `received`. False if the reader claims more than was sent.
    pub fn ack(&mut self, received: Offset) -> bool {
        if received > self.end() {
            return false;
        }
        while self.base < received {
            self.drop_oldest();
        }
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        true
    }

    /// What a reader that has everything up to `place` gets next.
    pub fn next_after(&self, place: Offset) -> Next<'_, M> {
        if place < self.base {
            return Next::Gap(self.base);
        }
        match self.messages.get(place.since(self.base) as usize) {
            Some(message) => Next::Message(message),
            None => Next::End,
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.size_bytes();
            self.base = self.base.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReplayLimits = ReplayLimits { messages_max: 3, bytes_max: 10 };

    fn with(messages: &[&str]) -> Replay<String> {
        let mut replay = Replay::default();
        for message in messages {
            replay.push((*message).to_owned(), &LIMITS);
        }
        replay
    }

    #[test]
    fn a_reader_gets_every_message_after_its_place_in_order() {
        let replay = with(&["a", "b"]);
        assert_eq!(replay.next_after(Offset(0)), Next::Message(&"a".to_owned()));
        assert_eq!(replay.next_after(Offset(1)), Next::Message(&"b".to_owned()));
        assert_eq!(replay.next_after(Offset(2)), Next::End);
    }

    #[test]
    fn an_ack_forgets_and_frees_and_a_claim_beyond_the_end_is_refused() {
        let mut replay = with(&["a", "b"]);
        assert!(!replay.ack(Offset(3)), "3 was never sent");
        assert!(replay.ack(Offset(2)));
        assert_eq!((replay.base(), replay.bytes()), (Offset(2), 0));
        assert!(replay.ack(Offset(1)), "an old ack is harmless");
        assert_eq!(replay.base(), Offset(2));
    }

    #[test]
    fn a_full_buffer_drops_the_oldest_and_the_reader_is_told_of_the_gap() {
        let replay = with(&["a", "b", "c", "d"]);
        assert_eq!(replay.next_after(Offset(0)), Next::Gap(Offset(1)));
        assert_eq!(replay.next_after(Offset(1)), Next::Message(&"b".to_owned()));
    }

    #[test]
    fn a_message_above_the_byte_limit_is_kept_alone() {
        let replay = with(&["a", "0123456789abc"]);
        assert_eq!(replay.next_after(Offset(1)), Next::Message(&"0123456789abc".to_owned()));
        assert_eq!(replay.base(), Offset(1));
    }
}
