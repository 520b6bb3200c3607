//! The claimant: a hub that a client came to with a token for a session that lives elsewhere.
//! It finds the owner, asks for the session, and ends in exactly one answer to the client.
//!
//! ```text
//!   Locating ── an owner answered ──► Claiming ── snapshot ──► Done (the session machine holds the copy)
//!      │  ▲                              │
//!      │  └─── not the owner any more ───┘ (at most 4 hops)
//!      │
//!      ├── one said parked, its hub is away ► Done: retry         (it is safe, and waits for its disk)
//!      ├── all said unknown ───────────────► Done: reset          (knowledge only, rule 13)
//!      ├── somebody silent ────────────────► Done: retry          (or reset, once orphaned: rule 14)
//!      └── refused for good ───────────────► Done: close
//! ```
//! Like the session machine it holds no time: `on_silence` comes after [`LOCATE_MS`], `on_limit` after [`CLAIM_MS`].

use crate::close::Close;
use crate::id::{ConnectionId, HubId, SessionId};
use crate::peer::{ClaimId, Knowledge, PeerMessage, Refusal, SNAPSHOT_VERSIONS};
use crate::position::Generation;
use crate::replay::Payload;
use crate::session::record::{HelloFacts, Record, Verdict};
use crate::session::{RETRY_MOVING_MS, RETRY_PARKED_MS};
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
    /// What it is said to be owned under there.
    generation: Generation,
    /// Whether the hub that it led to turned out to have lost the session.
    lost: bool,
}

impl Trail {
    /// Whether a tombstone of `at` leads back to where this trail came from, under the same generation.
    fn is_circle(&self, at: HubId, back: HubId, generation: Generation) -> bool {
        (self.to, self.from, self.generation) == (at, back, generation)
    }
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
            self.owner_is_lost(out);
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
            if self.orphaned {
                self.owner_is_lost(out);
            } else {
                self.retry(RETRY_SILENT_MS, "peer_silent", out);
            }
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
    /// session. Then whoever gave it away is asked for what it still holds. The same goes for a tombstone
    /// that points back under the very generation: it stands where a copy was dropped that never went live.
    fn follow<M: Payload>(&mut self, hub: HubId, knowledge: Knowledge, answers: Answers, out: &mut Vec<Step<M>>) {
        match knowledge {
            Knowledge::MovedTo(next, _) if self.trail.is_some_and(|trail| trail.lost && trail.to == next) => {
                self.search = Search::Done;
                out.push(Step::Reset { why: "owner_lost", record: None });
            }
            Knowledge::Unknown if self.trail.is_some_and(|trail| trail.to == hub) => {
                let from = self.trail.map_or(hub, |trail| trail.from);
                self.trail = self.trail.map(|trail| Trail { lost: true, ..trail });
                self.claim_at(from, answers, out);
            }
            Knowledge::MovedTo(back, generation)
                if self.trail.is_some_and(|trail| trail.is_circle(hub, back, generation)) =>
            {
                // Either may be the one that gave it away and still holds the data: both are asked for it.
                let lost = self.trail.is_some_and(|trail| trail.lost);
                let from = hub;
                self.trail = Some(Trail { from, to: if lost { hub } else { back }, generation, lost: true });
                self.claim_at(back, answers, out);
            }
            Knowledge::MovedTo(next, generation) => {
                self.trail = Some(Trail { from: hub, to: next, generation, lost: false });
                self.claim_at(next, answers, out);
            }
            Knowledge::Unknown
            | Knowledge::Copy(_)
            | Knowledge::Owner(_)
            | Knowledge::Ended(_)
            | Knowledge::Parked(_) => {
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

    fn owner_is_lost<M>(&mut self, out: &mut Vec<Step<M>>) {
        self.search = Search::Done;
        out.push(Step::Reset { why: "owner_lost", record: None });
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
            Knowledge::Unknown
            | Knowledge::Copy(_)
            | Knowledge::MovedTo(..)
            | Knowledge::Ended(_)
            | Knowledge::Parked(_) => None,
        });
        if owner.is_none() && (all_in || silence) && is_parked(answers) {
            // However long its client has waited: it is safe, and nobody else may begin it anew.
            return self.retry(RETRY_PARKED_MS, "parked", out);
        }
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
            self.owner_is_lost(out);
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
                versions: SNAPSHOT_VERSIONS.to_vec(),
                orphaned: self.orphaned || self.trail.is_some_and(|trail| trail.lost),
            },
        ));
    }
}

/// Whether the session is known to lie on the disk of a hub that is away. One that answers speaks for itself, whatever
/// was said of it before; and an end is an end.
fn is_parked(answers: &Answers) -> bool {
    let away = |hub: HubId| answers.get(&hub).copied().flatten().is_none();
    let ended = answers.values().any(|answer| matches!(answer, Some(Knowledge::Ended(_))));
    !ended && answers.values().any(|answer| matches!(answer, Some(Knowledge::Parked(hub)) if away(*hub)))
}

/// Without an owner's answer: whoever holds data, or a trail. `Ended` is knowledge that nothing is left.
fn trail(answers: &Answers) -> Option<HubId> {
    let ended = best(answers, |knowledge| match knowledge {
        Knowledge::Ended(generation) => Some(generation),
        Knowledge::Unknown
        | Knowledge::Copy(_)
        | Knowledge::MovedTo(..)
        | Knowledge::Owner(_)
        | Knowledge::Parked(_) => None,
    });
    if ended.is_some() {
        return None;
    }
    best(answers, |knowledge| match knowledge {
        Knowledge::Copy(generation) | Knowledge::MovedTo(_, generation) => Some(generation),
        Knowledge::Unknown | Knowledge::Owner(_) | Knowledge::Ended(_) | Knowledge::Parked(_) => None,
    })
}

/// The hub with the highest generation among those that `pick` likes.
fn best(answers: &Answers, pick: impl Fn(Knowledge) -> Option<Generation>) -> Option<HubId> {
    answers.iter().filter_map(|(hub, answer)| Some((pick((*answer)?)?, *hub))).max().map(|(_, hub)| hub)
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
