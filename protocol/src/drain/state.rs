//! The phase of a drain, with its picture.

use crate::control::Phase;
use crate::position::Millis;

/// Where the drain stands: one enum, its data in the variants.
///
/// ```text
///  Serving ─start─► Noticing ─notice aged, a peer is eligible─► Releasing(stage) ─last slot out─► Settling ─none left─► Drained
///                      │                                          │  ▲                             ▲   │
///                      │     gate shut for a second, canary or    │  │ gate opens; or: a peer is   │   │ settle over: push stragglers
///                      │     ten in a row refused, no peer left   ▼  │ eligible and a move works   │   │ push time: push or park all
///                      │                                      Held(stage, why)                     │   │
///                      ├─no peer eligible (nor soon), and parking is agreed: park all────────────────┘   │
///                      └─no peer eligible: Held(no successor), then as above, or parked at push time     │
///                                                                                                      │
///  just before the deadline, from any phase ─► Forcing: park all ─at the deadline at the latest─► Drained
///  nobody of the starting population left, at any moment ─► Drained at once (Settling while resumes are awaited)
///  only unroutable ones left, after settle ─► Drained (they stay, and are tried every 10 s)
///  Held because a gate failed, at the deadline ─► Serving (nobody is pushed to where no client arrives)
///  cancel, as when the last claim is gone, from any phase ─► Serving (moved ones stay moved)
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// Called off, or serving again after the end.
    Serving { since: Millis },
    /// The notice is out and ages.
    Noticing { since: Millis },
    /// Slots of this stage come up; `out_at`: all were asked, and the gate is judged.
    Releasing { since: Millis, stage: usize, out_at: Option<Millis> },
    /// Moving is suspended.
    Held { since: Millis, stage: usize, out_at: Option<Millis>, why: HeldWhy },
    /// Everybody was asked, or asking is over.
    Settling { since: Millis, step: Step },
    /// The deadline is about to come: what is left is parked; `rest`: newcomers too.
    Forcing { since: Millis, rest: bool },
    /// Over. Whoever still comes is handed on at `retry_at`; `rest`: or parked, if nobody takes them.
    Drained { since: Millis, retry_at: Millis, rest: bool },
}

/// Why moving is suspended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum HeldWhy {
    /// Too few of the stage are back; everything but the next stage goes on.
    Gate,
    /// The gate failed: no client of the stage came to another hub.
    Canary { why: String, probe_at: Millis },
    /// One move after the other is refused.
    Refusals { why: String, probe_at: Millis },
    /// Nobody takes sessions when the notice has aged. `park_at`: it was agreed that they are parked then; without it
    /// they are when the time kept for that begins.
    NoPeerYet { park_at: Option<Millis> },
    /// Nobody takes sessions any more, or nobody has room. `park_at` as above; where hubs fell silent
    /// parking waits until time is short, for they may be back.
    NoPeer { park_at: Option<Millis>, probe_at: Millis },
}

/// How far the settling has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Clients are given time to come by themselves.
    Waiting { until: Millis },
    /// Those who did not are pushed.
    Pushing,
    /// There is no peer, or none that clients arrive at: everybody is parked; `rest`: newcomers too.
    Parking { rest: bool },
    /// The time kept for pushing has begun: everybody is pushed, or parked; `rest`: newcomers too.
    Last { rest: bool },
    /// Nobody is left; clients of pushed sessions are awaited at the successors.
    Resumes { until: Millis, rest: bool },
}

impl State {
    pub(super) const fn phase(&self) -> Phase {
        match self {
            Self::Serving { .. } => Phase::Serving,
            Self::Noticing { .. } => Phase::Noticing,
            Self::Releasing { .. } => Phase::Releasing,
            Self::Held { .. } => Phase::Held,
            Self::Settling { .. } => Phase::Settling,
            Self::Forcing { .. } => Phase::Forcing,
            Self::Drained { .. } => Phase::Drained,
        }
    }

    pub(super) const fn since(&self) -> Millis {
        match self {
            Self::Serving { since }
            | Self::Noticing { since }
            | Self::Releasing { since, .. }
            | Self::Held { since, .. }
            | Self::Settling { since, .. }
            | Self::Forcing { since, .. }
            | Self::Drained { since, .. } => *since,
        }
    }

    /// The stage that releases are counted for.
    pub(super) const fn stage(&self) -> Option<usize> {
        match self {
            Self::Releasing { stage, .. } | Self::Held { stage, .. } => Some(*stage),
            Self::Serving { .. }
            | Self::Noticing { .. }
            | Self::Settling { .. }
            | Self::Forcing { .. }
            | Self::Drained { .. } => None,
        }
    }

    /// Started and not over.
    pub(super) const fn is_running(&self) -> bool {
        !matches!(self, Self::Serving { .. } | Self::Drained { .. })
    }

    /// When everybody is parked because no peer takes them, if that was agreed.
    pub(super) const fn park_at(&self) -> Option<Millis> {
        match self {
            Self::Held { why: HeldWhy::NoPeerYet { park_at } | HeldWhy::NoPeer { park_at, .. }, .. } => *park_at,
            _ => None,
        }
    }

    /// Held so that nothing moves but a probe now and then.
    pub(super) const fn probe_at(&self) -> Option<Millis> {
        match self {
            Self::Held {
                why:
                    HeldWhy::Canary { probe_at, .. } | HeldWhy::Refusals { probe_at, .. } | HeldWhy::NoPeer { probe_at, .. },
                ..
            } => Some(*probe_at),
            Self::Held { why: HeldWhy::NoPeerYet { .. }, .. } => Some(Millis(u64::MAX)),
            _ => None,
        }
    }

    /// Held because a gate failed; why.
    pub(super) fn failed_gate(&self) -> Option<&str> {
        match self {
            Self::Held { why: HeldWhy::Canary { why, .. }, .. } => Some(why),
            _ => None,
        }
    }

    /// Whether newcomers are pushed or parked like everybody else.
    pub(super) const fn takes_newcomers_along(&self) -> bool {
        matches!(
            self,
            Self::Settling {
                step: Step::Last { rest: true } | Step::Resumes { rest: true, .. } | Step::Parking { rest: true },
                ..
            } | Self::Forcing { rest: true, .. }
                | Self::Drained { rest: true, .. }
        )
    }

    /// Whether who cannot be pushed is to be parked now.
    pub(super) const fn parks(&self) -> bool {
        matches!(
            self,
            Self::Settling { step: Step::Parking { .. } | Step::Last { .. } | Step::Resumes { rest: true, .. }, .. }
                | Self::Forcing { .. }
                | Self::Drained { rest: true, .. }
        )
    }
}
