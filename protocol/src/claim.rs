//! The claimant: a hub that a client came to with a token for a session that lives elsewhere.
//! It finds the owner, asks for the session, and ends in exactly one answer to the client.
//!
//! ```text
//!   Locating ── an owner answered ──► Claiming ── snapshot ──► Done (the session machine holds the copy)
//!      │  ▲                              │
//!      │  └─── not the owner any more ───┘ (at most 4 hops)
//!      │
//!      ├── all said unknown ───────────────► Done: reset          (knowledge only, rule 13)
//!      ├── somebody silent ────────────────► Done: retry          (or reset, once orphaned: rule 14)
//!      └── refused for good ───────────────► Done: close
//! ```
//! Like the session machine it holds no time: `on_silence` comes after [`LOCATE_MS`], `on_limit` after [`CLAIM_MS`].

use crate::close::Close;
use crate::id::{ConnectionId, HubId, SessionId};
use crate::peer::{ClaimId, Knowledge, PeerMessage, Refusal, SNAPSHOT_VERSION};
use crate::position::Generation;
use crate::replay::Payload;
use crate::session::RETRY_MOVING_MS;
use crate::session::record::{HelloFacts, Record, Verdict};
use std::collections::BTreeMap;

/// How long hubs have to answer `locate`, in milliseconds.
pub const LOCATE_MS: u64 = 500;
/// How long a claim may take in all, in milliseconds: an app may take a second to settle first.
pub const CLAIM_MS: u64 = 5_000;
/// How often a claim follows the trail to another hub.
pub const HOPS_MAX: u8 = 4;
/// What a client is told to wait when a hub is silent, in milliseconds.
pub const RETRY_SILENT_MS: u64 = 1_000;

/// What each hub said; `None`: no answer yet.
type Answers = BTreeMap<HubId, Option<Knowledge>>;

/// A tombstone that led on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Trail {
    from: HubId,
    to: HubId,
    /// Whether the hub that it led to turned out to have lost the session.
    lost: bool,
}

/// Where a claim is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Search {
    /// Everyone was asked; `None`: no answer yet.
    Locating(Answers),
    /// The owner was asked; the answers so far are kept for the next hop.
    Claiming(HubId, Answers),
    /// Answered.
    Done,
}

/// One client's wish to go on at this hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    session: SessionId,
    claim: ClaimId,
    conn: ConnectionId,
    hello: HelloFacts,
    orphaned: bool,
    hops: u8,
    trail: Option<Trail>,
    search: Search,
}

/// What the driver does for a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<M> {
    /// Tell a peer.
    Say(HubId, PeerMessage<M>),
    /// Answer the client with `retry`; the claim is over.
    Retry {
        /// When to come back, in milliseconds.
        after_ms: u64,
        /// A word of README section 3.
        why: &'static str,
    },
    /// Close the client's connection for good; the claim is over.
    Refuse(Close, &'static str),
    /// Start a new session for the client and tell every hub; the claim is over. Without a record
    /// nothing is left of the old session.
    Reset {
        /// A word of README section 3.
        why: &'static str,
        /// User, channels and state.
        record: Option<Box<Record<M>>>,
    },
}

impl Claim {
    /// Asks the hub that the token names and all known peers at once. `orphaned`: the client has
    /// waited `orphan_after_ms` and says that its connection is gone.
    pub fn begin<M: Payload>(
        session: SessionId,
        claim: ClaimId,
        conn: ConnectionId,
        hello: HelloFacts,
        orphaned: bool,
        hubs: impl IntoIterator<Item = HubId>,
        out: &mut Vec<Step<M>>,
    ) -> Self {
        let asked: Answers = hubs.into_iter().map(|hub| (hub, None)).collect();
        out.extend(asked.keys().map(|hub| Step::Say(*hub, PeerMessage::Locate { session, claim })));
        let mut begun =
            Self { session, claim, conn, hello, orphaned, hops: 0, trail: None, search: Search::Locating(asked) };
        begun.decide(false, out);
        begun
    }

    /// The connection that waits for the answer.
    pub fn connection(&self) -> ConnectionId {
        self.conn
    }

    /// Its name in messages to peers.
    pub fn id(&self) -> ClaimId {
        self.claim
    }

    /// The hubs that have not answered yet.
    pub fn silent(&self) -> impl Iterator<Item = HubId> {
        let answers = match &self.search {
            Search::Locating(answers) | Search::Claiming(_, answers) => Some(answers),
            Search::Done => None,
        };
        answers.into_iter().flatten().filter(|(_, answer)| answer.is_none()).map(|(hub, _)| *hub)
    }

    /// What its client said.
    pub fn hello(&self) -> HelloFacts {
        self.hello
    }

    /// The session that it wants.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether the client has its answer (or the session machine will give it).
    pub fn is_done(&self) -> bool {
        matches!(self.search, Search::Done)
    }

    /// A peer's answer to `locate`.
    pub fn on_located<M: Payload>(&mut self, hub: HubId, knowledge: Knowledge, out: &mut Vec<Step<M>>) {
        if let Search::Locating(answers) | Search::Claiming(_, answers) = &mut self.search {
            answers.insert(hub, Some(knowledge));
        }
        self.decide(false, out);
    }

    /// A peer is forgotten, or back under a new incarnation. What the others said may be from before
    /// they heard of it, and a new run may have taken the session up from its disk: ask everybody afresh.
    pub fn on_gone<M: Payload>(&mut self, _hub: HubId, out: &mut Vec<Step<M>>) {
        if !self.is_done() {
            self.retry(RETRY_MOVING_MS, "locating", out);
        }
    }

    /// [`LOCATE_MS`] have passed: who has not answered is silent.
    pub fn on_silence<M: Payload>(&mut self, out: &mut Vec<Step<M>>) {
        self.decide(true, out);
    }

    /// [`CLAIM_MS`] have passed. A trail that leads to a hub that never says a word must end somewhere,
    /// too (rule 14): a silent hub is no other here than while locating.
    pub fn on_limit<M: Payload>(&mut self, out: &mut Vec<Step<M>>) {
        let unheard = match &self.search {
            Search::Locating(_) => false,
            Search::Claiming(at, answers) => answers.get(at).copied().flatten().is_none(),
            Search::Done => return,
        };
        if unheard && self.orphaned {
            self.search = Search::Done;
            out.push(Step::Reset { why: "owner_lost", record: None });
        } else {
            self.retry(RETRY_MOVING_MS, "locating", out);
        }
    }

    /// The hub that is claimed at is known to be silent, and has had the time of a `locate` to answer all the same.
    /// A claim that has gone on to another hub meanwhile, or was answered by this one, is not concerned.
    pub fn on_peer_silence<M: Payload>(&mut self, hub: HubId, out: &mut Vec<Step<M>>) {
        if let Search::Claiming(at, answers) = &self.search
            && *at == hub
            && answers.get(at).copied().flatten().is_none()
        {
            self.on_limit(out);
        }
    }

    /// The owner will not give it.
    pub fn on_refused<M: Payload>(&mut self, hub: HubId, why: Refusal, out: &mut Vec<Step<M>>) {
        let Search::Claiming(at, answers) = &mut self.search else { return };
        if *at != hub {
            return;
        }
        match why {
            Refusal::Judged(Verdict::TokenReuse) => {
                self.refuse(Close::TokenReuse, "a later token or a higher try was used already", out)
            }
            Refusal::Judged(Verdict::Impossible) => {
                self.refuse(Close::ProtocolError, "hello claims another epoch, or messages that were never sent", out);
            }
            Refusal::Busy => self.retry(RETRY_MOVING_MS, "moving", out),
            Refusal::Version => self.retry(RETRY_SILENT_MS, "other_hub", out),
            Refusal::NotOwner(knowledge) => {
                let mut answers = std::mem::take(answers);
                answers.insert(hub, Some(knowledge));
                self.follow(hub, knowledge, answers, out);
            }
        }
    }

    /// The trail leads on. An `unknown` from a hub that was claimed at, because a trail led there, is
    /// fresh, unlike its answer to `locate`, which may be older than the trail: it has lost the
    /// session. Then whoever gave it away is asked for what it still holds.
    fn follow<M: Payload>(&mut self, hub: HubId, knowledge: Knowledge, answers: Answers, out: &mut Vec<Step<M>>) {
        match knowledge {
            Knowledge::MovedTo(next, _) if self.trail.is_some_and(|trail| trail.lost && trail.to == next) => {
                self.search = Search::Done;
                out.push(Step::Reset { why: "owner_lost", record: None });
            }
            Knowledge::MovedTo(next, _) => {
                self.trail = Some(Trail { from: hub, to: next, lost: false });
                self.claim_at(next, answers, out);
            }
            Knowledge::Unknown if self.trail.is_some_and(|trail| trail.to == hub) => {
                let from = self.trail.map_or(hub, |trail| trail.from);
                self.trail = Some(Trail { from, to: hub, lost: true });
                self.claim_at(from, answers, out);
            }
            Knowledge::Unknown | Knowledge::Copy(_) | Knowledge::Owner(_) | Knowledge::Ended(_) => {
                self.search = Search::Locating(answers);
                self.decide(false, out);
            }
        }
    }

    /// The holder of an orphaned copy gave what is left.
    pub fn on_reset_from<M: Payload>(&mut self, record: Box<Record<M>>, out: &mut Vec<Step<M>>) {
        // Its holder believes that the session is lost; a hub that is silent may know better.
        let knowledge = self.orphaned || self.trail.is_some_and(|trail| trail.lost) || self.silent().next().is_none();
        if self.is_done() {
            return;
        }
        if knowledge {
            self.search = Search::Done;
            out.push(Step::Reset { why: "owner_lost", record: Some(record) });
        } else {
            self.retry(RETRY_SILENT_MS, "peer_silent", out);
        }
    }

    /// The snapshot is here. True: give it to the session machine with this connection. False: the
    /// claim is over, so say `abort`.
    pub fn on_snapshot(&mut self) -> bool {
        !matches!(std::mem::replace(&mut self.search, Search::Done), Search::Done)
    }

    fn refuse<M>(&mut self, close: Close, why: &'static str, out: &mut Vec<Step<M>>) {
        self.search = Search::Done;
        out.push(Step::Refuse(close, why));
    }

    fn retry<M>(&mut self, after_ms: u64, why: &'static str, out: &mut Vec<Step<M>>) {
        self.search = Search::Done;
        out.push(Step::Retry { after_ms, why });
    }

    /// Goes to an owner as soon as one answers (there is at most one); else waits for everybody.
    fn decide<M: Payload>(&mut self, silence: bool, out: &mut Vec<Step<M>>) {
        let Search::Locating(answers) = &mut self.search else { return };
        let all_in = answers.values().all(Option::is_some);
        let owner = best(answers, |knowledge| match knowledge {
            Knowledge::Owner(generation) => Some(generation),
            Knowledge::Unknown | Knowledge::Copy(_) | Knowledge::MovedTo(..) | Knowledge::Ended(_) => None,
        });
        let target = owner.or_else(|| if all_in || silence { trail(answers) } else { None });
        if let Some(hub) = target {
            let answers = std::mem::take(answers);
            return self.claim_at(hub, answers, out);
        }
        if !all_in && !silence {
            return;
        }
        if all_in {
            self.search = Search::Done;
            out.push(Step::Reset { why: "unknown", record: None });
        } else if self.orphaned {
            self.search = Search::Done;
            out.push(Step::Reset { why: "owner_lost", record: None });
        } else {
            self.retry(RETRY_SILENT_MS, "peer_silent", out);
        }
    }

    fn claim_at<M: Payload>(&mut self, hub: HubId, answers: Answers, out: &mut Vec<Step<M>>) {
        if self.hops >= HOPS_MAX {
            self.retry(RETRY_SILENT_MS, "locating", out);
            return;
        }
        self.hops += 1;
        self.search = Search::Claiming(hub, answers);
        out.push(Step::Say(
            hub,
            PeerMessage::Claim {
                session: self.session,
                claim: self.claim,
                hello: self.hello,
                versions: vec![SNAPSHOT_VERSION],
                orphaned: self.orphaned || self.trail.is_some_and(|trail| trail.lost),
            },
        ));
    }
}

/// Without an owner's answer: whoever holds data, or a trail. `Ended` is knowledge that nothing is left.
fn trail(answers: &Answers) -> Option<HubId> {
    let ended = best(answers, |knowledge| match knowledge {
        Knowledge::Ended(generation) => Some(generation),
        Knowledge::Unknown | Knowledge::Copy(_) | Knowledge::MovedTo(..) | Knowledge::Owner(_) => None,
    });
    if ended.is_some() {
        return None;
    }
    best(answers, |knowledge| match knowledge {
        Knowledge::Copy(generation) | Knowledge::MovedTo(_, generation) => Some(generation),
        Knowledge::Unknown | Knowledge::Owner(_) | Knowledge::Ended(_) => None,
    })
}

/// The hub with the highest generation among those that `pick` likes.
fn best(answers: &Answers, pick: impl Fn(Knowledge) -> Option<Generation>) -> Option<HubId> {
    answers.iter().filter_map(|(hub, answer)| Some((pick((*answer)?)?, *hub))).max().map(|(_, hub)| hub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Old;
    use crate::position::Offset;

    const A: HubId = HubId(0xa);
    const B: HubId = HubId(0xb);
    const HELLO: HelloFacts = HelloFacts { serial: 1, attempt: 1, old: Old::Lost, received: Offset(0), epoch: None };

    fn begin(orphaned: bool) -> Claim {
        Claim::begin::<u8>(SessionId(1), ClaimId(1), ConnectionId(1), HELLO, orphaned, [A, B], &mut Vec::new())
    }

    #[test]
    fn an_owner_is_claimed_as_soon_as_it_answers() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(B, Knowledge::Owner(Generation(2)), &mut out);
        assert!(matches!(out[..], [Step::Say(B, PeerMessage::Claim { .. })]), "{out:?}");
        assert!(claim.on_snapshot(), "the claim waits for the snapshot");
        assert!(!claim.on_snapshot(), "and takes it once");
    }

    #[test]
    fn a_reset_comes_only_when_every_known_hub_said_unknown() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::Unknown, &mut out);
        assert_eq!(out, [], "B has not answered yet");
        claim.on_located(B, Knowledge::Unknown, &mut out);
        assert_eq!(out, [Step::Reset { why: "unknown", record: None }]);
    }

    #[test]
    fn one_silent_hub_means_retry_and_not_reset() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::Unknown, &mut out);
        claim.on_silence(&mut out);
        assert_eq!(out, [Step::Retry { after_ms: RETRY_SILENT_MS, why: "peer_silent" }]);
    }

    #[test]
    fn waiting_for_a_silent_hub_ends_in_a_reset_once_the_client_is_orphaned() {
        let (mut claim, mut out) = (begin(true), Vec::<Step<u8>>::new());
        claim.on_silence(&mut out);
        assert_eq!(out, [Step::Reset { why: "owner_lost", record: None }]);
    }

    fn moved(to: HubId) -> Refusal {
        Refusal::NotOwner(Knowledge::MovedTo(to, Generation(2)))
    }

    #[test]
    fn an_unknown_from_before_the_trail_was_known_is_not_believed() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(B, Knowledge::Unknown, &mut out);
        claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
        claim.on_refused(A, moved(B), &mut out);
        claim.on_located(B, Knowledge::Unknown, &mut out);
        assert!(
            matches!(out[..], [Step::Say(A, PeerMessage::Claim { .. }), Step::Say(B, PeerMessage::Claim { .. })]),
            "B may have it by now: {out:?}"
        );
    }

    #[test]
    fn a_successor_that_lost_it_leads_back_to_what_its_predecessor_still_holds_and_then_to_a_reset() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
        claim.on_located(B, Knowledge::Unknown, &mut out);
        claim.on_refused(A, moved(B), &mut out);
        out.clear();
        claim.on_refused(B, Refusal::NotOwner(Knowledge::Unknown), &mut out);
        assert!(matches!(out[..], [Step::Say(A, PeerMessage::Claim { orphaned: true, .. })]), "{out:?}");
        claim.on_refused(A, moved(B), &mut out);
        assert_eq!(out.last(), Some(&Step::Reset { why: "owner_lost", record: None }), "A has nothing left");
    }

    #[test]
    fn a_trail_to_a_hub_that_stays_silent_ends_in_a_reset_once_the_client_is_orphaned() {
        for (orphaned, resets) in [(false, false), (true, true)] {
            let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
            claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
            claim.on_silence(&mut out);
            claim.on_refused(A, moved(B), &mut out);
            assert!(matches!(out.last(), Some(Step::Say(B, PeerMessage::Claim { .. }))), "{out:?}");
            claim.on_limit(&mut out);
            assert_eq!(matches!(out.last(), Some(Step::Reset { why: "owner_lost", .. })), resets, "{out:?}");
        }
    }

    #[test]
    fn a_trail_to_a_hub_that_is_known_to_be_silent_is_given_up_as_soon_as_a_silent_hub_while_locating() {
        for (orphaned, resets) in [(false, false), (true, true)] {
            let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
            claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
            claim.on_silence(&mut out);
            claim.on_peer_silence(A, &mut out);
            assert!(!claim.is_done(), "A has answered");
            claim.on_refused(A, moved(B), &mut out);
            claim.on_peer_silence(A, &mut out);
            assert!(!claim.is_done(), "the claim is at B now");
            claim.on_peer_silence(B, &mut out);
            assert_eq!(matches!(out.last(), Some(Step::Reset { why: "owner_lost", .. })), resets, "{out:?}");
            assert!(claim.is_done(), "{out:?}");
        }
    }

    #[test]
    fn a_hub_that_answered_and_is_slow_to_give_is_no_reason_for_a_reset() {
        let (mut claim, mut out) = (begin(true), Vec::<Step<u8>>::new());
        claim.on_located(B, Knowledge::Owner(Generation(2)), &mut out);
        claim.on_limit(&mut out);
        assert!(matches!(out.last(), Some(Step::Retry { .. })), "{out:?}");
    }

    #[test]
    fn kept_data_resets_a_client_only_when_no_hub_is_silent_or_the_client_has_waited() {
        let record = || Box::new(Record::<u8>::new(crate::position::Epoch(1), Default::default()));
        for (orphaned, resets) in [(false, false), (true, true)] {
            let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
            claim.on_located(A, Knowledge::Copy(Generation(2)), &mut out);
            claim.on_silence(&mut out);
            claim.on_reset_from(record(), &mut out);
            assert_eq!(matches!(out.last(), Some(Step::Reset { .. })), resets, "B is silent and may have it: {out:?}");
        }
    }

    #[test]
    fn a_hub_that_comes_back_makes_all_answers_stale() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::Unknown, &mut out);
        claim.on_gone(B, &mut out);
        assert!(matches!(out[..], [Step::Retry { .. }]), "its new run may have taken the session up: {out:?}");
    }

    #[test]
    fn a_trail_is_followed_to_the_hub_with_the_highest_generation() {
        let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
        claim.on_located(B, Knowledge::Copy(Generation(3)), &mut out);
        assert!(matches!(out[..], [Step::Say(B, PeerMessage::Claim { .. })]), "{out:?}");
    }
}
