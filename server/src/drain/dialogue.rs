//! What a client hears of a drain: notice, move, recall. Each frame raises the session's `seq`.

use super::Driver;
use crate::hub::Hub;
use crate::hub::cell::{Dialogue, Inner};
use std::sync::Arc;
use tidegate_protocol::control::{Phase, Policy};
use tidegate_protocol::frame::{Notice, ServerFrame};
use tidegate_protocol::id::{DrainId, HubId};
use tidegate_protocol::position::Millis;

/// What is said when the operator gave no text.
const TEXT: &str = "The service is pausing for an update. Please wrap up; you will be moved without losing anything.";
const LANGUAGE: &str = "en";
const REASON: &str = "deployment";

fn next_seq(inner: &mut Inner, drain: DrainId) -> &mut Dialogue {
    let fresh = Dialogue { drain, seq: 0, moved: false, slot_at: Millis(0) };
    let dialogue = inner.drain.get_or_insert(fresh);
    if dialogue.drain != drain {
        *dialogue = fresh;
    }
    dialogue.seq += 1;
    dialogue
}

/// The service is pausing; this client's slot is in so many milliseconds.
pub(super) fn notice(hub: &Hub, drain: DrainId, inner: &mut Inner, deadline_ms: u64, slot_ms: u64) {
    let Some(conn) = inner.conn.clone() else { return };
    let asked = inner.session.record().and_then(|record| record.profile.language.clone());
    let (text, language, reason) = {
        let machine = hub.drain.machine();
        let Some(machine) = machine.as_ref() else { return };
        let policy = machine.policy();
        let (text, language) = words(policy, asked.as_deref());
        (text, language, reason(policy))
    };
    let dialogue = next_seq(inner, drain);
    dialogue.slot_at = hub.now().plus(slot_ms);
    let seq = dialogue.seq;
    conn.send(&ServerFrame::Notice(Notice { drain, seq, reason, text, language, deadline_ms, slot_ms }));
}

/// The answer to `busy`: said only if the slot is later by more than a moment, so that a client that
/// answers every notice with `busy` does not keep the two of them talking.
pub(super) fn grant(hub: &Hub, drain: DrainId, inner: &mut Inner, deadline_ms: u64, slot_ms: u64) {
    const LATER_BY_MS: u64 = 250;
    let told = inner.drain.filter(|dialogue| dialogue.drain == drain).map_or(Millis(0), |dialogue| dialogue.slot_at);
    if hub.now().plus(slot_ms) >= told.plus(LATER_BY_MS) {
        notice(hub, drain, inner, deadline_ms, slot_ms);
    }
}

/// Why, as a word for programs.
pub(super) fn reason(policy: &Policy) -> String {
    policy.reason.clone().unwrap_or_else(|| REASON.to_owned())
}

/// The text in the client's language: the whole tag, else its first part, else the policy's own.
fn words(policy: &Policy, asked: Option<&str>) -> (String, String) {
    let find = |tag: &str| policy.texts.iter().find(|(language, _)| language.eq_ignore_ascii_case(tag));
    let found = asked.and_then(|tag| find(tag).or_else(|| find(tag.split('-').next().unwrap_or(tag))));
    match found {
        Some((language, text)) => (text.clone(), language.clone()),
        None => (policy.text.clone().unwrap_or_else(|| TEXT.to_owned()), LANGUAGE.to_owned()),
    }
}

/// Open a second connection now, at that hub if it can be named.
pub(super) fn order_move(hub: &Hub, drain: DrainId, inner: &mut Inner, to: Option<HubId>) {
    let Some(conn) = inner.conn.clone() else { return };
    let Some(serial) = inner.session.issue() else { return };
    // The token names this hub: it is the owner until the client arrives elsewhere.
    let token = hub.token(&inner.session, serial, hub.id, inner.session.generation());
    let url = to.and_then(|to| hub.peers.public_url(to));
    let dialogue = next_seq(inner, drain);
    dialogue.moved = true;
    conn.send(&ServerFrame::Move { drain, seq: dialogue.seq, token, url });
}

/// Forget it all.
pub(super) fn recall(_hub: &Hub, drain: DrainId, inner: &mut Inner) {
    let Some(conn) = inner.conn.clone() else { return };
    let dialogue = next_seq(inner, drain);
    dialogue.moved = false;
    conn.send(&ServerFrame::Recall { drain, seq: dialogue.seq });
}

/// A client that came back in the middle of a drain hears the notice again: its page may be new to it.
pub(super) fn repeat(driver: &Driver, hub: &Arc<Hub>, inner: &mut Inner) {
    let Some(dialogue) = inner.drain else { return };
    if !driver.is_leaving() || dialogue.moved {
        return;
    }
    let (drain, deadline_ms) = {
        let machine = driver.machine();
        let Some(machine) =
            machine.as_ref().filter(|machine| !matches!(machine.phase(), Phase::Serving | Phase::Drained))
        else {
            return;
        };
        (machine.id(), machine.status(hub.now()).deadline_in_ms.unwrap_or(0))
    };
    if drain == dialogue.drain {
        notice(hub, drain, inner, deadline_ms, deadline_ms);
    }
}
