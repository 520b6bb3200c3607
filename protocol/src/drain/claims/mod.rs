//! Who wants this hub drained, and for how long: whatever a deployment began ends with it.
//!
//! A drain goes on, and the hub stays drained after it, as long as anybody has a claim on it. [`Claims`] decides when
//! a claim ends and when the last one is gone; it knows nothing of sessions, and the drain machine nothing of claims.
//! Events and the time come in as values, actions go out as values.
//!
//! | event of CodeDeploy | here |
//! |---|---|
//! | BeforeBlockTraffic, AfterBlockTraffic | a claim that no time ends |
//! | ApplicationStop | a claim that ends when the app is back, or after `--return-after` |
//! | ValidateService | releases, unless this deployment sent BeforeBlockTraffic |
//! | BeforeAllowTraffic | releases, whatever the deployment's id |

mod claim;
#[cfg(test)]
mod tests;

pub use claim::{AppLook, Claimant, Instance};

use crate::control::{AskedBy, ClaimStatus, OnOrphan};
use crate::position::Millis;
use claim::{Claim, Lease, Life, Run};
use std::collections::VecDeque;

/// After parking, sessions are taken up again when nobody came to end the process for this long, unless the instance
/// was taken from the load balancer.
pub const PARKED_LEASE_MS: u64 = 600_000;
/// Most claims at a time. Of those without a name the oldest goes first once the drain is over; else one more is refused.
pub const CLAIMS_MAX: usize = 64;
/// Most runs that one claim remembers.
pub const RUNS_MAX: usize = 16;
/// Attempts that are remembered as called off; the oldest goes first.
pub const CALLED_OFF_MAX: usize = 256;
/// Most of those who asked for one drain that its report names.
pub const ASKED_MAX: usize = 64;

/// Events of deployments whose instance is in a load balancer's hands.
const BLOCK_EVENTS: [&str; 2] = ["BeforeBlockTraffic", "AfterBlockTraffic"];

/// Somebody asks for a drain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Who.
    pub claimant: Claimant,
    /// The run of the trigger; none: it cannot undo what it adds but by the claimant's name.
    pub attempt: Option<String>,
    /// The lifecycle event that made it ask; none outside deployments.
    pub event: Option<String>,
    /// The deployment's id.
    pub deployment: Option<String>,
    /// What becomes of it when its lease runs out.
    pub on_orphan: OnOrphan,
    /// How long it may be silent.
    pub lease_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimEvent {
    /// `POST /v1/drain`.
    Asked(Ask),
    /// `GET /v1/drain`: whoever asks shows that it is there, and nobody else.
    Renewed {
        /// The run that asks.
        attempt: Option<String>,
        /// Who asks.
        claimant: Option<String>,
    },
    /// `DELETE /v1/drain` of one run: what it added goes, whether it was heard already or not.
    Undone {
        /// Which run.
        attempt: String,
    },
    /// `DELETE /v1/drain` of a claimant: it wants the hub back.
    Released {
        /// Who.
        claimant: String,
        /// The lifecycle event, if a deployment says so.
        event: Option<String>,
        /// The deployment's id.
        deployment: Option<String>,
    },
    /// `DELETE /v1/drain` of an operator: all claims go.
    AllCalledOff {
        /// Who, in words.
        by: String,
    },
    /// The drain is over; the hub stays drained.
    DrainOver,
    /// The hub serves again although somebody has a claim: the drain recalled itself.
    DrainGone,
    /// Somebody looked at the app's address.
    AppLooked(AppLook),
    /// Time has passed.
    Time {
        /// Somebody is on disk because of this drain.
        parked: bool,
    },
}

/// Why a claim has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Its claimant wants the hub back.
    Released,
    /// Its last run has undone what it asked for.
    Undone,
    /// Nobody asked for the status for so long.
    Orphaned {
        /// The lease.
        lease_ms: u64,
    },
    /// The app has gone and is back.
    AppBack,
    /// Nothing ended it for so long after the drain.
    TimeOver {
        /// The limit.
        after_ms: u64,
    },
    /// An operator called everything off.
    CalledOff,
    /// The drain has recalled itself.
    DrainGone,
    /// Too many others came after it.
    Displaced,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimAction {
    /// No drain is on: begin one.
    Start,
    /// A drain is on, or over: this one has a claim on it, too.
    Join,
    /// It is not to be heard.
    Refuse(Refused),
    /// A claim has ended.
    Dropped {
        /// Whose.
        claimant: String,
        /// Why.
        why: Ended,
    },
    /// The caller wants the hub back, and it stays drained for others.
    Kept {
        /// For whom, in words.
        still_for: Vec<String>,
    },
    /// The last claim is gone: the hub serves again.
    Recall {
        /// Who brought it about, or why, in words.
        by: String,
    },
}

/// Why a claim was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Its trigger has called it off before it was heard.
    CalledOff(String),
    /// There are [`CLAIMS_MAX`] already.
    TooMany,
}

/// How far the drain is that the claims are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Course {
    Serving,
    Running,
    Over,
}

/// All claims on the drain of one hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claims {
    return_after_ms: u64,
    course: Course,
    claims: Vec<Claim>,
    called_off: VecDeque<String>,
    asked: Vec<AskedBy>,
    /// Who listened at the app's address last; none until somebody looked in this drain.
    app: Option<Instance>,
    parked: bool,
}

impl Claims {
    /// Nobody wants anything. `return_after_ms`: how long a deployment without a load balancer may leave the hub
    /// drained.
    pub const fn new(return_after_ms: u64) -> Self {
        Self {
            return_after_ms,
            course: Course::Serving,
            claims: Vec::new(),
            called_off: VecDeque::new(),
            asked: Vec::new(),
            app: None,
            parked: false,
        }
    }

    /// Takes note of what happened, and says what is to be done.
    pub fn handle(&mut self, event: ClaimEvent, now: Millis) -> Vec<ClaimAction> {
        match event {
            ClaimEvent::Asked(ask) => self.asked(ask, now),
            ClaimEvent::Renewed { attempt, claimant } => self.renewed(attempt.as_deref(), claimant.as_deref(), now),
            ClaimEvent::Undone { attempt } => self.undone(&attempt, now),
            ClaimEvent::Released { claimant, event, deployment } => {
                self.released(&claimant, event.as_deref(), deployment.as_deref())
            }
            ClaimEvent::AllCalledOff { by } => self.all_called_off(by),
            ClaimEvent::DrainOver => self.drain_over(now),
            ClaimEvent::DrainGone => self.drain_gone(),
            ClaimEvent::AppLooked(look) => self.app_looked(&look),
            ClaimEvent::Time { parked } => self.time(parked, now),
        }
    }

    /// When [`ClaimEvent::Time`] has something to say.
    pub fn next_at(&self) -> Option<Millis> {
        let ends = self.claims.iter().filter_map(|claim| claim.ends_at(self.return_after_ms, self.parked));
        ends.chain(self.claims.iter().filter_map(Claim::orphan_at)).min()
    }

    /// Whether a look at the app is of use now.
    pub fn wants_look(&self) -> bool {
        let returns = |claim: &Claim| matches!(claim.life, Life::Returning { .. });
        let will =
            |claim: &Claim| claim.life == Life::Draining && claim.keeper().is_some_and(|run| run.event.is_some());
        self.claims.iter().any(returns) || (self.app.is_none() && self.claims.iter().any(will))
    }

    /// The claims as they are, the oldest first.
    pub fn status(&self, now: Millis) -> Vec<ClaimStatus> {
        self.claims.iter().map(|claim| claim.status(self.return_after_ms, self.parked, now)).collect()
    }

    /// Who asked for the drain that is on, or was on last, in the order in which they came.
    pub fn asked_by(&self) -> &[AskedBy] {
        &self.asked
    }

    fn over(&self) -> bool {
        self.course == Course::Over
    }

    fn asked(&mut self, ask: Ask, now: Millis) -> Vec<ClaimAction> {
        if let Some(attempt) = ask.attempt.as_ref().filter(|attempt| self.called_off.contains(attempt)) {
            return vec![ClaimAction::Refuse(Refused::CalledOff(attempt.clone()))];
        }
        let mut actions = Vec::new();
        let known = self.claims.iter().position(|claim| claim.claimant == ask.claimant);
        if known.is_none() && self.claims.len() >= CLAIMS_MAX {
            let Some(oldest) = self.displaceable() else { return vec![ClaimAction::Refuse(Refused::TooMany)] };
            let gone = self.claims.remove(oldest);
            actions.push(ClaimAction::Dropped { claimant: gone.claimant.to_string(), why: Ended::Displaced });
        }
        let joined = self.course != Course::Serving;
        if !joined {
            (self.course, self.app) = (Course::Running, None);
            self.asked.clear();
        }
        if self.asked.len() < ASKED_MAX {
            let (claimant, event, deployment) = (ask.claimant.to_string(), ask.event.clone(), ask.deployment.clone());
            self.asked.push(AskedBy { claimant, event, deployment, joined });
        }
        let at = known.unwrap_or_else(|| {
            self.claims.push(Claim::new(ask.claimant.clone(), now));
            self.claims.len() - 1
        });
        let (over, app) = (self.over(), self.app.clone().unwrap_or_default());
        self.claims[at].add(ask, over, &app, now);
        actions.push(if joined { ClaimAction::Join } else { ClaimAction::Start });
        actions
    }

    /// A claim that others may take the place of: without a name, and nobody waits for it any more.
    fn displaceable(&self) -> Option<usize> {
        let nameless = |claim: &Claim| matches!(claim.claimant, Claimant::Run(_) | Claimant::Anonymous);
        self.claims.iter().position(|claim| self.over() && nameless(claim))
    }

    fn renewed(&mut self, attempt: Option<&str>, named: Option<&str>, now: Millis) -> Vec<ClaimAction> {
        for claim in &mut self.claims {
            let by_name = attempt.is_none() && claim.claimant == Claimant::of(named, None);
            for run in &mut claim.runs {
                let is_it = match attempt {
                    Some(attempt) => run.attempt.as_deref() == Some(attempt),
                    None => by_name && run.attempt.is_none(),
                };
                if let Lease::Counts { asked_at, .. } = &mut run.lease
                    && is_it
                {
                    *asked_at = now;
                }
            }
        }
        Vec::new()
    }

    fn undone(&mut self, attempt: &str, now: Millis) -> Vec<ClaimAction> {
        if !self.called_off.iter().any(|known| known == attempt) {
            if self.called_off.len() >= CALLED_OFF_MAX {
                self.called_off.pop_front();
            }
            self.called_off.push_back(attempt.to_owned());
        }
        let mut by = None;
        let (over, app) = (self.over(), self.app.clone().unwrap_or_default());
        for claim in &mut self.claims {
            // One attempt may have asked for several events.
            let its = |run: &mut Run| run.attempt.as_deref() == Some(attempt);
            let Some(run) = claim.runs.extract_if(.., its).last() else { continue };
            by = Some(format!(
                "{}, which gave up",
                name(&claim.claimant, run.event.as_deref(), run.deployment.as_deref())
            ));
            claim.settle(over, &app, now);
        }
        let mut actions = self.end(
            |claim| claim.runs.is_empty().then_some(Ended::Undone),
            |claim| by.unwrap_or_else(|| claim_name(claim)),
        );
        actions.extend(self.kept());
        actions
    }

    fn released(&mut self, claimant: &str, event: Option<&str>, deployment: Option<&str>) -> Vec<ClaimAction> {
        let asks = Claimant::Named(claimant.to_owned());
        let by = name(&asks, event, deployment);
        let ends = |claim: &Claim| {
            // BeforeAllowTraffic comes later, when the instance goes back to its load balancer.
            let later = event == Some("ValidateService") && claim.was_blocked_by(deployment);
            (claim.claimant == asks && !later).then_some(Ended::Released)
        };
        let mut actions = self.end(ends, |_| by);
        actions.extend(self.kept());
        actions
    }

    fn all_called_off(&mut self, by: String) -> Vec<ClaimAction> {
        let mut actions =
            self.end(|claim| (claim.claimant != Claimant::Process).then_some(Ended::CalledOff), |_| by.clone());
        // A drain without a claim is none of ours; it is called off all the same.
        if self.claims.is_empty() && !actions.iter().any(|action| matches!(action, ClaimAction::Recall { .. })) {
            actions.push(ClaimAction::Recall { by });
        }
        actions.extend(self.kept());
        actions
    }

    fn drain_over(&mut self, now: Millis) -> Vec<ClaimAction> {
        // Leases count up to the end: one that has run out is no claim that stays.
        let actions = if self.course == Course::Running { self.time(self.parked, now) } else { Vec::new() };
        if self.course == Course::Running {
            self.course = Course::Over;
            let app = self.app.clone().unwrap_or_default();
            self.claims.iter_mut().for_each(|claim| claim.settle(true, &app, now));
        }
        actions
    }

    fn drain_gone(&mut self) -> Vec<ClaimAction> {
        self.course = Course::Serving;
        let gone = std::mem::take(&mut self.claims);
        let dropped =
            |claim: Claim| ClaimAction::Dropped { claimant: claim.claimant.to_string(), why: Ended::DrainGone };
        gone.into_iter().map(dropped).collect()
    }

    fn app_looked(&mut self, look: &AppLook) -> Vec<ClaimAction> {
        match look {
            AppLook::Healthy(instance) => self.app = Some(instance.clone()),
            AppLook::Refused => self.app = Some(Instance::default()),
            AppLook::Unclear => {}
        }
        let back: Vec<bool> = self.claims.iter_mut().map(|claim| claim.looked(look)).collect();
        let mut back = back.into_iter();
        let by = |claim: &Claim| format!("the app is back: {}", claim_name(claim));
        self.end(|_| back.next().unwrap_or(false).then_some(Ended::AppBack), by)
    }

    fn time(&mut self, parked: bool, now: Millis) -> Vec<ClaimAction> {
        self.parked = parked;
        let return_after_ms = self.return_after_ms;
        let app = self.app.clone().unwrap_or_default();
        // A run that is orphaned goes alone; its claim ends with the last.
        self.claims.iter_mut().for_each(|claim| claim.forget_orphans(&app, now));
        let why = |claim: &Claim| match claim.life {
            Life::Draining => Ended::Orphaned { lease_ms: claim.lease_ms() },
            Life::Kept { .. } => Ended::TimeOver { after_ms: PARKED_LEASE_MS },
            Life::Returning { .. } => Ended::TimeOver { after_ms: return_after_ms },
        };
        let is_due = |claim: &Claim| claim.ends_at(return_after_ms, parked).is_some_and(|at| now >= at);
        self.end(
            |claim| is_due(claim).then(|| why(claim)),
            |claim| match why(claim) {
                Ended::Orphaned { lease_ms } => {
                    format!("orphaned: {} has not asked for the status for {lease_ms} ms", claim_name(claim))
                }
                Ended::TimeOver { after_ms } => format!("nothing ended it for {after_ms} ms: {}", claim_name(claim)),
                _ => claim_name(claim),
            },
        )
    }

    /// Ends the claims of which `ends` says why; `by` says who brought it about.
    fn end(
        &mut self,
        mut ends: impl FnMut(&Claim) -> Option<Ended>,
        by: impl FnOnce(&Claim) -> String,
    ) -> Vec<ClaimAction> {
        let (mut actions, mut last) = (Vec::new(), None);
        self.claims.retain(|claim| {
            let Some(why) = ends(claim) else { return true };
            actions.push(ClaimAction::Dropped { claimant: claim.claimant.to_string(), why });
            last = Some(claim.clone());
            false
        });
        match last {
            Some(last) if self.claims.is_empty() && self.course != Course::Serving => {
                self.course = Course::Serving;
                actions.push(ClaimAction::Recall { by: by(&last) });
            }
            _ => {}
        }
        actions
    }

    fn kept(&self) -> Vec<ClaimAction> {
        let still_for: Vec<String> = self.claims.iter().map(claim_name).collect();
        if still_for.is_empty() { Vec::new() } else { vec![ClaimAction::Kept { still_for }] }
    }
}

/// A claim in words: whose it is, and the event that keeps it.
fn claim_name(claim: &Claim) -> String {
    let keeper = claim.keeper();
    name(&claim.claimant, keeper.and_then(|run| run.event.as_deref()), keeper.and_then(|run| run.deployment.as_deref()))
}

fn name(claimant: &Claimant, event: Option<&str>, deployment: Option<&str>) -> String {
    match (event, deployment) {
        (Some(event), Some(deployment)) => format!("{claimant} ({event} of {deployment})"),
        (Some(event), None) => format!("{claimant} ({event})"),
        (None, _) => claimant.to_string(),
    }
}
