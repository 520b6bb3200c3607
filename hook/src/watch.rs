//! Decides, from one status to the next, what to say, when to ask again and when it is over.
//! No clock and no IO: times come in as milliseconds since the start.
//!
//! ```text
//!            ┌──────────────── any change, or 10 s ────────────────┐
//!            ▼                                                     │
//!   start ─► watching ── drained ─► Drained                        │
//!              │  └── the rest: drained, and nothing moved for one settle ─► Drained
//!              └───── serving, or another drain's id ─► Gone (the report tells which it was)
//! ```

use crate::progress;
use tidegate_protocol::control::{DrainStatus, HubState, Phase};
use tidegate_protocol::id::{DrainId, HubId};

/// Without a change, a line this often, so that a reader knows that somebody is there.
const QUIET_MAX_MS: u64 = 10_000;
/// Changes closer together than this are told together.
const LINE_GAP_MS: u64 = 1_000;
/// Pause between two questions, however fast the hub's account changes.
const ASK_GAP_MS: u64 = 200;

/// How the watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The drain we watch is over.
    Drained,
    /// The hub serves, or drains for somebody else: the report of ours tells how it ended.
    Gone,
}

/// What one status leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// What to say; empty if nothing changed that a reader would want to know.
    pub(crate) lines: Vec<String>,
    /// Whether the lines only repeat that it goes on.
    pub(crate) heartbeat: bool,
    /// Set when it is over.
    pub(crate) end: Option<End>,
}

/// What was said last. A status that differs in this is a change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    phase: Phase,
    stage: Option<u64>,
    why: Option<String>,
    trouble: (bool, bool, bool),
    successors: Vec<(HubId, Option<HubState>)>,
}

/// The watcher of one drain.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// The drain that we wait for; null until the hub names it.
    drain: Option<DrainId>,
    /// For the rest: how long nothing may move before it counts as settled.
    rest_settle_ms: Option<u64>,
    said: Option<Said>,
    said_at_ms: u64,
    /// A change that is not said yet.
    pending: bool,
    remaining: u64,
    remaining_since_ms: u64,
    seq: u64,
}

impl Watch {
    /// A watcher that has seen nothing; `rest_settle_ms` only for the rest after BlockTraffic.
    pub(crate) fn new(rest_settle_ms: Option<u64>) -> Self {
        Self {
            drain: None,
            rest_settle_ms,
            said: None,
            said_at_ms: 0,
            pending: false,
            remaining: u64::MAX,
            remaining_since_ms: 0,
            seq: 0,
        }
    }

    /// The drain that is watched, once the hub has named it.
    pub(crate) fn drain(&self) -> Option<DrainId> {
        self.drain
    }

    /// The newest change that was seen; to be passed as `after`.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Takes in a status.
    pub(crate) fn observe(&mut self, status: &DrainStatus, now_ms: u64) -> Step {
        self.seq = status.seq;
        if self.drain.is_none() {
            self.drain = status.drain;
        }
        if status.phase == Phase::Serving || status.drain != self.drain {
            return Step { end: Some(End::Gone), ..Step::default() };
        }
        let remaining = status.sessions.map_or(0, |sessions| sessions.remaining);
        if remaining != self.remaining {
            self.remaining = remaining;
            self.remaining_since_ms = now_ms;
        }
        let end = (status.phase == Phase::Drained && self.settled(now_ms)).then_some(End::Drained);
        let step = self.say(status, now_ms, end.is_some());
        Step { end, ..step }
    }

    /// Whether a drained hub needs no further waiting: always, but for the rest only when nobody is
    /// left or nothing has moved for a while.
    fn settled(&self, now_ms: u64) -> bool {
        match self.rest_settle_ms {
            None => true,
            Some(settle_ms) => self.remaining == 0 || now_ms.saturating_sub(self.remaining_since_ms) >= settle_ms,
        }
    }

    fn say(&mut self, status: &DrainStatus, now_ms: u64, ended: bool) -> Step {
        let told = Said::of(status);
        let since_ms = now_ms.saturating_sub(self.said_at_ms);
        let changed = self.said.as_ref() != Some(&told);
        let due = match &self.said {
            None => true,
            Some(_) if changed => ended || since_ms >= LINE_GAP_MS,
            Some(_) => !ended && since_ms >= QUIET_MAX_MS,
        };
        self.pending = changed && !due;
        if !due {
            return Step::default();
        }
        self.said = Some(told);
        self.said_at_ms = now_ms;
        let mut lines = vec![progress::line(status)];
        if matches!(status.phase, Phase::Held | Phase::Settling | Phase::Forcing) || !changed {
            lines.extend(progress::waiting(status));
        }
        lines.extend(progress::at_a_gate(status));
        lines.extend(progress::blocked(status));
        Step { lines, heartbeat: !changed, end: None }
    }

    /// How long the hub may wait for the next change before something is due here.
    pub(crate) fn wait_ms(&self, now_ms: u64) -> u64 {
        let since_ms = now_ms.saturating_sub(self.said_at_ms);
        let line_in_ms = if self.pending { LINE_GAP_MS } else { QUIET_MAX_MS }.saturating_sub(since_ms);
        let settle_in_ms = self
            .rest_settle_ms
            .map_or(u64::MAX, |ms| ms.saturating_sub(now_ms.saturating_sub(self.remaining_since_ms)).max(1));
        line_in_ms.min(settle_in_ms.max(ASK_GAP_MS)).max(ASK_GAP_MS)
    }

    /// The pause before the next question.
    pub(crate) const fn ask_gap_ms(&self) -> u64 {
        ASK_GAP_MS
    }
}

impl Said {
    fn of(status: &DrainStatus) -> Self {
        let counts = status.sessions.unwrap_or_default();
        Self {
            phase: status.phase,
            stage: status.stage,
            why: status.why.clone(),
            trouble: (counts.forced > 0, counts.unconfirmed > 0, status.unroutable.unwrap_or(0) > 0),
            successors: status.successors.iter().map(|hub| (hub.hub, hub.state)).collect(),
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
