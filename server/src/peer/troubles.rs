//! What stands between this hub and others, for whoever looks at it: `GET /v1/hub`, a plan, a status, a metric.

use super::Peers;
use super::post::Failed;
use crate::telemetry::{Label, PeerTrouble};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::position::Millis;

/// A call with a foreign key is told of for so long; a hub says hello every second.
const STRANGER_FOR_MS: u64 = 10_000;

/// The last failure by address (bounded by the addresses that are asked), and the last foreign call.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    failing: Mutex<BTreeMap<String, Failed>>,
    stranger_at: Mutex<Option<Millis>>,
}

impl Troubles {
    fn failing(&self) -> MutexGuard<'_, BTreeMap<String, Failed>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hello to this address failed.
    pub(super) fn note(&self, key: String, failed: Failed) {
        self.failing().insert(key, failed);
    }

    /// It was answered.
    pub(super) fn over(&self, key: &str) {
        self.failing().remove(key);
    }

    /// Forgets addresses that are not asked any more.
    pub(super) fn retain(&self, asked: impl Fn(&str) -> bool) {
        self.failing().retain(|key, _| asked(key));
    }

    /// Why the last hello to this address failed, if it did.
    pub(super) fn why(&self, key: &str) -> Option<String> {
        self.failing().get(key).map(ToString::to_string)
    }

    /// How many addresses fail, by reason; the reasons that nobody has stand in it with 0.
    pub(super) fn counts(&self) -> Vec<(PeerTrouble, usize)> {
        let failing = self.failing();
        let count = |why: PeerTrouble| failing.values().filter(|failed| failed.trouble() == why).count();
        PeerTrouble::ALL.iter().map(|why| (*why, count(*why))).collect()
    }
}

impl Peers {
    /// A call came that was signed with another key.
    pub(super) fn stranger_called(&self) {
        *self.troubles.stranger_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.now());
    }

    /// Why hubs that should be there cannot take sessions over, in sentences: what no successor's state tells.
    pub fn obstacles(&self) -> Vec<String> {
        let failing = self.troubles.failing();
        let mut sentences: Vec<String> =
            failing.iter().map(|(url, failed)| format!("the peer {url} {failed}")).collect();
        drop(failing);
        let stranger_at = *self.troubles.stranger_at.lock().unwrap_or_else(PoisonError::into_inner);
        if stranger_at.is_some_and(|at| self.now().since(at) < STRANGER_FOR_MS) {
            sentences.push(
                "a hub calls this one with another key: --cluster-key-file must hold the same key on all hubs"
                    .to_owned(),
            );
        }
        sentences
    }
}
