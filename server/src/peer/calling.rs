//! Calls about one session that another hub owns: passed on there, and carried out once.

use super::Peers;
use super::link::result_of;
use super::post::{Failed, json};
use super::wire::{CALL, Calling};
use crate::hub::Hub;
use crate::hub::calls::{Call, CallError, Reply};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_protocol::id::{HubId, Incarnation, SessionId};
use tokio::sync::OnceCell;

/// The owner may hold a call back while the session is frozen; so long at most.
const ANSWER_MAX: Duration = Duration::from_secs(17);
/// How often it is looked at whether the owner is still heard.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Rest before a call whose connection broke is repeated, under its number.
const REPEAT_AFTER: Duration = Duration::from_millis(50);
/// Calls remembered for repeats; the oldest is forgotten first.
const ANSWERS_MAX: usize = 4_096;

/// A call to another hub, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    to: HubId,
    run: Option<Incarnation>,
    n: u64,
}

impl Asking {
    /// Whom it was put to.
    pub fn to(&self) -> HubId {
        self.to
    }
}

/// The last call that was put to another hub on the way of one from outside.
#[derive(Debug, Default)]
pub struct Asked(Mutex<Option<Asking>>);

impl Asked {
    fn note(&self, asking: Asking) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(asking);
    }

    /// Which one it was.
    pub fn last(&self) -> Option<Asking> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Has another hub carry out a call for a session that it owns. A connection that breaks is tried
    /// once more: the owner knows the call by its number and carries it out once.
    ///
    /// # Errors
    /// What that hub said, or [`CallError::Unreachable`].
    pub async fn call(&self, to: HubId, session: SessionId, call: &Call, asked: &Asked) -> Result<Reply, CallError> {
        let asking =
            Asking { to, run: self.book().table.run_of(to), n: self.calls.fetch_add(1, Ordering::Relaxed) + 1 };
        asked.note(asking);
        self.call_as(asking, false, session, call).await
    }

    /// The same call once more, after nobody knew what became of it: a hub that carried it out answers as it did then.
    ///
    /// # Errors
    /// As [`Peers::call`]. A later run of that hub knows nothing of it, and is not asked.
    pub async fn call_again(&self, asking: Asking, session: SessionId, call: &Call) -> Result<Reply, CallError> {
        if asking.run.is_none() || self.book().table.run_of(asking.to) != asking.run {
            return Err(CallError::Unreachable(asking.to));
        }
        self.call_as(asking, true, session, call).await
    }

    async fn call_as(
        &self,
        Asking { to, run, n }: Asking,
        again: bool,
        session: SessionId,
        call: &Call,
    ) -> Result<Reply, CallError> {
        let unreachable = CallError::Unreachable(to);
        let Some(hub) = self.hub() else { return Err(unreachable) };
        let Some(link) = self.link(&hub, to) else { return Err(unreachable) };
        // Beyond --limit-peer-queue callers are not even queued.
        let Ok(_waits) = link.callers.clone().try_acquire_owned() else { return Err(unreachable) };
        let Ok(Ok(_under_way)) = tokio::time::timeout(self.call_time, link.calls.clone().acquire_owned()).await else {
            return Err(unreachable);
        };
        let body =
            json(&Calling { from: self.own, incarnation: self.run, to: run, n, again, session, call: call.clone() });
        let limit = self.post.body_bytes_max() as u64;
        if body.len() as u64 > limit {
            return Err(CallError::TooMuch {
                what: "bytes of a call between hubs".into(),
                limit,
                given: body.len() as u64,
            });
        }
        let mut answer = self.ask(to, body.clone()).await;
        if let Err(Failed::Unreachable(_)) = answer {
            tokio::time::sleep(REPEAT_AFTER).await;
            answer = self.ask(to, body).await;
        }
        let result = answer.as_ref().map_or_else(result_of, |_| crate::telemetry::PeerResult::Ok);
        hub.metrics.peer_message("call", result);
        match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(peer = %to, %session, %error, "a call was not passed on");
                if error.is_of_a_stranger() {
                    self.nudge.notify_one();
                }
                Err(unreachable)
            }
        }
    }

    async fn ask(&self, to: HubId, body: bytes::Bytes) -> Result<Result<Reply, CallError>, Failed> {
        let Some(url) = self.url_of(to) else { return Err(Failed::Unreachable("it is forgotten".into())) };
        tokio::select! {
            biased;
            answer = self.post.send(&url, CALL, Some(to), body, ANSWER_MAX) => answer,
            () = self.lost_from_hearing(to) => Err(Failed::Timeout(self.call_time.as_millis() as u64)),
        }
    }

    /// Ends after a call's time once the hub is not heard any more.
    async fn lost_from_hearing(&self, hub: HubId) {
        tokio::time::sleep(self.call_time).await;
        while self.book().table.get(hub).is_some_and(|peer| peer.answers(self.now())) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Runs of other hubs of which that is known; the oldest is forgotten first.
const RUNS_MAX: usize = 1_024;

type Answer = Arc<OnceCell<Result<Reply, CallError>>>;

/// Calls that came in, so that a repeat gets the first one's answer.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by_number: BTreeMap<(Incarnation, u64), Answer>,
    order: VecDeque<(Incarnation, u64)>,
    /// Of each run the highest number that was forgotten.
    forgotten: BTreeMap<Incarnation, u64>,
}

impl Answers {
    /// Whether it may have been carried out and forgotten since.
    fn may_have_forgotten(&self, (run, n): (Incarnation, u64)) -> bool {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !remembered.by_number.contains_key(&(run, n))
            && remembered.forgotten.get(&run).is_some_and(|forgotten| n <= *forgotten)
    }

    fn of(&self, number: (Incarnation, u64)) -> Answer {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = remembered.by_number.get(&number) {
            return answer.clone();
        }
        if remembered.order.len() >= ANSWERS_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.by_number.remove(&oldest);
            let forgotten = remembered.forgotten.entry(oldest.0).or_default();
            *forgotten = oldest.1.max(*forgotten);
            while remembered.forgotten.len() > RUNS_MAX {
                remembered.forgotten.pop_first();
            }
        }
        remembered.order.push_back(number);
        remembered.by_number.entry(number).or_default().clone()
    }
}

/// Carries out a call that came in, or gives the answer that its number got before.
pub(super) async fn carry_out(hub: Arc<Hub>, calling: Calling) -> Result<Reply, CallError> {
    let Calling { incarnation, n, again, session, call, .. } = calling;
    // Reading twice does no harm, and states are too large to be remembered.
    if matches!(call, Call::GetState | Call::Describe) {
        return hub.call(session, call, false).await;
    }
    if again && hub.peers.answers.may_have_forgotten((incarnation, n)) {
        return Err(CallError::Unreachable(hub.id));
    }
    let answer = hub.peers.answers.of((incarnation, n));
    // A task of its own: a connection that breaks must not leave the call half done.
    let done = tokio::spawn(async move { answer.get_or_init(|| hub.call(session, call, false)).await.clone() });
    done.await
        .unwrap_or_else(|_| Err(CallError::Busy { why: "the call could not be carried out".into(), after_ms: 1_000 }))
}
