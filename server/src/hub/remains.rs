//! What a process that ends in good order leaves of its ledger to the next one, beside the sessions that it parked: how
//! far it was with everybody, and the recent messages. Taken once; after a crash there is none.

use super::Hub;
use super::fan::{Entry, Fan, PAST_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tidegate_protocol::id::Incarnation;

/// Runs of this hub in a row whose ledgers are gone on with; the oldest is forgotten first.
const HEIRS_MAX: usize = 256;

/// The ledger, as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Remains {
    runs: BTreeSet<Incarnation>,
    applied: Vec<(Incarnation, u64)>,
    past: Vec<(Incarnation, u64)>,
    doubted: BTreeSet<Incarnation>,
    ring: Vec<Entry>,
}

impl Fan {
    /// What the next process needs.
    pub fn remains(&self) -> Remains {
        Remains {
            runs: self.heirs.clone(),
            applied: self.applied.iter().map(|(origin, n)| (*origin, *n)).collect(),
            past: self.past.iter().map(|(origin, n)| (*origin, *n)).collect(),
            doubted: self.doubted.clone(),
            ring: self.ring.iter().map(|(entry, _)| entry.clone()).collect(),
        }
    }

    pub(super) fn go_on_with(&mut self, remains: Remains) {
        let Remains { runs, applied, past, doubted, ring } = remains;
        self.heirs.extend(runs);
        while self.heirs.len() > HEIRS_MAX {
            self.heirs.pop_first();
        }
        // Who is still there is met again; of the others there is what the ring has.
        self.over.extend(applied.iter().map(|(origin, _)| *origin));
        self.applied.extend(applied);
        self.past.extend(past);
        while self.past.len() > PAST_MAX {
            self.past.pop_first();
        }
        self.doubted = doubted;
        for entry in ring {
            self.remember(entry, 0);
        }
    }
}

impl Hub {
    /// Leaves the ledger to the next process. Without parked sessions nobody needs it.
    pub async fn leave_ledger(&self) {
        if self.store.stats().parked == 0 {
            return;
        }
        let remains = {
            let mut fan = self.fan.lock();
            fan.left = true;
            fan.remains()
        };
        let written = serde_json::to_vec(&remains).expect("plain structs");
        if let Err(error) = self.store.leave_beside(written).await {
            tracing::warn!(%error, "recent fleet-wide messages are not kept for the next process: what is parked will be told that some may be missing");
        }
    }
}
