//! The maps from ids to cells and connections. They hash and shard alike in every process and on every
//! machine, so that whoever walks through one meets the same order in each replay of a simulation.
//!
//! Their keys are ours alone (drawn at random, or counted), so nobody outside can choose colliding ones.

use dashmap::DashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Parts with a lock of their own, whatever the machine; a power of two.
const SHARDS: usize = 64;
/// The golden ratio as a fraction of 2^64: spreads counted numbers over all bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A concurrent map by an id of ours.
pub(super) type Registry<K, V> = DashMap<K, V, BuildHasherDefault<IdHasher>>;

/// An empty one.
pub(super) fn ordered<K: Eq + Hash, V>() -> Registry<K, V> {
    DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), SHARDS)
}

/// Folds what an id is made of and spreads it over the bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The high bits decide most, and a product has its best bits there.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(SPREAD);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tidegate_protocol::id::{ConnectionId, SessionId};

    fn hash(key: impl Hash) -> u64 {
        let mut hasher = IdHasher::default();
        key.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn counted_and_drawn_ids_spread_over_shards_and_buckets() {
        let counted: Vec<u64> = (1..=4096).map(|n| hash(ConnectionId(n))).collect();
        let drawn: Vec<u64> =
            (1..=4096u128).map(|n| hash(SessionId(n.wrapping_mul(0x1234_5678_9abc_def1 << 50)))).collect();
        for hashes in [counted, drawn] {
            for part in [|hash: &u64| hash >> 57, |hash: &u64| hash & 127, |hash: &u64| (hash >> 7) & 127] {
                let parts: BTreeSet<u64> = hashes.iter().map(part).collect();
                assert!(parts.len() > 100, "of 128 parts only {} are in use", parts.len());
            }
        }
    }

    #[test]
    fn two_maps_that_were_filled_alike_are_walked_alike() {
        let filled = || {
            let map: Registry<SessionId, u32> = ordered();
            for n in 0..500u32 {
                map.insert(SessionId(u128::from(n) << 77 | 5), n);
            }
            map.iter().map(|entry| *entry.value()).collect::<Vec<_>>()
        };
        assert_eq!(filled(), filled());
    }
}
