//! Policy and population to plan: a pure value that the hub executes, the trigger previews and the
//! load test checks against.
//!
//! ```text
//!  0      notice         window                     settle      push     deadline
//!  ├────────┼───┬───────┬────────────┬───────────────┼──────────╌╌╌┼────────┤
//!           canary   2         3            4                    who is left is pushed
//! ```
//!
//! The window is shared among the stages by their counts, so that the rate is one and the same
//! from the first slot to the last: a ramp of rates would only raise the peak. What grows from
//! stage to stage is how much is at stake before the next gate.

use super::event::{Facts, Room, Successor};
use super::room::{shares, total_room};
use crate::control::{HubState, PlanAnswer, PlanParks, PlanShare, PlanStage, Policy};
use crate::id::{HubId, SessionId};
use std::fmt;

/// Sessions per second that a hub takes without being pressed; pushes before the deadline and the
/// advice on windows reckon with it.
pub const SAFE_RATE_PER_S: u64 = 1_000;
/// A client that sent and got nothing for this long is taken to be idle.
pub const IDLE_AFTER_MS: u64 = 10_000;
/// Least time kept for pushing.
const PUSH_RESERVE_MIN_MS: u64 = 500;

/// One stage of a plan: the sessions `first..first + count` of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Begin after the start, in milliseconds.
    pub begin_ms: u64,
    /// Over how long its slots are spread.
    pub span_ms: u64,
    /// Its first place in the order.
    pub first: usize,
    /// How many sessions.
    pub count: usize,
}

/// The whole timetable. Sessions with a connection have a place in `order`, and the place is the
/// slot; those without one cost no reconnect and are pushed beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// What was asked, with its defaults.
    pub policy: Policy,
    /// Stage by stage; empty stages are left out.
    pub stages: Vec<Stage>,
    /// Connected sessions in the order of their slots.
    pub order: Vec<SessionId>,
    /// Sessions without a connection, in the order of their ids.
    pub detached: Vec<SessionId>,
    /// Time kept before the deadline for pushing who is left, in milliseconds.
    pub push_reserve_ms: u64,
    /// Whom the sessions would go to.
    pub shares: Vec<PlanShare>,
    /// Whether there is anybody they could go to.
    pub outlook: Outlook,
    /// Whether sessions may be parked before the time that is kept for it: no other hub is known, or it was asked
    /// for (`allow_park`).
    pub may_park: bool,
    /// What stands in the way, in sentences.
    pub blockers: Vec<String>,
    /// What it takes for granted, in sentences.
    pub notes: Vec<String>,
}

/// What becomes of the sessions, as things are when the plan is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outlook {
    /// They move, stage by stage.
    Moves,
    /// Nobody takes them, or not all of them.
    Parks {
        /// So many are parked.
        sessions: u64,
        /// So long after the start.
        at_ms: u64,
        /// Why nobody takes them, in a sentence.
        why: String,
    },
}

/// A sort key of 24 bytes: two bits of class and 62 of hash, then the id in two halves (a `u128`
/// would be padded to 32).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rank: u64,
    high: u64,
    low: u64,
}

impl Key {
    fn new(seed: u64, id: SessionId, facts: &Facts) -> Self {
        let class = match facts {
            Facts { busy: true, .. } => 2,
            Facts { ready: true, .. } => 0,
            Facts { idle_ms, .. } if *idle_ms >= IDLE_AFTER_MS => 0,
            _ => 1,
        };
        let (high, low) = ((id.0 >> 64) as u64, id.0 as u64);
        Self { rank: class << 62 | mix(mix(seed ^ high) ^ low) >> 2, high, low }
    }

    fn id(&self) -> SessionId {
        SessionId(u128::from(self.high) << 64 | u128::from(self.low))
    }
}

/// A 64-bit finaliser (the constants of splitmix64): spreads neighbouring ids over the whole order.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Plan {
    /// Computes the timetable. The same arguments give the same plan, in whatever order the
    /// population comes.
    pub fn new(
        policy: Policy,
        population: impl IntoIterator<Item = (SessionId, Facts)>,
        successors: &[Successor],
        seed: u64,
    ) -> Self {
        let population = population.into_iter();
        let mut keys = Vec::with_capacity(population.size_hint().0);
        let mut detached = Vec::new();
        for (id, facts) in population {
            if facts.connected { keys.push(Key::new(seed, id, &facts)) } else { detached.push(id) }
        }
        keys.sort_unstable();
        detached.sort_unstable();
        let order: Vec<SessionId> = keys.iter().map(Key::id).collect();
        let sessions = (order.len() + detached.len()) as u64;
        let mut plan = Self {
            stages: stages(&policy, order.len()),
            push_reserve_ms: push_reserve_ms(&policy, sessions),
            shares: shares(sessions, successors),
            outlook: outlook(&policy, sessions, successors),
            may_park: may_park(&policy, successors),
            policy,
            order,
            detached,
            blockers: Vec::new(),
            notes: notes(successors),
        };
        plan.blockers = plan.find_blockers(successors);
        plan
    }

    /// How many sessions it is for.
    pub fn sessions(&self) -> u64 {
        (self.order.len() + self.detached.len()) as u64
    }

    /// The slot of a place in the order, in milliseconds after the start.
    pub fn slot_ms(&self, place: usize) -> u64 {
        self.policy.notice_ms + spread(self.policy.window_ms, place, self.order.len())
    }

    /// Least time between two slots in microseconds, rounded up so that the rate is never higher.
    pub fn interval_us(&self) -> u64 {
        self.policy.window_ms.saturating_mul(1_000).div_ceil(self.order.len().max(1) as u64)
    }

    /// From the start until the last session is expected to be gone. Nobody there: at once.
    pub fn total_ms(&self) -> u64 {
        match self.outlook {
            Outlook::Parks { at_ms, sessions, .. } if sessions == self.sessions() => at_ms,
            Outlook::Parks { at_ms, .. } => at_ms.max(self.timetable_ms()),
            Outlook::Moves => self.timetable_ms(),
        }
    }

    fn timetable_ms(&self) -> u64 {
        match (self.order.is_empty(), self.detached.is_empty()) {
            (true, true) => 0,
            (true, false) => self.policy.notice_ms + self.policy.settle_ms,
            (false, _) => self.policy.notice_ms + self.policy.window_ms + self.policy.settle_ms,
        }
    }

    /// Whether there is time and room for everybody. Who is parked because no other hub is known, or because that was
    /// asked for, needs no room.
    pub fn fits(&self) -> bool {
        self.fits_in_time() && (self.may_park || self.outlook == Outlook::Moves)
    }

    /// Whether the last slot leaves the time kept for pushing, and the settling ends in time. The timetable is judged
    /// also where nobody is there to move to: somebody may come.
    fn fits_in_time(&self) -> bool {
        let timetable_ms = self.timetable_ms();
        let last_slot_ms = timetable_ms.saturating_sub(self.policy.settle_ms);
        last_slot_ms + self.push_reserve_ms <= self.policy.deadline_ms && timetable_ms <= self.policy.deadline_ms
    }

    /// The plan as the API answers it.
    pub fn answer(&self) -> PlanAnswer {
        let stage =
            |stage: &Stage| PlanStage { begin_ms: stage.begin_ms, span_ms: stage.span_ms, count: stage.count as u64 };
        let parks = match &self.outlook {
            Outlook::Moves => None,
            Outlook::Parks { sessions, at_ms, why } => {
                Some(PlanParks { sessions: *sessions, at_ms: *at_ms, why: why.clone() })
            }
        };
        // The stages stay in the plan, for a hub that comes in time; what is told is what would happen.
        let everybody = parks.as_ref().filter(|parks: &&PlanParks| parks.sessions == self.sessions());
        let at_once = everybody.map(|parks| PlanStage { begin_ms: parks.at_ms, span_ms: 0, count: parks.sessions });
        let stages = match at_once {
            Some(at_once) => vec![at_once],
            None => self.stages.iter().map(stage).collect(),
        };
        PlanAnswer {
            sessions: self.sessions(),
            stages,
            parks,
            total_ms: self.total_ms(),
            deadline_ms: self.policy.deadline_ms,
            push_reserve_ms: self.push_reserve_ms,
            successors: self.shares.clone(),
            fits: self.fits(),
            needs_consent: !self.may_park && self.outlook != Outlook::Moves,
            blockers: self.blockers.clone(),
            notes: self.notes.clone(),
        }
    }

    fn find_blockers(&self, successors: &[Successor]) -> Vec<String> {
        let eligible = successors.iter().filter(|peer| peer.eligible).count() as u64;
        let refuses = |peer: &&Successor| !peer.eligible;
        let mut blockers: Vec<String> =
            successors.iter().filter(refuses).map(|peer| takes_nobody(peer.hub, peer.state, peer.room)).collect();
        if let Outlook::Parks { sessions, why, .. } = &self.outlook {
            blockers.push(format!("{why}: {sessions} sessions would be parked in the data directory"));
        }
        let (window_ms, connected) = (self.policy.window_ms, self.order.len() as u64);
        let safe_per_s = eligible * SAFE_RATE_PER_S / 2;
        let needed_ms = (connected * 1_000).checked_div(safe_per_s).unwrap_or(0);
        if window_ms > 0 && needed_ms > window_ms {
            blockers.push(format!(
                "{connected} sessions in a window of {window_ms} ms are more than {safe_per_s} per second: \
                 window_ms {needed_ms} would do"
            ));
        }
        if !self.fits_in_time() {
            blockers.push(format!(
                "notice {} ms + window {window_ms} ms + settle {} ms with {} ms kept for pushing do not fit before the deadline of {} ms",
                self.policy.notice_ms, self.policy.settle_ms, self.push_reserve_ms, self.policy.deadline_ms
            ));
        }
        blockers
    }
}

/// Why a hub that is known is no successor.
pub(super) fn takes_nobody(hub: HubId, state: Option<HubState>, room: Option<Room>) -> String {
    match (state, room) {
        (None, _) => format!("hub {hub} takes nobody: it is silent"),
        (Some(HubState::Serving), Some(Room { places: 0, .. })) => {
            format!("hub {hub} takes nobody: it has no room for another session")
        }
        (Some(HubState::Serving), _) => {
            format!("hub {hub} takes nobody: it serves, but has no room, does not answer, or speaks another version")
        }
        (Some(state), _) => format!("hub {hub} takes nobody: it is {}", state.as_str()),
    }
}

/// Whether it is agreed that sessions are parked: there never was another hub, or it was asked for.
fn may_park(policy: &Policy, successors: &[Successor]) -> bool {
    policy.allow_park || successors.is_empty()
}

/// Hubs that take sessions and do not say how many.
fn notes(successors: &[Successor]) -> Vec<String> {
    let silent = successors.iter().filter(|peer| peer.eligible && peer.room.is_none());
    silent.map(|peer| format!("hub {} does not tell its room: it counts as having enough", peer.hub)).collect()
}

/// Whether a hub that takes nobody now may do so soon: known, and not on its own way out.
pub(super) const fn is_hopeful(state: Option<HubState>) -> bool {
    matches!(state, None | Some(HubState::Serving))
}

/// As the drain itself decides when the notice has aged, and when the room is used up.
pub(super) fn outlook(policy: &Policy, sessions: u64, successors: &[Successor]) -> Outlook {
    // Before the deadline everybody is parked whatever is hoped for.
    let latest_ms = policy.deadline_ms - push_reserve_ms(policy, sessions);
    let wait_ms = policy.gate.wait_max_ms;
    let parks = |sessions: u64, from_ms: u64, why: String| {
        let at_ms = if may_park(policy, successors) { from_ms.min(latest_ms) } else { latest_ms };
        Outlook::Parks { sessions, at_ms, why }
    };
    let nobody = !successors.iter().any(|peer| peer.eligible);
    match total_room(successors) {
        _ if sessions == 0 => Outlook::Moves,
        _ if nobody => {
            let why = match successors.len() {
                0 => "no other hub is known (--peer, --peers-file)".to_owned(),
                1 => "the one other hub that is known takes nobody".to_owned(),
                known => format!("none of the {known} other hubs takes anybody"),
            };
            let hopeful = successors.iter().any(|peer| is_hopeful(peer.state));
            parks(sessions, policy.notice_ms + if hopeful { wait_ms } else { 0 }, why)
        }
        Some(room) if room < sessions => {
            let why = format!("the other hubs have room for {room} of {sessions} sessions");
            let used_up_ms = policy.notice_ms + spread(policy.window_ms, room as usize, sessions as usize);
            parks(sessions - room, used_up_ms + wait_ms, why)
        }
        Some(_) | None => Outlook::Moves,
    }
}

/// `span * place / places`, without overflow.
fn spread(span_ms: u64, place: usize, places: usize) -> u64 {
    (u128::from(span_ms) * place as u128 / places.max(1) as u128) as u64
}

/// Shares the order among the stages. Shares are rounded up from the front, so the canary is
/// never empty.
fn stages(policy: &Policy, connected: usize) -> Vec<Stage> {
    let mut stages = Vec::with_capacity(policy.stages.len());
    let (mut percent, mut first) = (0usize, 0usize);
    for share in &policy.stages {
        percent += usize::from(*share);
        let end = (connected * percent).div_ceil(100).min(connected);
        if end > first {
            let begin_ms = spread(policy.window_ms, first, connected);
            let span_ms = spread(policy.window_ms, end, connected) - begin_ms;
            stages.push(Stage { begin_ms: policy.notice_ms + begin_ms, span_ms, first, count: end - first });
            first = end;
        }
    }
    stages
}

/// Everybody at the safe rate, or at what the bound on moves in flight allows; at most a quarter
/// of the deadline.
fn push_reserve_ms(policy: &Policy, sessions: u64) -> u64 {
    const PUSHES_PER_S_AND_FLIGHT: u64 = 10;
    let rate_per_s = SAFE_RATE_PER_S.min(u64::from(policy.max_in_flight) * PUSHES_PER_S_AND_FLIGHT);
    (sessions * 1_000 / rate_per_s).max(PUSH_RESERVE_MIN_MS).min(policy.deadline_ms / 4)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
        writeln!(f, "notice    {:>8}", seconds(0))?;
        if let Outlook::Parks { sessions, at_ms, why } = &self.outlook {
            writeln!(f, "park      {:>8}            {sessions:>8} sessions   {why}", seconds(*at_ms))?;
            if *sessions == self.sessions() {
                return self.blockers.iter().try_for_each(|blocker| writeln!(f, "blocker   {blocker}"));
            }
        }
        for (i, stage) in self.stages.iter().enumerate() {
            write!(
                f,
                "stage {:<3} {:>8} +{:>8} {:>8} sessions",
                i + 1,
                seconds(stage.begin_ms),
                seconds(stage.span_ms),
                stage.count
            )?;
            match self.interval_us() {
                0 => writeln!(f, "   unpaced")?,
                us => writeln!(f, "   every {}.{} ms", us / 1_000, us % 1_000 / 100)?,
            }
        }
        if !self.detached.is_empty() {
            writeln!(
                f,
                "push      {:>8}            {:>8} sessions   without a connection",
                seconds(self.policy.notice_ms),
                self.detached.len()
            )?;
        }
        let settle_ms = self.total_ms().saturating_sub(self.policy.settle_ms);
        writeln!(f, "settle    {:>8} +{:>8}", seconds(settle_ms), seconds(self.total_ms() - settle_ms))?;
        let verdict = if self.fits() { "fits" } else { "does not fit" };
        writeln!(
            f,
            "deadline  {:>8} -{:>8} for pushing: {verdict}",
            seconds(self.policy.deadline_ms),
            seconds(self.push_reserve_ms)
        )?;
        self.shares
            .iter()
            .try_for_each(|share| writeln!(f, "to        {} {:>8} sessions", share.hub, share.sessions))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note      {note}"))?;
        self.blockers.iter().try_for_each(|blocker| writeln!(f, "blocker   {blocker}"))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
