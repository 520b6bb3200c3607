//! Keys, and everything that is proved or hidden with them.
//!
//! ```text
//!   --cluster-key-file, or cluster.key in the data directory
//!            │ HKDF-SHA256, one key per purpose
//!            ├─► Sealer     hides and guards: resume tokens, parked records
//!            └─► PeerAuth   proves: calls between hubs, and the answers
//! ```
//!
//! A file may hold two keys, in any order: a hub that has two seals and signs with both, and opens and verifies with
//! both. So the key of a running fleet is changed hub by hub, first to a file with both, then to one with the new
//! key alone (`deploy/README.md` has the steps, and `tests/tests/two_hubs/keys.rs` takes them).

mod cluster;
mod peer_auth;
mod private_token;
mod replay_guard;
mod sealer;
mod strength;
mod token;

pub use cluster::{ClusterKeys, ClusterKeysError};
pub use peer_auth::{Believed, PEER_AUTH_WINDOW_MS, PeerAuth, PeerAuthError, PeerNonce};
pub use private_token::PrivateToken;
pub use sealer::Sealer;
pub use strength::weakness;
pub use token::{TOKEN_LEEWAY_MS, TOKEN_LIFETIME_MS, TokenBody, TokenError, TokenMint, UserTag};

/// Fills a buffer from the system's random source.
pub fn fill_random(buffer: &mut [u8]) {
    aws_lc_rs::rand::fill(buffer)
        .expect("the random source aborts the process rather than fail once it has been seeded");
}
