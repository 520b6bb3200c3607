//! The last words of a hub: what lies on its disk, and that it goes.

use super::Peers;
use super::link::Link;
use super::post::json;
use super::wire::{self, Goodbye, OnDisk, Taken};
use crate::hub::Hub;
use crate::store::RecordState;
use bytes::Bytes;
use http::Uri;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tidegate_protocol::id::{HubId, Incarnation, SessionId};
use tokio::time::Instant;

/// How long all goodbyes may take together; before them, the last words as long again.
const GOODBYE: Duration = Duration::from_secs(1);
/// Sessions that are named in one post: some 350 KiB.
const NAMED_MAX: usize = 10_000;

impl Peers {
    /// Says goodbye to every peer, bounded in time: a second. What was said before arrives before it (as long
    /// again at most): a hub that said goodbye is not listened to any more.
    pub async fn goodbye(&self) {
        let links: Vec<Arc<Link>> = {
            let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.values().cloned().collect()
        };
        let until = Instant::now() + GOODBYE;
        let last_words = futures_util::future::join_all(links.iter().map(|link| link.all_sent()));
        let said = async {
            last_words.await;
            if let Some(hub) = self.hub() {
                self.tell_parked(&hub).await;
            }
        };
        if tokio::time::timeout_at(until, said).await.is_err() {
            tracing::warn!("not every last word to the peers was taken before the goodbye");
        }
        let parked = self.hub().map_or(0, |hub| hub.store.stats().parked as u64);
        let body = |to| json(&Goodbye { from: self.own, incarnation: self.run, to, parked });
        let told = |hub: HubId, error| tracing::warn!(peer = %hub, %error, "a peer did not take our goodbye; it will wait for this hub until it forgets it");
        self.tell_all(wire::GOODBYE, body, told).await;
    }

    /// Tells every peer which sessions lie on this hub's disk, so that nobody resets them while it is away.
    pub async fn tell_parked(&self, hub: &Hub) {
        let (mut after, mut first) = (None, true);
        loop {
            let page = hub.store.list(after, NAMED_MAX);
            let Some((last, _)) = page.last() else { return };
            after = Some(*last);
            let parked = page.iter().filter(|(_, state)| *state == RecordState::Parked).map(|(session, _)| *session);
            let sessions: Vec<SessionId> = parked.collect();
            if !sessions.is_empty() {
                let body =
                    |to| json(&OnDisk { from: self.own, incarnation: self.run, to, first, sessions: sessions.clone() });
                let told = |hub: HubId, error| tracing::info!(peer = %hub, %error, "a peer did not take what lies on this hub's disk");
                self.tell_all(wire::PARKED, body, told).await;
                first = false;
            }
        }
    }

    /// One post to every peer that is heard, with a body for the run that it is.
    async fn tell_all(
        &self,
        path: &'static str,
        body: impl Fn(Option<Incarnation>) -> Bytes,
        failed: impl Fn(HubId, super::post::Failed),
    ) {
        let to: Vec<(HubId, Uri, Option<Incarnation>)> = {
            let book = self.book();
            let heard = book.table.present().filter(|(_, peer)| peer.is_heard());
            heard.map(|(hub, peer)| (hub, peer.url.clone(), book.table.run_of(hub))).collect()
        };
        let all = to.iter().map(|(hub, url, run)| self.post.send::<Taken>(url, path, Some(*hub), body(*run), GOODBYE));
        for ((hub, ..), answer) in to.iter().zip(futures_util::future::join_all(all).await) {
            if let Err(error) = answer {
                failed(*hub, error);
            }
        }
    }
}
