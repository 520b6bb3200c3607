//! The way to one other hub: a queue of machine messages, sent at once when idle and in batches when
//! not; and the limits of what may be asked of it at a time.

use super::lane::{self, Progress, Waiting};
use super::post::{Failed, json};
use super::wire::{MESSAGES, Messages, Taken};
use crate::fault::{self, Place};
use crate::hub::Hub;
use crate::message::Message;
use crate::telemetry::PeerResult;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;
use tidegate_protocol::id::HubId;
use tidegate_protocol::peer::PeerMessage;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Messages in one post.
pub(super) const BATCH_MAX: usize = 64;
/// Bytes in one post, unless a single message is longer.
pub(super) const BATCH_BYTES_MAX: usize = 256 << 10;
/// Posts of machine messages under way to one hub: one that hangs must not hold up the rest.
const POSTS_MAX: usize = 8;
/// What the body takes beside its messages.
const ENVELOPE_BYTES: usize = 256;

/// The way to one hub.
#[derive(Debug)]
pub(super) struct Link {
    messages: Sender<(PeerMessage<Message>, Unsent)>,
    /// How many messages wait or are under way.
    unsent: Arc<watch::Sender<usize>>,
    /// Fleet-wide messages of this hub, in order.
    pub(super) lane: Sender<Waiting>,
    /// How far it is with these.
    pub(super) progress: Arc<Progress>,
    /// Calls that wait or are under way.
    pub(super) callers: Arc<Semaphore>,
    /// Calls under way.
    pub(super) calls: Arc<Semaphore>,
}

impl Link {
    /// Opens the queues and starts their tasks; they end when the link is dropped.
    pub(super) fn open(hub: &Arc<Hub>, to: HubId) -> Arc<Self> {
        let limits = &hub.config.limits;
        let (queue, calls) = (limits.peer_queue as usize, limits.peer_calls as usize);
        let (messages, to_send) = mpsc::channel(queue);
        let (lane, to_publish) = mpsc::channel(queue);
        tokio::spawn(send_messages(hub.clone(), to, to_send, calls.min(POSTS_MAX)));
        let progress = Arc::<Progress>::default();
        tokio::spawn(lane::run(hub.clone(), to, to_publish, progress.clone()));
        let callers = Arc::new(Semaphore::new(queue.saturating_add(calls)));
        Arc::new(Self {
            messages,
            unsent: Arc::default(),
            lane,
            progress,
            callers,
            calls: Arc::new(Semaphore::new(calls)),
        })
    }

    /// Queues a message; false: the queue is full and the message is dropped.
    pub(super) fn say(&self, message: PeerMessage<Message>) -> bool {
        self.messages.try_send((message, Unsent::one_of(&self.unsent))).is_ok()
    }

    /// Waits until nothing waits or is under way: it was taken by the other hub, or given up.
    pub(super) async fn all_sent(&self) {
        // An error is an end, too: nobody counts any more.
        let _ = self.unsent.subscribe().wait_for(|unsent| *unsent == 0).await;
    }
}

/// Counts one message until it is dropped.
#[derive(Debug)]
struct Unsent(Arc<watch::Sender<usize>>);

impl Unsent {
    fn one_of(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A message as it travels, with its name for the metrics.
struct Encoded {
    kind: &'static str,
    json: Box<RawValue>,
    unsent: Unsent,
}

async fn send_messages(
    hub: Arc<Hub>,
    to: HubId,
    mut queue: Receiver<(PeerMessage<Message>, Unsent)>,
    posts_max: usize,
) {
    let posts = Arc::new(Semaphore::new(posts_max));
    let mut left_over = None;
    loop {
        let Ok(permit) = posts.clone().acquire_owned().await else { return };
        let first = match left_over.take() {
            Some(first) => Some(first),
            None => match queue.recv().await {
                Some((message, unsent)) => encode(&hub, to, &message, unsent),
                None => return,
            },
        };
        let Some(first) = first else { continue };
        let mut bytes = first.json.get().len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok((message, unsent)) = queue.try_recv()
        {
            let Some(next) = encode(&hub, to, &message, unsent) else { continue };
            bytes += next.json.get().len();
            if bytes > BATCH_BYTES_MAX {
                left_over = Some(next);
                break;
            }
            batch.push(next);
        }
        tokio::spawn(post(hub.clone(), to, batch, permit));
    }
}

/// A message that is too long for a post is dropped, with a word; its session stays where it is.
fn encode(hub: &Hub, to: HubId, message: &PeerMessage<Message>, unsent: Unsent) -> Option<Encoded> {
    let json = to_raw_value(message).expect("plain enums with string keys");
    let max = hub.peers.post.body_bytes_max();
    if json.get().len() + ENVELOPE_BYTES <= max {
        return Some(Encoded { kind: message.kind(), json, unsent });
    }
    tracing::warn!(peer = %to, session = %message.session(), kind = message.kind(), bytes = json.get().len(), limit = max, "too long for --limit-peer-body-bytes: not sent");
    hub.metrics.peer_message(message.kind(), PeerResult::Refused);
    None
}

async fn post(hub: Arc<Hub>, to: HubId, batch: Vec<Encoded>, permit: OwnedSemaphorePermit) {
    let peers = &hub.peers;
    fault::messages(Place::Before, batch.iter().map(|message| message.kind));
    let (mut kinds, mut messages, mut unsent) = (Vec::new(), Vec::new(), Vec::new());
    for message in batch {
        kinds.push(message.kind);
        messages.push(message.json);
        unsent.push(message.unsent);
    }
    let run = peers.book().table.run_of(to);
    let result = match peers.url_of(to).zip(run) {
        None => PeerResult::Unreachable,
        Some((url, run)) => {
            let body = json(&Messages { from: peers.own, incarnation: peers.run, to: run, messages });
            match peers.post.send::<Taken>(&url, MESSAGES, Some(to), body, peers.call_time).await {
                Ok(taken) => {
                    fault::messages(Place::After, kinds.iter().copied());
                    if peers.book().table.run_of(to) != Some(taken.incarnation) {
                        peers.nudge.notify_one();
                    }
                    PeerResult::Ok
                }
                Err(error) => {
                    tracing::debug!(peer = %to, %error, messages = kinds.len(), "messages to a peer were lost");
                    // It does not know us, or is another one now: a hello clears that up.
                    if error.is_of_a_stranger() {
                        peers.nudge.notify_one();
                    }
                    result_of(&error)
                }
            }
        }
    };
    drop((permit, unsent));
    for kind in kinds {
        hub.metrics.peer_message(kind, result);
    }
}

/// A failure as the metrics name it.
pub(super) fn result_of(error: &Failed) -> PeerResult {
    match error {
        Failed::Unreachable(_) => PeerResult::Unreachable,
        Failed::Timeout(_) => PeerResult::Timeout,
        Failed::Refused { .. } | Failed::Key | Failed::Clock(_) => PeerResult::Refused,
        Failed::Invalid(_) => PeerResult::Invalid,
    }
}
