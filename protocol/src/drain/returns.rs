//! Where clients come back to that were ordered to move, and what may be concluded from it (rule 15).
//!
//! Behind a balancer that knows nothing of sessions, a client may land on this hub again by chance, and again. Each try
//! costs it nothing, for its old connection works. So nobody is taken to be stuck before chance cannot explain it:
//! with `p` the share of all returns that came back here, `k` returns of one client are beyond chance when
//! `p^k < 1 / (1000 · clients)`: of a thousand drains of this size one may wrong one client.

use super::Drain;
use super::event::Action;
use super::roster::Place;
use crate::control::{Returns, UnroutableBy};
use crate::id::{HubId, SessionId};
use crate::position::Millis;
use crate::session::RETRY_BOUNCE_MS;

/// From so many returns on the share is measured; before, it is taken to be one in as many hubs as there are.
const MEASURED_FROM: u64 = 20;
/// A share is not taken to be higher than this many tenths. Where it was measured, the balancer sends everybody here:
/// by an address or a cookie, or because this hub has the fewest connections.
const SHARE_MAX_TENTHS: u64 = 8;
/// There, whoever came back so often is not waited for any longer.
const BALANCER_BOUNCES: u32 = 3;
/// Of so many drains, one may take one client for stuck that was not.
const DRAINS_PER_MISTAKE: u64 = 1_000;
/// So many times within the settle, and not more seldom, a client tries again.
const TRIES_PER_SETTLE: u64 = 40;

/// What keeps a client here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// The balancer brings most of all clients back here.
    Balancer,
    /// Others get through, this one does not.
    Client,
    /// It was sent to a hub by name and cannot reach it.
    PublicUrl,
}

impl Returns {
    const fn total(&self) -> u64 {
        self.here + self.elsewhere
    }

    const fn is_measured(&self) -> bool {
        self.total() >= MEASURED_FROM
    }

    const fn all_come_here(&self) -> bool {
        self.is_measured() && self.here * 10 >= self.total() * SHARE_MAX_TENTHS
    }

    /// The chance of one more return to come back here.
    fn share(&self, hubs: u64) -> f64 {
        let least = 1.0 / hubs.max(2) as f64;
        let measured = if self.is_measured() { self.here as f64 / self.total() as f64 } else { least };
        measured.clamp(least, SHARE_MAX_TENTHS as f64 / 10.0)
    }

    /// What a client that came back here so often is taken to be kept by; none while it may be chance.
    pub(super) fn finding(&self, times: u32, hubs: u64, clients: u64) -> Option<Cause> {
        if self.all_come_here() && times >= BALANCER_BOUNCES {
            return Some(Cause::Balancer);
        }
        let times = i32::try_from(times).unwrap_or(i32::MAX);
        let expected = self.share(hubs).powi(times) * (clients.max(1) * DRAINS_PER_MISTAKE) as f64;
        (expected < 1.0).then_some(Cause::Client)
    }
}

impl Drain {
    /// What a client of this session is told that was ordered to move and comes here: to try again after so many
    /// milliseconds. None: it is taken in, for it stays here, or nobody wants it elsewhere.
    pub fn sends_away(&self, id: SessionId) -> Option<u64> {
        let seat = self.roster.get(id)?;
        let away = match seat.place {
            Place::Ordered { .. }
            | Place::Late
            | Place::PushDue
            | Place::Pushing { .. }
            | Place::Handing { .. }
            | Place::Committed { .. }
            | Place::Doubtful { .. } => true,
            // Where every hub has refused it, going from one to the other is no use.
            Place::Retry { .. } => seat.refusals == 0,
            Place::Waiting
            | Place::Busy { .. }
            | Place::Stuck { .. }
            | Place::Unroutable { .. }
            | Place::ParkDue
            | Place::Parking
            | Place::Unconfirmed { .. }
            | Place::Forced => false,
        };
        away.then(|| self.retry_ms())
    }

    /// How long a client is told to wait that should come to another hub.
    pub fn retry_ms(&self) -> u64 {
        RETRY_BOUNCE_MS.min(self.plan.policy.settle_ms / TRIES_PER_SETTLE).max(1)
    }

    /// A client that was ordered to move has come to another hub. By name it would say nothing of the balancer.
    pub(super) fn came_elsewhere(&mut self, id: SessionId) {
        let by_balancer = self.roster.get(id).is_some_and(|seat| !seat.named);
        self.returns.elsewhere += u64::from(by_balancer);
    }

    /// A client came back here although it was ordered elsewhere.
    pub(super) fn bounced(&mut self, id: SessionId, now: Millis) {
        let patience = now.plus(self.patience_ms());
        let Some(seat) = self.roster.seat_mut(id) else { return };
        let ordered = match seat.place {
            Place::Ordered { .. } => true,
            Place::Late | Place::Retry { .. } | Place::PushDue => false,
            _ => return,
        };
        seat.bounces = seat.bounces.saturating_add(1);
        self.returns.here += u64::from(!seat.named);
        self.ledger.turned_back += u64::from(seat.named);
        if let Some(cause) = self.finding(id, now) {
            self.unroutable(id, cause, now);
        } else if ordered {
            // It does what it was told, so it is not a straggler.
            self.roster.wake_later(id, patience);
        }
    }

    /// Why this client's returns are no chance; never before half of the settle is over since it was ordered first.
    pub(super) fn finding(&self, id: SessionId, now: Millis) -> Option<Cause> {
        let asked_at = self.roster.get(id)?.asked_at?;
        let long_enough = now.since(asked_at) * 2 >= self.plan.policy.settle_ms;
        self.finding_so_far(id).filter(|_| long_enough)
    }

    /// The same when time is up.
    pub(super) fn finding_so_far(&self, id: SessionId) -> Option<Cause> {
        let seat = self.roster.get(id)?;
        let clients = self.plan.order.len() as u64 + self.ledger.arrived;
        let hubs = self.peers.eligible() + 1;
        if seat.named {
            // Its own URL, which it tried when the name failed, may lead to this hub alone.
            return Returns::default().finding(seat.bounces, hubs, clients).map(|_| Cause::PublicUrl);
        }
        self.returns.finding(seat.bounces, hubs, clients)
    }

    /// It stays. After the end it is tried again with the others ([`super::HAND_ON_EVERY_MS`]).
    pub(super) fn unroutable(&mut self, id: SessionId, cause: Cause, now: Millis) {
        self.roster.put(id, Place::Unroutable { cause }, None, now);
        if cause != Cause::PublicUrl {
            // That clients cannot reach a successor is what a gate is there to find out; this is another's fault.
            self.stage_answered(id);
            self.canary_answered(now);
        }
    }

    /// It may have another try: what it did before is no evidence for what comes.
    pub(super) fn forget_returns(&mut self, id: SessionId) {
        if let Some(seat) = self.roster.seat_mut(id) {
            seat.bounces = 0;
            seat.asked_at = None;
        }
    }

    /// It was ordered over a connection that is gone, and its client came back here: the order
    /// stands, and the new connection has not seen it.
    pub(super) fn order_new_connection(&mut self, id: SessionId, to: Option<HubId>, now: Millis) {
        let patience = now.plus(self.patience_ms());
        self.roster.put(id, Place::Ordered { to }, Some(patience), now);
        self.outbox.push_back(Action::Move { id, to });
    }

    /// Who stays, by cause.
    pub(super) fn unroutable_by(&self) -> UnroutableBy {
        let tally = self.roster.tally();
        let (balancer, public_url) = (tally.kept_by_balancer, tally.kept_by_name);
        UnroutableBy { balancer, client: tally.unroutable - balancer - public_url, public_url }
    }

    /// What was found about those who stay, and what would help, in a sentence; none if nobody does.
    pub(super) fn why_unroutable(&self) -> Option<String> {
        let by = self.unroutable_by();
        let Returns { here, elsewhere } = self.returns;
        let total = here + elsewhere;
        let stays = |n: u64| if n == 1 { "1 session stays".to_owned() } else { format!("{n} sessions stay") };
        let balancer = format!(
            "{}: the balancer brought {here} of {total} returning clients back to this hub; it has to stop sending new \
             connections here while this hub drains (deploy/README.md says how)",
            stays(by.balancer)
        );
        let client = format!(
            "{}: {here} of {total} returns came here, and these clients came back more often than chance explains: \
             something keeps them here, such as stickiness by address or cookie",
            stays(by.client)
        );
        let url = format!(
            "{}: these clients were sent to another hub by its --public-url and came back here: they cannot reach it",
            stays(by.public_url)
        );
        let found = [(by.balancer, balancer), (by.client, client), (by.public_url, url)];
        let said = found.into_iter().filter(|(n, _)| *n > 0).map(|(_, sentence)| sentence);
        said.reduce(|one, other| format!("{one}; {other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn returns(here: u64, elsewhere: u64) -> Returns {
        Returns { here, elsewhere }
    }

    /// The first number of returns that is taken for more than chance.
    fn first(returns: Returns, hubs: u64, clients: u64) -> (u32, Cause) {
        let found = (0..200).find_map(|times| Some((times, returns.finding(times, hubs, clients)?)));
        found.expect("two hundred times are no chance")
    }

    #[test]
    fn how_often_is_beyond_chance_follows_the_number_of_hubs_and_of_clients() {
        assert_eq!(first(returns(0, 0), 2, 100), (17, Cause::Client), "1/2^17 < 1/100,000");
        assert_eq!(first(returns(0, 0), 2, 100_000), (27, Cause::Client));
        assert_eq!(first(returns(0, 0), 2, 1), (10, Cause::Client));
        assert_eq!(first(returns(0, 0), 5, 100), (8, Cause::Client), "1/5^8 < 1/100,000");
    }

    #[test]
    fn the_share_is_measured_from_twenty_returns_on_and_stays_between_one_hub_of_all_and_four_fifths() {
        assert_eq!(first(returns(19, 0), 2, 100).0, 17, "nineteen are no measure");
        assert_eq!(first(returns(70, 30), 2, 100), (33, Cause::Client), "0.7^33 < 1/100,000");
        assert_eq!(first(returns(1, 99), 2, 100).0, 17, "never below one in two");
        assert_eq!(first(returns(799, 201), 2, 100), (52, Cause::Client), "0.799^52 < 1/100,000");
    }

    #[test]
    fn where_four_fifths_come_here_the_balancer_is_the_cause_and_three_times_are_enough() {
        assert_eq!(first(returns(16, 4), 2, 100), (3, Cause::Balancer));
        assert_eq!(first(returns(16, 3), 2, 100).1, Cause::Client, "of nineteen nothing is measured");
        assert_eq!(first(returns(2_000, 1), 8, 1_000_000), (3, Cause::Balancer));
        assert_eq!(first(returns(79, 21), 2, 100).1, Cause::Client);
    }

    #[test]
    fn a_client_that_comes_back_for_ever_is_found_whatever_was_measured() {
        for (here, hubs, clients) in [(0, 2, u64::MAX / 2_000), (15, 1, 0), (u64::MAX / 100, 1_000, 1)] {
            assert!(returns(here, 4).finding(u32::MAX, hubs, clients).is_some(), "{here} {hubs} {clients}");
        }
    }
}
