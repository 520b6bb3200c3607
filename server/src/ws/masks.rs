//! Masking keys: unpredictable, as the protocol asks, and drawn from the system a page at a time.

use std::cell::Cell;

/// Random bytes that a thread keeps at most.
const POOL_BYTES: usize = 1024;

thread_local! {
    static POOL: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A key that was never used before.
pub fn fresh_mask() -> [u8; 4] {
    let mut pool = POOL.take();
    if pool.len() < 4 {
        pool.resize(POOL_BYTES, 0);
        crate::keys::fill_random(&mut pool);
    }
    let left = pool.len() - 4;
    let mask = [pool[left], pool[left + 1], pool[left + 2], pool[left + 3]];
    pool.truncate(left);
    POOL.set(pool);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_differ() {
        let keys: BTreeSet<_> = (0..1000).map(|_| fresh_mask()).collect();
        assert!(keys.len() > 990, "{} of 1000 keys differ", keys.len());
    }
}
