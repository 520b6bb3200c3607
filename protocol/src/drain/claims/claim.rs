//! One claim on the drain, with the picture of its life.

use super::{Ask, BLOCK_EVENTS, PARKED_LEASE_MS, RUNS_MAX};
use crate::control::{ClaimLife, ClaimStatus, OnOrphan};
use crate::position::Millis;

/// Who wants the hub drained. A rollback of CodeDeploy has another deployment id, so a claim belongs to the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claimant {
    /// By the name that it gave: under CodeDeploy application and deployment group.
    Named(String),
    /// One run of a trigger that gave no name.
    Run(String),
    /// Who said nothing of itself.
    Anonymous,
    /// The hub's own process, which stops. Nobody drops this one.
    Process,
}

impl Claimant {
    /// Who asks, by what it said.
    pub fn of(named: Option<&str>, attempt: Option<&str>) -> Self {
        match (named, attempt) {
            (Some(name), _) => Self::Named(name.to_owned()),
            (None, Some(attempt)) => Self::Run(attempt.to_owned()),
            (None, None) => Self::Anonymous,
        }
    }
}

impl std::fmt::Display for Claimant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Run(attempt) => write!(f, "run {attempt}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::Process => f.write_str("the hub's own process, which stops"),
        }
    }
}

/// One listener on the app's address as the system names it: several processes may share it or have one each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instance(pub Vec<u64>);

impl Instance {
    /// Nothing of the one before is left, so another process listens now.
    fn is_other_than(&self, before: &Self) -> bool {
        !self.0.is_empty() && !before.0.is_empty() && !self.0.iter().any(|one| before.0.contains(one))
    }
}

/// What became of one try to reach the app's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AppLook {
    /// Nobody listens there.
    Refused,
    /// It takes connections. Who listens, if the system tells; else empty.
    Healthy(Instance),
    /// Neither: a time limit, a name that cannot be looked up.
    Unclear,
}

/// What a claim that ends by itself has seen of the app since the drain was over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum AppSeen {
    /// It is the old one, as far as anybody can tell.
    Old(Instance),
    /// The old one has gone; the new one was healthy so often in a row.
    New { healthy: u32, instance: Instance },
}

/// Healthy looks in a row after which the app counts as back.
const HEALTHY_MIN: u32 = 2;

impl AppSeen {
    /// What is known after this look.
    fn after(&self, look: &AppLook) -> Self {
        match (self, look) {
            (_, AppLook::Refused) => Self::New { healthy: 0, instance: Instance::default() },
            (Self::Old(before), AppLook::Healthy(now)) if now.is_other_than(before) => {
                Self::New { healthy: 1, instance: now.clone() }
            }
            (Self::Old(before), AppLook::Healthy(now)) if before.0.is_empty() => Self::Old(now.clone()),
            (Self::Old(before), _) => Self::Old(before.clone()),
            (Self::New { .. }, AppLook::Unclear) => Self::New { healthy: 0, instance: Instance::default() },
            (Self::New { instance, healthy }, AppLook::Healthy(now)) => {
                let in_a_row = if now.is_other_than(instance) { 0 } else { *healthy };
                Self::New { healthy: in_a_row.saturating_add(1), instance: now.clone() }
            }
        }
    }

    const fn is_back(&self) -> bool {
        matches!(self, Self::New { healthy, .. } if *healthy >= HEALTHY_MIN)
    }
}

/// Where one claim stands: one enum, its data in the variants.
///
/// ```text
///            asked            drain over: a block event, or no event, among its runs
///   (none) ────────► Draining ─────────────────────────────────────────► Kept
///      ▲              │   ▲  │ drain over: only other events                │ asked again, or a run is undone:
///      │              │   │  ▼                                             │ judged anew
///      │              │   │ Returning { the old app } ◄───────────────────┘
///      │              │   │  │ address refused, or another instance listens
///      │              │   │  ▼
///      │              │   │ Returning { a new app, healthy n times } ─n = 2─► (none)
///      │              │   └──┴─ a later event of the claimant begins it again
///      │              │      └─ return-after is over ─► (none)
///      └──────────────┴─ released, called off, or its last run undone or orphaned: from anywhere
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// The drain is under way.
    Draining,
    /// Over; stays until it is released.
    Kept { since: Millis },
    /// Over; ends by itself.
    Returning { since: Millis, app: AppSeen },
}

/// Whether a run still has to show that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lease {
    /// It counts from the last time that the run asked.
    Counts { on_orphan: OnOrphan, lease_ms: u64, asked_at: Millis },
    /// The drain is over.
    Over,
}

/// What one run of a trigger added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) attempt: Option<String>,
    pub(super) event: Option<String>,
    pub(super) deployment: Option<String>,
    pub(super) lease: Lease,
}

impl Run {
    fn is_block(&self) -> bool {
        self.event.as_deref().is_some_and(|event| BLOCK_EVENTS.contains(&event))
    }
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    pub(super) claimant: Claimant,
    pub(super) since: Millis,
    pub(super) runs: Vec<Run>,
    pub(super) life: Life,
}

impl Claim {
    pub(super) fn new(claimant: Claimant, now: Millis) -> Self {
        Self { claimant, since: now, runs: Vec::new(), life: Life::Draining }
    }

    /// Another run of the claimant. One beyond the bound takes the place of the oldest that is no block event.
    pub(super) fn add(&mut self, ask: Ask, over: bool, app: &Instance, now: Millis) {
        let Ask { attempt, event, deployment, on_orphan, lease_ms, .. } = ask;
        let lease = if over { Lease::Over } else { Lease::Counts { on_orphan, lease_ms, asked_at: now } };
        self.runs.retain(|run| run.attempt != attempt || run.event != event);
        if self.runs.len() >= RUNS_MAX {
            let oldest = self.runs.iter().position(|run| !run.is_block()).unwrap_or(0);
            self.runs.remove(oldest);
        }
        self.runs.push(Run { attempt, event, deployment, lease });
        self.settle(over, app, now);
    }

    /// Judges its life anew, after what it is for has changed, or the drain has ended. `app`: who was seen to listen
    /// at its address last.
    pub(super) fn settle(&mut self, over: bool, app: &Instance, now: Millis) {
        if over {
            self.runs.iter_mut().for_each(|run| run.lease = Lease::Over);
        }
        let returns = self.runs.iter().all(|run| run.event.is_some()) && !self.runs.iter().any(Run::is_block);
        self.life = match (over, returns) {
            (false, _) => Life::Draining,
            (true, true) => Life::Returning { since: now, app: AppSeen::Old(app.clone()) },
            (true, false) => match self.life {
                Life::Kept { since } => Life::Kept { since },
                _ => Life::Kept { since: now },
            },
        };
    }

    /// Drops the runs whose lease has run out, as long as another one is left; with the last one the claim ends.
    pub(super) fn forget_orphans(&mut self, app: &Instance, now: Millis) {
        let is_orphan = |run: &Run| match run.lease {
            Lease::Counts { on_orphan: OnOrphan::Recall, lease_ms, asked_at } => now >= asked_at.plus(lease_ms),
            Lease::Counts { on_orphan: OnOrphan::Continue, .. } | Lease::Over => false,
        };
        if self.runs.iter().any(is_orphan) && !self.runs.iter().all(is_orphan) {
            self.runs.retain(|run| !is_orphan(run));
            self.settle(false, app, now);
        }
    }

    /// When the next of its runs is an orphan beside others.
    pub(super) fn orphan_at(&self) -> Option<Millis> {
        let ends = |run: &Run| match run.lease {
            Lease::Counts { on_orphan: OnOrphan::Recall, lease_ms, asked_at } => Some(asked_at.plus(lease_ms)),
            Lease::Counts { on_orphan: OnOrphan::Continue, .. } | Lease::Over => None,
        };
        self.runs.iter().filter_map(ends).min()
    }

    /// The longest lease among its runs.
    pub(super) fn lease_ms(&self) -> u64 {
        let lease_ms = |run: &Run| match run.lease {
            Lease::Counts { lease_ms, .. } => lease_ms,
            Lease::Over => 0,
        };
        self.runs.iter().map(lease_ms).max().unwrap_or_default()
    }

    /// The app was looked at. True: it is back, and the claim is done with.
    pub(super) fn looked(&mut self, look: &AppLook) -> bool {
        let Life::Returning { app, .. } = &mut self.life else { return false };
        *app = app.after(look);
        app.is_back()
    }

    /// Whether this deployment said that its instance is taken from the load balancer. One without an id may be any.
    pub(super) fn was_blocked_by(&self, deployment: Option<&str>) -> bool {
        let sent = |run: &Run| {
            run.event.as_deref() == Some("BeforeBlockTraffic")
                && (deployment.is_none() || run.deployment.is_none() || run.deployment.as_deref() == deployment)
        };
        self.runs.iter().any(sent)
    }

    /// When time ends it, as things are. `parked`: somebody is on disk because of this drain.
    pub(super) fn ends_at(&self, return_after_ms: u64, parked: bool) -> Option<Millis> {
        match &self.life {
            Life::Draining => {
                let ends = |run: &Run| match run.lease {
                    Lease::Counts { on_orphan: OnOrphan::Recall, lease_ms, asked_at } => Some(asked_at.plus(lease_ms)),
                    Lease::Counts { on_orphan: OnOrphan::Continue, .. } | Lease::Over => None,
                };
                // It lives as long as its last run, so one that has no end is enough.
                self.runs.iter().map(ends).collect::<Option<Vec<_>>>()?.into_iter().max()
            }
            Life::Kept { since } => {
                let by_hand = self.claimant != Claimant::Process && !self.runs.iter().any(Run::is_block);
                (by_hand && parked).then(|| since.plus(PARKED_LEASE_MS))
            }
            Life::Returning { since, .. } => Some(since.plus(return_after_ms)),
        }
    }

    /// The run that keeps it: the last with a block event, else the last.
    pub(super) fn keeper(&self) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.is_block()).or(self.runs.last())
    }

    pub(super) fn status(&self, return_after_ms: u64, parked: bool, now: Millis) -> ClaimStatus {
        let keeper = self.keeper();
        ClaimStatus {
            claimant: self.claimant.to_string(),
            event: keeper.and_then(|run| run.event.clone()),
            deployment: keeper.and_then(|run| run.deployment.clone()),
            life: match self.life {
                Life::Draining => ClaimLife::Draining,
                Life::Kept { .. } => ClaimLife::Kept,
                Life::Returning { .. } => ClaimLife::Returning,
            },
            since_ms: now.since(self.since),
            ends_in_ms: self.ends_at(return_after_ms, parked).map(|at| at.since(now)),
        }
    }
}
