//! What hubs say to each other about sessions, brought to whom it concerns: a claim, a cell, the bulks, the drain.

use super::Hub;
use super::cell::Cell;
use super::holding::Coming;
use crate::message::Message;
use std::sync::Arc;
use tidegate_protocol::drain::Welcomed;
use tidegate_protocol::id::HubId;
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::session::{Event, Session};

impl Hub {
    /// A word to a hub. To this one it goes by way of a task: whoever speaks holds a cell's lock.
    pub fn say(self: &Arc<Self>, to: HubId, mut message: PeerMessage<Message>) {
        self.keep_to_our_versions(&mut message);
        if to != self.id {
            return self.peers.say(to, message);
        }
        let hub = self.clone();
        tokio::spawn(async move { hub.peer_said(hub.id, message) });
    }

    /// A claim is answered in a version that its claimant and this hub both know.
    fn keep_to_our_versions(&self, message: &mut PeerMessage<Message>) {
        if let PeerMessage::Claim { versions, .. } = message {
            versions.retain(|version| self.world.snapshot_versions().contains(version));
        }
    }

    /// A word from a peer about a session.
    pub fn peer_said(self: &Arc<Self>, from: HubId, mut message: PeerMessage<Message>) {
        self.keep_to_our_versions(&mut message);
        let session = message.session();
        match message {
            PeerMessage::Located { claim, knowledge, .. } => self.claims.located(self, from, claim, knowledge),
            PeerMessage::Refused { claim, why, .. } => self.claims.refused(self, from, claim, why),
            PeerMessage::ResetFrom { claim, record, .. } => self.claims.reset_from(self, claim, record),
            PeerMessage::Bulk { bulk, version, contents, .. } => self.bulk_came(from, session, bulk, version, contents),
            PeerMessage::Difference { handover, claim, version, bulk, difference, .. } => {
                self.difference_came(Coming { from, session, handover, claim, version }, bulk, difference);
            }
            PeerMessage::Snapshot { handover, claim, version, record, .. } => {
                self.snapshot_came(Coming { from, session, handover, claim, version }, record);
            }
            PeerMessage::Resumed { gap_ms, from, base, end, received, .. } => {
                self.drain.resumed(self, session, &Welcomed { gap_ms, from, base, end, received });
            }
            PeerMessage::Locate { claim, .. } => self.answer_locate(from, session, claim),
            other @ PeerMessage::Replaced { .. } if self.parked_elsewhere(session).is_some() => {
                self.elsewhere.forget(session);
                self.peer_said(from, other);
            }
            other @ (PeerMessage::Claim { .. } | PeerMessage::Replaced { .. }) if self.cell(session).is_none() => {
                self.unknown_here(from, session, other);
            }
            other @ (PeerMessage::Claim { .. }
            | PeerMessage::Replaced { .. }
            | PeerMessage::BulkHeld { .. }
            | PeerMessage::BulkRefused { .. }
            | PeerMessage::Lacking { .. }
            | PeerMessage::Held { .. }
            | PeerMessage::Committed { .. }
            | PeerMessage::Aborted { .. }
            | PeerMessage::Abort { .. }
            | PeerMessage::Live { .. }
            | PeerMessage::Lost { .. }) => match self.cell(session) {
                Some(cell) => cell.feed(self, Event::Peer { from, message: other }),
                // A machine that knows nothing gives the right answer, and need not be kept.
                None => Cell::new(Session::unknown(session, self.id), self.now())
                    .feed(self, Event::Peer { from, message: other }),
            },
        }
    }

    /// A peer said goodbye, was forgotten, or is back under a new incarnation.
    pub fn peer_gone(self: &Arc<Self>, hub: HubId) {
        for cell in self.all_cells() {
            cell.feed(self, Event::PeerGone { hub });
        }
        self.bulks.peer_gone(hub);
        self.claims.gone(self, hub);
    }
}
