//! Two machines wired together, rule by rule (`handover.md`). Each test reads as one of its sentences.

mod bulks;
mod claims;
mod connections;
mod kept;
mod moves;
mod parking;
mod resets;

use super::bulk::{BULK_MIN_BYTES, Shelf, Shelved};
use super::record::{HelloFacts, Profile, Record, Verdict};
use super::*;
use crate::close::Close;
use crate::frame::Old;
use crate::peer::{Refusal, SNAPSHOT_VERSION};
use crate::position::Epoch;
use crate::replay::ReplayLimits;
use std::collections::{BTreeMap, VecDeque};

const A: HubId = HubId(0xa);
const B: HubId = HubId(0xb);
const S: SessionId = SessionId(5);
/// The connection with which every test begins, at A.
const OLD: ConnectionId = ConnectionId(1);
const NEW: ConnectionId = ConnectionId(2);
const LATER: ConnectionId = ConnectionId(3);
const CLAIM: ClaimId = ClaimId(1);
const LIMITS: ReplayLimits = ReplayLimits { messages_max: 8, bytes_max: 64 };

fn hello(serial: u32, attempt: u32, received: u64) -> HelloFacts {
    HelloFacts { serial, attempt, old: Old::Lost, received: Offset(received), epoch: Some(Epoch(1)) }
}

fn handover(generation: u32) -> Handover {
    Handover { from: A, to: B, generation: Generation(generation) }
}

/// Hubs A and B and the messages between them. Every action that a hub takes is kept in `done`.
struct Pair {
    a: Session<u8>,
    b: Session<u8>,
    net: VecDeque<(HubId, HubId, PeerMessage<u8>)>,
    shelves: BTreeMap<HubId, Shelf<u8>>,
    done: Vec<(HubId, Action<u8>)>,
}

impl Pair {
    /// A serves a session whose client is on `OLD`; B knows nothing of it.
    fn new() -> Self {
        let mut out = Vec::new();
        let a = Session::begin(S, A, Record::new(Epoch(1), Profile::default()), OLD, 1, &mut out);
        assert!(
            matches!(out[..], [Action::Welcome { conn: OLD, serial: 1, resumed: false, .. }]),
            "the first action of a new session is its welcome: {out:?}"
        );
        Self { a, b: Session::unknown(S, B), net: VecDeque::new(), shelves: BTreeMap::new(), done: Vec::new() }
    }

    fn session(&mut self, hub: HubId) -> &mut Session<u8> {
        if hub == A { &mut self.a } else { &mut self.b }
    }

    /// One event at one hub. What it says to peers waits in `net`; an app settles at once.
    fn at(&mut self, hub: HubId, event: Event<u8>) -> Vec<Action<u8>> {
        let mut out = Vec::new();
        self.session(hub).handle(event, &mut out);
        if out.contains(&Action::Settle) {
            self.session(hub).handle(Event::Settled, &mut out);
        }
        for action in &out {
            if let Action::Say(to, message) = action {
                self.net.push_back((hub, *to, message.clone()));
            }
            self.done.push((hub, action.clone()));
        }
        out
    }

    fn peer(&mut self, from: HubId, to: HubId, message: PeerMessage<u8>) -> Vec<Action<u8>> {
        self.at(to, Event::Peer { from, message })
    }

    /// B claims the session for a client that came to it on `NEW`.
    fn claim(&mut self, claim: ClaimId, hello: HelloFacts) -> Vec<Action<u8>> {
        let message = PeerMessage::Claim {
            session: S,
            claim,
            hello,
            versions: crate::peer::SNAPSHOT_VERSIONS.to_vec(),
            orphaned: false,
        };
        self.peer(B, A, message)
    }

    /// Delivers the next message between the hubs; a snapshot for `waiting` welcomes it at go-live.
    fn deliver(&mut self, waiting: Option<(ConnectionId, HelloFacts)>) -> Option<PeerMessage<u8>> {
        let (from, to, message) = self.net.pop_front()?;
        self.hand_over(from, to, message.clone(), waiting);
        Some(message)
    }

    /// What the driver does with a message: bulks go to the shelf, and come back with their difference.
    fn hand_over(
        &mut self,
        from: HubId,
        to: HubId,
        message: PeerMessage<u8>,
        waiting: Option<(ConnectionId, HelloFacts)>,
    ) {
        match message {
            PeerMessage::Bulk { bulk, contents, .. } => {
                let shelved = self.shelves.entry(to).or_default().put(S, from, bulk, contents, true);
                if matches!(shelved, Shelved::Held(_)) {
                    self.net.push_back((to, from, PeerMessage::BulkHeld { session: S, bulk }));
                }
            }
            PeerMessage::Difference { handover, claim, version, bulk, difference, .. } => {
                match self.shelves.entry(to).or_default().complete(S, from, bulk, &difference) {
                    Some(record) => {
                        let record = Box::new(record);
                        self.at(to, Event::Copied { waiting, handover, record });
                    }
                    None => {
                        let session = S;
                        let message = PeerMessage::Difference { session, handover, claim, version, bulk, difference };
                        self.peer(from, to, message);
                    }
                }
            }
            PeerMessage::Snapshot { handover, record, .. } => {
                self.at(to, Event::Copied { waiting, handover, record });
            }
            message => {
                self.peer(from, to, message);
            }
        }
    }

    /// Delivers until nobody says anything more.
    fn settle(&mut self, waiting: Option<(ConnectionId, HelloFacts)>) {
        const MESSAGES_MAX: usize = 50;
        for _ in 0..MESSAGES_MAX {
            if self.deliver(waiting).is_none() {
                return;
            }
        }
        panic!("the hubs do not stop talking: {:?}", self.net);
    }

    fn told(&self, hub: HubId, outcome: Outcome) -> usize {
        self.done.iter().filter(|(at, action)| *at == hub && *action == Action::Told(outcome)).count()
    }

    fn number(&mut self, hub: HubId, message: u8) -> Option<Offset> {
        self.session(hub).number(message, false, &LIMITS)
    }

    /// Everything that this connection gets.
    fn pump(&mut self, hub: HubId, conn: ConnectionId) -> Vec<Item<u8>> {
        std::iter::from_fn(|| self.session(hub).next_for(conn)).collect()
    }

    /// A pushed the session to B and B serves it, its client not yet back.
    fn moved() -> Self {
        let mut pair = Self::new();
        pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
        pair.settle(None);
        assert!(matches!(pair.b.state(), State::Serving { .. }), "B serves after a push: {:?}", pair.b.state());
        pair
    }
}

fn says(actions: &[Action<u8>], kind: &str) -> bool {
    actions.iter().any(|action| matches!(action, Action::Say(_, message) if message.kind() == kind))
}

fn closed(actions: &[Action<u8>], on: ConnectionId) -> Option<Close> {
    actions.iter().find_map(|action| match action {
        Action::Close { conn, close, .. } if *conn == on => Some(*close),
        _ => None,
    })
}

fn welcome(actions: &[Action<u8>]) -> Option<(ConnectionId, Offset, Offset)> {
    actions.iter().find_map(|action| match action {
        Action::Welcome { conn, from, received, .. } => Some((*conn, *from, *received)),
        _ => None,
    })
}
