//! Watches a drain from outside and keeps an account of its own.

use crate::fleet::BEGAN;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_protocol::control::{DrainReport, DrainStatus, Phase, SessionCounts};
use tidegate_protocol::drain::{Action, Drain, Event, Facts, Plan, Room, Successor};
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::position::Millis;

/// How far the pace may catch up, in microseconds: it is part of the promise about rates.
const CATCH_UP_US: u64 = 40_000;
/// How often one session is tried while moving is suspended.
const PROBE_EVERY_MS: u64 = 5_000;

/// One session that has no outcome yet.
#[derive(Clone, Debug, Default)]
struct Guest {
    start: bool,
    connected: bool,
    fresh: bool,
    noticed_at: Option<Millis>,
    /// It was told that nobody would ask it to move before.
    promised: Option<Millis>,
    committed: bool,
    /// It was closed at the deadline, neither pushed nor parked; what becomes of it still counts.
    forced: bool,
}

pub(crate) struct Watch {
    policy_notice_ms: u64,
    max_in_flight: u64,
    settle_ms: u64,
    interval_us: u64,
    push_at: Millis,
    deadline: Millis,
    guests: BTreeMap<SessionId, Guest>,
    counts: SessionCounts,
    /// Moved with a connection, and not yet seen by the successor.
    awaited: BTreeSet<SessionId>,
    eligible: BTreeSet<HubId>,
    /// What each hub told of its room, and how many were given to it since.
    room: BTreeMap<HubId, (Option<Room>, u64)>,
    may_park: bool,
    rest: bool,
    seq: u64,
    moves: Vec<Millis>,
    /// Since when nobody of the start is here.
    empty_since: Option<Millis>,
    recalled: BTreeSet<SessionId>,
    pub(crate) report: Option<DrainReport>,
}

impl Watch {
    pub(crate) fn new(plan: &Plan, population: &[(SessionId, Facts)], peers: &[Successor]) -> Self {
        let guest = |facts: &Facts| Guest { start: true, connected: facts.connected, ..Guest::default() };
        let policy = &plan.policy;
        let mut watch = Self {
            policy_notice_ms: policy.notice_ms,
            max_in_flight: u64::from(policy.max_in_flight),
            settle_ms: policy.settle_ms,
            interval_us: plan.interval_us(),
            push_at: BEGAN.plus(policy.deadline_ms - plan.push_reserve_ms),
            deadline: BEGAN.plus(policy.deadline_ms),
            guests: population.iter().map(|(id, facts)| (*id, guest(facts))).collect(),
            counts: SessionCounts { at_start: population.len() as u64, ..SessionCounts::default() },
            awaited: BTreeSet::new(),
            eligible: BTreeSet::new(),
            room: BTreeMap::new(),
            may_park: plan.may_park,
            rest: false,
            seq: 0,
            moves: Vec::new(),
            empty_since: None,
            recalled: BTreeSet::new(),
            report: None,
        };
        watch.peers(peers);
        watch
    }

    fn peers(&mut self, peers: &[Successor]) {
        self.eligible = peers.iter().filter(|peer| peer.eligible).map(|peer| peer.hub).collect();
        for peer in peers {
            let (room, given) = self.room.entry(peer.hub).or_default();
            if room.map(|room| room.told_at) != peer.room.map(|room| room.told_at) {
                *given = 0;
            }
            *room = peer.room;
        }
    }

    /// Whether a hub has room for one more, as far as it told.
    fn has_room(&self, hub: HubId) -> bool {
        let (room, given) = self.room.get(&hub).copied().unwrap_or_default();
        room.is_none_or(|room| given < room.places)
    }

    fn is_given(&mut self, id: SessionId, to: HubId) {
        if self.guests.get(&id).is_some_and(|guest| !guest.committed) {
            self.room.entry(to).or_default().1 += 1;
        }
    }

    pub(crate) fn is_connected(&self, id: SessionId) -> bool {
        self.guests.get(&id).is_some_and(|guest| guest.connected)
    }

    fn leaves(&mut self, id: SessionId, outcome: fn(&mut SessionCounts)) -> bool {
        let Some(guest) = self.guests.remove(&id) else { return false };
        self.counts.forced -= u64::from(guest.forced);
        outcome(&mut self.counts);
        true
    }

    /// What is about to be told to the drain.
    pub(crate) fn happens(&mut self, event: &Event, now: Millis) {
        match event {
            Event::Arrived { id, facts } => {
                self.awaited.remove(id);
                if !self.guests.contains_key(id) {
                    self.counts.arrived += 1;
                    let guest = Guest { fresh: facts.fresh, ..Guest::default() };
                    self.guests.insert(*id, guest);
                }
                let guest = self.guests.get_mut(id).expect("it is here now");
                guest.connected = facts.connected;
            }
            Event::ConnectionLost { id } | Event::ConnectionBack { id } => {
                if let Some(guest) = self.guests.get_mut(id) {
                    guest.connected = matches!(event, Event::ConnectionBack { .. });
                }
            }
            Event::Ready { id } => _ = self.guests.get_mut(id).map(|guest| guest.promised = None),
            Event::Committed { id, to, .. } => {
                self.is_given(*id, *to);
                _ = self.guests.get_mut(id).map(|guest| guest.committed = true);
            }
            Event::Live { id, to, had_connection, resume } => {
                self.is_given(*id, *to);
                let moved = self.leaves(*id, |counts| counts.moved += 1);
                if moved && *had_connection && resume.is_none() {
                    self.awaited.insert(*id);
                }
            }
            Event::Resumed { id, .. } => _ = self.awaited.remove(id),
            Event::Left { id } => _ = self.leaves(*id, |counts| counts.left += 1),
            Event::Parked { id } => _ = self.leaves(*id, |counts| counts.parked += 1),
            Event::PeersChanged(peers) => self.peers(peers),
            Event::PushAndParkRest => self.rest = true,
            _ => {}
        }
        _ = now;
    }

    /// What the drain has just ordered.
    pub(crate) fn ordered(&mut self, action: &Action, before: &DrainStatus, after: &DrainStatus, now: Millis) {
        assert!(after.seq >= before.seq, "seq never falls: {action:?}");
        let in_flight = |status: &DrainStatus| status.in_flight.expect("a drain tells what is in flight");
        let began_a_move = in_flight(after) > in_flight(before);
        if began_a_move {
            assert!(in_flight(after) <= self.max_in_flight, "{action:?}: {} in flight", in_flight(after));
        }
        match action {
            Action::Notify { id, .. } => _ = self.guests.get_mut(id).map(|guest| guest.noticed_at = Some(now)),
            Action::Grant { id, slot_in_ms } => {
                if let Some(guest) = self.guests.get_mut(id) {
                    guest.promised = Some(now.plus(*slot_in_ms));
                }
            }
            Action::Move { id, to } => {
                assert!(to.is_none_or(|to| self.eligible.contains(&to)), "{action:?} to a hub that takes nobody");
                assert!(to.is_none_or(|to| self.has_room(to)), "{action:?} to a hub without room");
                self.may_go(*id, true, now);
                // While held, one session is tried every five seconds, whatever the pace of the plan.
                let is_probe = before.phase == Phase::Held && before.since_ms >= Some(PROBE_EVERY_MS);
                if began_a_move && !is_probe {
                    self.moves.push(now);
                }
            }
            Action::Push { id, to } => {
                assert!(self.eligible.contains(to), "{action:?} to a hub that takes nobody");
                assert!(self.has_room(*to), "{action:?} to a hub without room");
                self.may_go(*id, false, now);
            }
            Action::Force { id, .. } => {
                let guest = self.guests.get_mut(id).unwrap_or_else(|| panic!("{action:?} of nobody"));
                assert!(!std::mem::replace(&mut guest.forced, true), "{action:?} twice");
                self.counts.forced += 1;
            }
            Action::Recall { id } => assert!(self.recalled.insert(*id), "{id} is recalled once"),
            Action::Finish(report) => {
                assert!(self.report.is_none(), "one report per drain");
                self.report = Some((**report).clone());
            }
            Action::Park { id, .. } => {
                let due = self.may_park || self.rest || now >= self.push_at;
                assert!(due, "{id} is parked at {now:?}, before it is time, and nobody agreed");
            }
            Action::ServeAgain => {}
        }
    }

    /// Nobody is asked before his notice has aged and his grant is over, unless time is up.
    fn may_go(&self, id: SessionId, ordered: bool, now: Millis) {
        let guest = self.guests.get(&id).unwrap_or_else(|| panic!("{id} is not here any more"));
        assert!(!ordered || guest.connected, "{id} has no connection and was ordered to move");
        if now >= self.push_at || self.rest {
            return;
        }
        assert!(now >= BEGAN.plus(self.policy_notice_ms), "{id} is asked before any notice has aged");
        let aged = guest.noticed_at.is_some_and(|at| now.since(at) >= self.policy_notice_ms);
        assert!(!guest.connected || guest.fresh || aged, "{id} is asked before its notice has aged: {guest:?}");
        if ordered {
            assert!(guest.promised.is_none_or(|until| now >= until), "{id} was promised time: {guest:?} at {now:?}");
        }
    }

    /// The drain has nothing more to say at this moment.
    pub(crate) fn rests(&mut self, drain: &Drain, now: Millis) {
        let status = drain.status(now);
        assert!(status.seq >= self.seq, "seq never falls");
        self.seq = status.seq;
        let timeout = drain.poll_timeout();
        assert!(timeout.is_none_or(|at| at > now), "a timeout of {timeout:?} at {now:?} would spin: {status:?}");
        drain.check_conservation().expect("the account adds up at any moment");
        let counts = status.sessions.expect("a drain tells its account");
        let open = |counts: SessionCounts| SessionCounts { unconfirmed: 0, remaining: 0, ..counts };
        assert_eq!(open(counts), open(self.counts), "the drain's account and the one that was kept outside");
        let here = self.guests.values().filter(|guest| !guest.forced).count() as u64;
        assert_eq!(counts.unconfirmed + counts.remaining, here, "who is still here: {status:?}");
        let running = !matches!(status.phase, Phase::Drained | Phase::Serving);
        assert!(!running || now < self.deadline, "not over at its deadline: {status:?}");
        if self.guests.values().all(|guest| !guest.start || guest.forced) {
            let since = *self.empty_since.get_or_insert(now);
            assert!(!running || !self.awaited.is_empty(), "nobody is left and it is not over: {status:?}");
            assert!(!running || now < since.plus(self.settle_ms), "resumes are awaited no longer than settle");
        }
    }

    /// It is over, one way or another.
    pub(crate) fn judge_end(&self) {
        let report = self.report.as_ref().expect("a drain that is over has a report");
        assert!(BEGAN.plus(report.took_ms) <= self.deadline, "{report:?}");
        let committed = self.guests.values().filter(|guest| guest.start && guest.committed).count() as u64;
        assert!(report.sessions.counts.unconfirmed <= committed, "only who was given away is unconfirmed: {report:?}");
        self.judge_rate();
    }

    /// A leaky bucket of the plan's interval: in no second more than it lets through.
    fn judge_rate(&self) {
        if self.interval_us == 0 {
            return;
        }
        let most = (1_000_000 + CATCH_UP_US) / self.interval_us + 1;
        for (first, from) in self.moves.iter().enumerate() {
            let within = self.moves[first..].iter().take_while(|at| at.since(*from) < 1_000).count() as u64;
            assert!(within <= most, "{within} orders within a second of {from:?}, and the plan allows {most}");
        }
    }

    /// It was called off: who was told, and is still here, was told that it is void.
    pub(crate) fn judge_cancel(&self) {
        assert!(self.report.is_some(), "a drain that was called off has a report");
        for (id, guest) in &self.guests {
            let told = guest.connected && guest.noticed_at.is_some() && !guest.committed;
            assert!(
                !told || self.recalled.contains(id),
                "{id} was told of a drain and never that it is void: {guest:?}"
            );
        }
    }
}
