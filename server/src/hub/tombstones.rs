//! What is remembered of sessions that are elsewhere: that they are, up to a limit.

use std::collections::{BTreeSet, VecDeque};
use tidegate_protocol::id::SessionId;

/// Sessions that are elsewhere, in the order in which they went; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    order: VecDeque<SessionId>,
    known: BTreeSet<SessionId>,
}

impl Tombstones {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn contains(&self, id: SessionId) -> bool {
        self.known.contains(&id)
    }

    /// Remembers one more; gives the one that has to go for it.
    pub(super) fn remember(&mut self, id: SessionId, max: u64) -> Option<SessionId> {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        while self.order.len() as u64 > max {
            // Who came back meanwhile has a place here and is not known any more.
            let oldest = self.order.pop_front()?;
            if self.known.remove(&oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// It is here again.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.known.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many_and_twice_is_once() {
        let mut tombstones = Tombstones::default();
        for (id, gone) in [(1, None), (2, None), (1, None), (3, Some(SessionId(1)))] {
            assert_eq!(tombstones.remember(SessionId(id), 2), gone);
        }
        assert_eq!(tombstones.len(), 2);
        assert!(tombstones.contains(SessionId(3)) && !tombstones.contains(SessionId(1)));
    }
}
