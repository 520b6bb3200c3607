//! Fleet-wide messages: to each hub in the order of their stamps, the next one after the last one was
//! answered or given up. One that comes late is skipped there, so none is ever applied twice or out of order.

use super::Peers;
use super::link::{BATCH_BYTES_MAX, BATCH_MAX, result_of};
use super::post::json;
use super::wire::{PUBLISH, Publish, Published};
use crate::hub::Hub;
use crate::hub::fan::Entry;
use crate::message::Message;
use crate::telemetry::PeerResult;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::control::Target;
use tidegate_protocol::id::HubId;
use tidegate_protocol::replay::Payload;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

/// What became of a fleet-wide message at the other hubs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FanOutcome {
    /// Sessions that it was numbered for.
    pub sessions: u64,
    /// Hubs that answered.
    pub hubs: u64,
    /// Hubs that did not, or not in time: nobody knows whether they have it.
    pub unreachable: Vec<HubId>,
}

/// An entry in a lane, and who waits for its answer (`None`: it failed).
#[derive(Debug)]
pub(super) struct Waiting {
    entry: Entry,
    answer: oneshot::Sender<Option<u64>>,
}

/// Stamps a message, numbers it for the sessions here and passes it to all hubs, in the order of the
/// stamps. The outcome counts this hub, too.
pub async fn publish_everywhere(hub: &Arc<Hub>, to: Target, message: Message) -> FanOutcome {
    let (here, elsewhere) = {
        let mut fan = hub.fan.lock();
        let entry = fan.stamp(to, message);
        // Queued under the ledger's lock: the lanes must see the stamps in order.
        let elsewhere = hub.peers.fan_out(&entry);
        (fan.apply(hub, entry) as u64, elsewhere)
    };
    let outcome = elsewhere.await;
    FanOutcome { sessions: outcome.sessions + here, hubs: outcome.hubs + 1, ..outcome }
}

impl Peers {
    /// Passes a stamped message to every other hub. It is queued by the time that this returns (call it
    /// under the ledger's lock, so that stamps are queued in order; it never blocks); what it returns waits
    /// for the answers, at most two call times. A hub that is silent is not waited for.
    pub fn fan_out(&self, entry: &Entry) -> impl Future<Output = FanOutcome> + Send + use<> {
        let mut outcome = FanOutcome::default();
        let mut waiting = Vec::new();
        let present: Vec<(HubId, bool)> =
            self.book().table.present().map(|(hub, peer)| (hub, peer.is_heard())).collect();
        let hub = self.hub();
        for (to, heard) in present {
            let (answer, answered) = oneshot::channel();
            let link = hub.as_ref().filter(|_| heard).and_then(|hub| self.link(hub, to));
            let queued = link.is_some_and(|link| link.lane.try_send(Waiting { entry: entry.clone(), answer }).is_ok());
            if queued {
                waiting.push((to, answered));
            } else {
                outcome.unreachable.push(to);
            }
        }
        collect(outcome, waiting, self.call_time * 2)
    }
}

async fn collect(
    mut outcome: FanOutcome,
    waiting: Vec<(HubId, oneshot::Receiver<Option<u64>>)>,
    within: Duration,
) -> FanOutcome {
    let until = tokio::time::Instant::now() + within;
    for (hub, answered) in waiting {
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(Some(sessions))) => {
                outcome.sessions += sessions;
                outcome.hubs += 1;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => outcome.unreachable.push(hub),
        }
    }
    outcome.unreachable.sort_unstable();
    outcome
}

/// One hub's lane, until its link is dropped.
pub(super) async fn run(hub: Arc<Hub>, to: HubId, mut queue: Receiver<Waiting>) {
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut bytes = first.entry.message.size_bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.entry.message.size_bytes();
            if bytes > BATCH_BYTES_MAX {
                left_over = Some(next);
                break;
            }
            batch.push(next);
        }
        send(&hub, to, batch).await;
    }
}

async fn send(hub: &Arc<Hub>, to: HubId, batch: Vec<Waiting>) {
    let peers = &hub.peers;
    let (entries, answers): (Vec<Entry>, Vec<_>) = batch.into_iter().map(|one| (one.entry, one.answer)).unzip();
    let body = json(&Publish { from: peers.own, incarnation: peers.run, entries });
    let (result, published) = match peers.url_of(to) {
        None => (PeerResult::Unreachable, None),
        Some(url) => match peers.post.send::<Published>(&url, PUBLISH, Some(to), body, peers.call_time).await {
            Ok(published) => (PeerResult::Ok, Some(published)),
            Err(error) => {
                tracing::warn!(peer = %to, %error, messages = answers.len(), "a peer did not take fleet-wide messages");
                (result_of(&error), None)
            }
        },
    };
    for (place, answer) in answers.into_iter().enumerate() {
        hub.metrics.peer_message("publish", result);
        let sessions = published.as_ref().map(|published| published.sessions.get(place).copied().unwrap_or(0));
        // Whoever asked may have given up.
        _ = answer.send(sessions);
    }
}
