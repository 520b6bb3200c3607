//! The client's messages on their way to the app: written right where they were counted, so that a message
//! costs one read and one write and wakes no other task.

use super::side::{Batch, Side, Stage};
use crate::hub::Hub;
use crate::hub::cell::Inner;
use crate::message::Message;
use crate::telemetry::Direction;
use crate::ws::{self, frame, fresh_mask};
use std::sync::Arc;
use tidegate_protocol::session::{Action, Event, Session};

/// Bytes of client messages that are written before they count as taken, beyond the first one.
const BATCH_BYTES: usize = 16 * 1024;
/// Messages of one batch.
const BATCH_MESSAGES: usize = 32;

/// Writes what the client said to the app's socket, as far as it takes it at once; what it took counts as
/// taken. For the rest the link's task waits. Says whether something was taken.
pub fn relay(hub: &Arc<Hub>, inner: &mut Inner) -> bool {
    let Inner { session, app: Some(side), .. } = inner else { return false };
    let mut took = false;
    while put(side, session) {
        took |= taken(hub, side, session);
    }
    took
}

/// Puts one batch. True: all of it is written.
fn put(side: &mut Side, session: &Session<Message>) -> bool {
    let (Stage::Open, 0, Some(record)) = (&side.stage, side.batch.messages, session.record()) else { return false };
    if record.untaken.is_empty() {
        return false;
    }
    let Some(line) = &side.line else { return false };
    let mut socket = line.lock();
    if !socket.is_clean() {
        drop(socket);
        side.bell.ring();
        return false;
    }
    ws::with_scratch(|batch| {
        let mut bytes = 0;
        let mut messages = 0;
        for message in record.untaken.iter().take(BATCH_MESSAGES) {
            let payload = message.bytes();
            if messages > 0 && bytes + payload.len() > BATCH_BYTES {
                break;
            }
            bytes += payload.len();
            messages += 1;
            frame::masked(batch, message.is_text(), payload, fresh_mask());
        }
        side.batch = Batch { messages, bytes: bytes as u64, end: record.taken().0 + messages as u64 };
        socket.put(batch);
    });
    let is_written = socket.is_clean();
    drop(socket);
    if !is_written {
        side.bell.ring();
    }
    is_written
}

/// The batch is written in full. Says whether there was one.
pub(super) fn taken(hub: &Hub, side: &mut Side, session: &mut Session<Message>) -> bool {
    let Batch { messages, bytes, .. } = side.batch;
    if messages == 0 {
        return false;
    }
    (side.batch.messages, side.batch.bytes) = (0, 0);
    hub.metrics.messages.of(Direction::ToApp).increment(messages as u64);
    hub.metrics.bytes.of(Direction::ToApp).increment(bytes);
    let mut out = Vec::new();
    for _ in 0..messages {
        session.handle(Event::Taken, &mut out);
    }
    debug_assert!(out.iter().all(|action| matches!(action, Action::Wake)), "taking only asks for a wake");
    true
}
