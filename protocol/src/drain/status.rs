//! What is told: the status at any moment, the report at the end.

use super::Drain;
use super::returns::Cause;
use super::roster::Place;
use super::state::{HeldWhy, State, Step};
use crate::control::{DrainReport, DrainResult, DrainStatus, HeldKind, Phase, SessionCounts, WaitingFor};
use crate::position::Millis;

/// So many of those that the drain waits for are named.
const WAITING_FOR_MAX: usize = 10;

/// The numbers of a drain at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The account.
    pub sessions: SessionCounts,
    /// Connections closed at the deadline against their will whose sessions were kept.
    pub cut: u64,
    /// Sessions whose clients keep coming back here.
    pub unroutable: u64,
    /// Moves that are ordered and not yet live.
    pub in_flight: u64,
    /// Why moving is suspended.
    pub held: Option<HeldKind>,
}

impl Drain {
    /// Where it stands. Costs the same for ten sessions and for a million.
    pub fn status(&self, now: Millis) -> DrainStatus {
        let tally = self.roster.tally();
        let running = self.state.is_running();
        let moving = running && !matches!(self.state, State::Noticing { .. });
        DrainStatus {
            phase: self.phase(),
            drain: Some(self.id),
            seq: self.seq,
            since_ms: Some(now.since(self.state.since())),
            deadline_in_ms: running.then(|| self.deadline().since(now)),
            sessions: Some(self.ledger.counts(self.roster.remaining())),
            cut: Some(self.ledger.cut),
            unroutable: Some(tally.unroutable),
            unroutable_by: Some(self.unroutable_by()),
            returns: Some(self.returns),
            in_flight: Some(tally.in_flight),
            stage: self.stage_number(),
            stages: Some(self.plan.stages.len() as u64),
            rate_per_s: moving.then(|| self.ledger.rate.per_s(self.began.plus(self.plan.policy.notice_ms), now)),
            eta_ms: self.eta_ms(now),
            waiting_for: self.waiting_for(now),
            successors: self.peers.report(&self.roster),
            joined: None,
            held: self.held(),
            why: self.why(),
            blockers: if running { self.peers.blockers() } else { Vec::new() },
            claims: Vec::new(),
            called_off: None,
            notes: Vec::new(),
        }
    }

    /// The account so far; final once [`super::Action::Finish`] was given out.
    pub fn report(&self, now: Millis) -> DrainReport {
        let (result, took_ms, why) = match &self.end {
            Some((result, took_ms, why)) => (*result, *took_ms, why.clone()),
            None => (DrainResult::Forced, now.since(self.began), Some("it is not over".to_owned())),
        };
        let sessions = self.ledger.report_sessions(self.roster.remaining());
        debug_assert_eq!(super::report::conserved(&sessions.counts), Ok(()));
        DrainReport {
            drain: self.id,
            result,
            started_at: self.started_at.clone(),
            took_ms,
            sessions,
            cut: self.ledger.cut,
            unroutable: self.roster.tally().unroutable,
            unroutable_by: self.unroutable_by(),
            returns: self.returns,
            clients: self.ledger.clients,
            messages: self.ledger.report_messages(),
            gap_ms: self.ledger.gaps.summary(),
            stages: self.ledger.stages.iter().map(|stage| stage.report).collect(),
            successors: self.peers.report(&self.roster),
            trigger: self.plan.policy.trigger.clone(),
            why,
            asked_by: Vec::new(),
            earlier_run: false,
        }
    }

    /// Counted from 1; all of them once everybody was asked.
    fn stage_number(&self) -> Option<u64> {
        match self.phase() {
            Phase::Serving | Phase::Noticing => None,
            Phase::Releasing | Phase::Held => self.state.stage().map(|stage| stage as u64 + 1),
            Phase::Settling | Phase::Forcing | Phase::Drained => Some(self.plan.stages.len() as u64),
        }
    }

    /// Until nobody remains, as far as the timetable and the rate of the last seconds tell.
    fn eta_ms(&self, now: Millis) -> Option<u64> {
        let end = self.began.plus(self.plan.policy.notice_ms + self.plan.policy.window_ms + self.shift_ms);
        match &self.state {
            State::Serving { .. } | State::Held { .. } => None,
            State::Drained { .. } => Some(0),
            State::Noticing { .. } => Some(self.began.plus(self.plan.total_ms()).since(now)),
            State::Releasing { .. } => {
                let rate = self.ledger.rate.per_s(self.began.plus(self.plan.policy.notice_ms), now);
                let by_rate_ms = if rate > 0.0 { self.roster.remaining() as f64 * 1_000.0 / rate } else { 0.0 };
                Some(end.since(now).max(by_rate_ms as u64).min(self.deadline().since(now)))
            }
            State::Settling { step: Step::Waiting { until } | Step::Resumes { until, .. }, .. } => {
                Some(until.since(now))
            }
            State::Settling { .. } | State::Forcing { .. } => Some(self.deadline().since(now)),
        }
    }

    fn waiting_for(&self, now: Millis) -> Vec<WaitingFor> {
        let awaited = self.roster.awaited().take(WAITING_FOR_MAX);
        awaited
            .map(|(session, seat)| WaitingFor {
                session,
                why: why_awaited(&seat.place, seat.bounces),
                since_ms: now.since(seat.since),
            })
            .collect()
    }

    /// Why moving is suspended, in a word.
    pub fn held(&self) -> Option<HeldKind> {
        match &self.state {
            State::Held { why, .. } => Some(match why {
                HeldWhy::Gate => HeldKind::Gate,
                HeldWhy::Canary { .. } => HeldKind::Canary,
                HeldWhy::Refusals { .. } => HeldKind::Refusals,
                HeldWhy::NoPeerYet { .. } | HeldWhy::NoPeer { .. } => HeldKind::NoSuccessor,
            }),
            State::Settling { step: Step::Waiting { .. } | Step::Pushing, .. } => {
                (!self.peers.any_eligible()).then_some(HeldKind::NoSuccessor)
            }
            _ => None,
        }
    }

    /// The same in a sentence.
    fn why(&self) -> Option<String> {
        let State::Held { why, stage, .. } = &self.state else {
            return self.held().map(|_| self.no_successor());
        };
        Some(match why {
            HeldWhy::Gate => {
                let (count, percent) = (&self.ledger.stages[*stage], self.plan.policy.gate.back_min_percent);
                format!(
                    "gate of stage {}: {} of {} are back, {percent} % are needed",
                    stage + 1,
                    count.done,
                    count.asked
                )
            }
            HeldWhy::Canary { why, .. } => format!("canary: {why}"),
            HeldWhy::Refusals { why, .. } => why.clone(),
            HeldWhy::NoPeerYet { .. } | HeldWhy::NoPeer { .. } => self.no_successor(),
        })
    }

    fn no_successor(&self) -> String {
        let what = if self.peers.any_known() { "no other hub takes sessions now" } else { "no other hub is known" };
        let when = match self.state.park_at() {
            Some(_) => "they are parked soon",
            None => "they are parked in time before the deadline",
        };
        format!("no successor: {what}; if none comes {when}")
    }

    /// What of the status changes all the time and costs nothing to tell.
    pub fn figures(&self) -> Figures {
        let tally = self.roster.tally();
        Figures {
            sessions: self.ledger.counts(self.roster.remaining()),
            cut: self.ledger.cut,
            unroutable: tally.unroutable,
            in_flight: tally.in_flight,
            held: self.held(),
        }
    }
}

fn why_awaited(place: &Place, bounces: u32) -> String {
    match place {
        Place::Busy { why } if why.is_empty() => "busy".to_owned(),
        Place::Busy { why } => format!("busy: {why}"),
        Place::Ordered { .. } if bounces > 0 => {
            format!("its client was asked to move and came back here {bounces} times, which may be chance")
        }
        Place::Ordered { .. } => "its client was asked to move and has not come yet".to_owned(),
        Place::Pushing { to } => format!("being pushed to hub {to}"),
        Place::Handing { to } => format!("being handed over to hub {to}"),
        Place::Committed { to } | Place::Doubtful { to } => format!("given to hub {to}, which has not said live yet"),
        Place::Retry { why } => format!("refused, tried again: {why}"),
        Place::Stuck { why } => format!("blocked: {why}"),
        Place::Unroutable { cause: Cause::Balancer } => {
            format!("unroutable: its client came back here {bounces} times, as most do: the balancer sends them here")
        }
        Place::Unroutable { cause: Cause::PublicUrl } => {
            format!(
                "unroutable: its client came back here {bounces} times: it cannot reach the other hub's --public-url"
            )
        }
        Place::Unroutable { cause: Cause::Client } => {
            format!("unroutable: its client came back here {bounces} times, which chance does not explain")
        }
        Place::Parking => "being parked".to_owned(),
        Place::Waiting | Place::Late | Place::PushDue | Place::ParkDue | Place::Unconfirmed { .. } | Place::Forced => {
            "waits for its turn".to_owned()
        }
    }
}
