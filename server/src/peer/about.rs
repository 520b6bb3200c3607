//! What this hub says of itself and of the others.

use super::Peers;
use super::standing::Standing;
use super::wire::Hello;
use crate::hub::Hub;
use http::Uri;
use std::sync::PoisonError;
use tidegate_protocol::control::{ParkedElsewhere, PeerInfo};
use tidegate_protocol::drain::Admission;
use tidegate_protocol::id::HubId;
use tidegate_protocol::peer::common_version;
use tidegate_protocol::position::Millis;

impl Peers {
    /// How a client reaches this very hub, if it can; port 0 of the setting is the bound one here.
    pub fn own_public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// Every hub that is known and what it said last, and addresses where nobody was found, for
    /// `GET /v1/hub`.
    pub fn describe(&self) -> Vec<PeerInfo> {
        let now = self.now();
        let why = |url: &Uri| self.troubles.why(&super::seeds::key(url)).map(|why| format!("it {why}"));
        let book = self.book();
        let hubs = book.table.present().map(|(hub, peer)| {
            let said = peer.said().map(|said| &said.hello);
            PeerInfo {
                hub: (!matches!(peer.standing, Standing::Unheard { .. })).then_some(hub),
                incarnation: said.map(|said| said.incarnation),
                url: peer.url.to_string(),
                public_url: said.and_then(|said| said.public_url.clone()),
                state: said.map(|said| said.state),
                reachable: peer.answers(now),
                heard_ms: peer.last_heard().map(|last| now.since(last)),
                version: said.map(|said| said.version.clone()),
                room: said.and_then(|said| said.places),
                why: why(&peer.url),
            }
        });
        let nobody = |url: Uri| PeerInfo {
            hub: None,
            incarnation: None,
            url: url.to_string(),
            public_url: None,
            state: None,
            reachable: false,
            heard_ms: None,
            version: None,
            room: None,
            why: why(&url),
        };
        hubs.chain(book.seeds.silent().into_iter().map(nobody)).collect()
    }

    /// Sessions that lie on the disks of hubs that do not run: their clients wait until a process comes back there.
    pub fn parked_elsewhere(&self) -> Vec<ParkedElsewhere> {
        let (now, book) = (self.now(), self.book());
        let line = |(hub, url, sessions, since): (HubId, &Uri, u64, Millis)| ParkedElsewhere {
            hub,
            url: url.to_string(),
            sessions,
            gone_ms: now.since(since),
        };
        book.table.parked_and_gone().map(line).collect()
    }

    /// How this hub admitted clients in its last seconds.
    fn admission(&self) -> Option<Admission> {
        self.admissions.lock().unwrap_or_else(PoisonError::into_inner).seen(self.now())
    }

    /// The newest snapshot version that this hub and that one know; None: it was not heard, or there is none.
    pub fn snapshot_version(&self, hub: HubId, ours: &[u32]) -> Option<u32> {
        let book = self.book();
        common_version(ours, &book.table.get(hub)?.said()?.hello.versions)
    }

    /// What this hub says of itself. Each lock is let go before the next: the ledger's comes before all.
    pub(super) fn hello(&self, hub: &Hub) -> Hello {
        let (fan_last, fan_had) = {
            let fan = hub.fan.lock();
            (fan.own_last(), fan.had())
        };
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.book().table.acquaintances();
        Hello {
            from: self.own,
            incarnation: self.run,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_url: self.url.get().map(Uri::to_string),
            public_url: self.public_url.clone(),
            state,
            // Not the tombstones: peers level their sessions by this.
            sessions: hub.session_count(),
            room: hub.has_room(),
            places: Some(hub.places()),
            parked: hub.store.stats().parked as u64,
            admission: self.admission(),
            fan_last,
            fan_had,
            names_runs: true,
            versions: hub.world.snapshot_versions().to_vec(),
            known,
        }
    }
}
