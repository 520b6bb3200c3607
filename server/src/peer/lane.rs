//! Fleet-wide messages: to each hub in the order of their stamps, the next one after the last one was
//! answered or given up. One that comes twice is skipped there, so none is ever applied twice or out of order. What a
//! hub did not take it gets from the ring before anything that is newer, as soon as it says that it lacks it.

use super::Peers;
use super::link::{BATCH_BYTES_MAX, BATCH_MAX, result_of};
use super::post::json;
use super::wire::{PUBLISH, Publish, Published};
use crate::hub::Hub;
use crate::hub::fan::{Applied, Entry};
use crate::message::Message;
use crate::telemetry::PeerResult;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_protocol::control::Target;
use tidegate_protocol::id::{HubId, Incarnation, SessionId};
use tidegate_protocol::replay::Payload;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, oneshot};

/// What became of a fleet-wide message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FanOutcome {
    /// Sessions that it was numbered for.
    pub sessions: u64,
    /// Hubs that answered; none: this hub ends, and nothing was stamped.
    pub hubs: u64,
    /// Hubs that did not, or not in time. Nobody knows whether they have it by now; they get it from the ring as soon as
    /// they are heard, or their sessions are told that it is missing.
    pub unreachable: Vec<HubId>,
}

/// A fleet-wide message went out: its number, and what came of it.
pub type Sent = (u64, FanOutcome);

/// An entry in a lane, and who waits for its answer (`None`: it failed).
#[derive(Debug)]
pub(super) struct Waiting {
    entry: Entry,
    answer: oneshot::Sender<Option<Applied>>,
}

/// How far another hub is with this hub's messages.
#[derive(Debug, Default)]
pub(super) struct Progress {
    had: Mutex<Option<(Incarnation, u64)>>,
    /// Rung when it is known to lack some.
    pub(super) lagging: Notify,
}

impl Progress {
    /// That run of it says that it has had so many.
    pub(super) fn learn(&self, run: Incarnation, n: u64) {
        let mut had = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        *had = match *had {
            Some((known, before)) if known == run => Some((run, before.max(n))),
            Some(_) | None => Some((run, n)),
        };
    }

    fn of(&self, run: Incarnation) -> Option<u64> {
        let had = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        had.filter(|(known, _)| *known == run).map(|(_, n)| n)
    }
}

/// Stamps a message, numbers it for the sessions here and passes it to all hubs, in the order of the
/// stamps. The outcome counts this hub, too.
pub async fn publish_everywhere(hub: &Arc<Hub>, to: Target, message: Message) -> Sent {
    let (n, here, elsewhere) = {
        let mut fan = hub.fan.lock();
        if fan.is_left() {
            return Sent::default();
        }
        let entry = fan.stamp(to, message);
        // Queued under the ledger's lock: the lanes must see the stamps in order.
        let elsewhere = hub.peers.fan_out(&entry, None);
        (entry.n, fan.apply(hub, entry), elsewhere)
    };
    (n, elsewhere.await.summed(Some(here)))
}

/// The message of this number once more, to those of these hubs that may lack it. Who has it says how it was there.
pub async fn publish_again(hub: &Arc<Hub>, n: u64, missing: &[HubId]) -> FanOutcome {
    let elsewhere = {
        let fan = hub.fan.lock();
        let entry = fan.own_after(n - 1, n + 1, 1, usize::MAX).pop();
        entry.map(|entry| hub.peers.fan_out(&entry, Some(missing)))
    };
    match elsewhere {
        Some(elsewhere) => elsewhere.await.summed(None),
        // It is in no ring any more: whoever lacks it is told, or was.
        None => FanOutcome { unreachable: missing.to_vec(), ..FanOutcome::default() },
    }
}

/// The answers of all hubs.
pub(super) struct Answers {
    applied: Vec<Applied>,
    unreachable: Vec<HubId>,
}

impl Answers {
    /// Each session counts once: one that was between two hubs is counted where it has come, or as itself.
    pub(super) fn summed(self, here: Option<Applied>) -> FanOutcome {
        let Self { mut applied, unreachable } = self;
        applied.extend(here);
        let sessions: u64 = applied.iter().map(|one| one.sessions).sum();
        let came: BTreeSet<SessionId> = applied.iter().flat_map(|one| one.came.iter().copied()).collect();
        let moving: BTreeSet<SessionId> = applied.iter().flat_map(|one| one.moving.iter().copied()).collect();
        let uncounted = moving.difference(&came).count() as u64;
        FanOutcome { sessions: sessions + uncounted, hubs: applied.len() as u64, unreachable }
    }
}

impl Peers {
    /// Passes a stamped message to every other hub. It is queued by the time that this returns (call it
    /// under the ledger's lock, so that stamps are queued in order; it never blocks); what it returns waits
    /// for the answers, at most two call times. A hub that is silent is not waited for. `only`: none but these.
    pub(super) fn fan_out(
        &self,
        entry: &Entry,
        only: Option<&[HubId]>,
    ) -> impl Future<Output = Answers> + Send + use<> {
        let mut answers = Answers { applied: Vec::new(), unreachable: Vec::new() };
        let mut waiting = Vec::new();
        let present: Vec<(HubId, bool)> =
            self.book().table.present().map(|(hub, peer)| (hub, peer.is_heard())).collect();
        let present: Vec<(HubId, bool)> = match only {
            None => present,
            Some(only) => only.iter().map(|hub| (*hub, present.contains(&(*hub, true)))).collect(),
        };
        let hub = self.hub();
        for (to, heard) in present {
            let (answer, answered) = oneshot::channel();
            let link = hub.as_ref().filter(|_| heard).and_then(|hub| self.link(hub, to));
            let queued = link.is_some_and(|link| link.lane.try_send(Waiting { entry: entry.clone(), answer }).is_ok());
            if queued {
                waiting.push((to, answered));
            } else {
                answers.unreachable.push(to);
            }
        }
        collect(answers, waiting, self.call_time * 2)
    }
}

async fn collect(
    mut answers: Answers,
    waiting: Vec<(HubId, oneshot::Receiver<Option<Applied>>)>,
    within: Duration,
) -> Answers {
    let until = tokio::time::Instant::now() + within;
    for (hub, answered) in waiting {
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(Some(applied))) => answers.applied.push(applied),
            Ok(Ok(None) | Err(_)) | Err(_) => answers.unreachable.push(hub),
        }
    }
    answers.unreachable.sort_unstable();
    answers
}

/// One hub's lane, until its link is dropped.
pub(super) async fn run(hub: Arc<Hub>, to: HubId, mut queue: Receiver<Waiting>, progress: Arc<Progress>) {
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => Some(first),
            None => tokio::select! {
                biased;
                first = queue.recv() => match first {
                    Some(first) => Some(first),
                    None => return,
                },
                () = progress.lagging.notified() => None,
            },
        };
        let Some(first) = first else {
            // A failure is told by the next hello that comes from there.
            _ = catch_up(&hub, to, &progress, u64::MAX).await;
            continue;
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
        send(&hub, to, &progress, batch).await;
    }
}

/// What the hub lacks of the messages below this number, as far as the ring has them. True: it lacks none of those.
async fn catch_up(hub: &Arc<Hub>, to: HubId, progress: &Progress, below: u64) -> bool {
    loop {
        let Some(run) = hub.peers.book().table.run_of(to) else { return false };
        // Of a run that has not said where it is nothing is known to be lacking.
        let Some(had) = progress.of(run) else { return true };
        let entries = hub.fan.lock().own_after(had, below, BATCH_MAX, BATCH_BYTES_MAX);
        if entries.is_empty() {
            return true;
        }
        if post(hub, to, progress, entries).await.is_none() {
            return false;
        }
    }
}

async fn send(hub: &Arc<Hub>, to: HubId, progress: &Progress, batch: Vec<Waiting>) {
    let (entries, answers): (Vec<Entry>, Vec<_>) = batch.into_iter().map(|one| (one.entry, one.answer)).unzip();
    let first = entries.first().map_or(0, |entry| entry.n);
    let published =
        if catch_up(hub, to, progress, first).await { post(hub, to, progress, entries).await } else { None };
    for (place, answer) in answers.into_iter().enumerate() {
        let at = |lists: &Vec<Vec<SessionId>>| lists.get(place).cloned().unwrap_or_default();
        let applied = published.as_ref().map(|published| Applied {
            sessions: published.sessions.get(place).copied().unwrap_or(0),
            moving: at(&published.moving),
            came: at(&published.came),
        });
        // Whoever asked may have given up.
        _ = answer.send(applied);
    }
}

async fn post(hub: &Arc<Hub>, to: HubId, progress: &Progress, entries: Vec<Entry>) -> Option<Published> {
    let peers = &hub.peers;
    let (count, last) = (entries.len(), entries.last().map_or(0, |entry| entry.n));
    let (url, run) = (peers.url_of(to), peers.book().table.run_of(to));
    let body = json(&Publish { from: peers.own, incarnation: peers.run, to: run, entries });
    let (result, published) = match url {
        None => (PeerResult::Unreachable, None),
        Some(url) => match peers.post.send::<Published>(&url, PUBLISH, Some(to), body, peers.call_time).await {
            Ok(published) => (PeerResult::Ok, Some(published)),
            Err(error) => {
                tracing::warn!(peer = %to, %error, messages = count, "a peer did not take fleet-wide messages; it gets them when it is heard again");
                // It does not know us, or is another run now: a hello clears that up.
                if error.is_of_a_stranger() {
                    peers.nudge.notify_one();
                }
                (result_of(&error), None)
            }
        },
    };
    for _ in 0..count {
        hub.metrics.peer_message("publish", result);
    }
    if let (Some(run), Some(_)) = (run, &published) {
        progress.learn(run, last);
    }
    published
}
