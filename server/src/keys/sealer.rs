//! Sealing: what goes out cannot be read, and what comes back was not changed.
//!
//! ```text
//!   sealed = version 1 | salt 12 | nonce 12 | AES-256-GCM(text) | tag 16
//!   key    = HKDF(cluster key, purpose, salt)         associated data = version, purpose
//! ```
//!
//! The salt makes a key of its own for each message. With 96 random bits of nonce alone a fleet that
//! shares one key for months would come near the number of messages at which nonces meet.

use super::ClusterKeys;
use crate::store::Seal;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::hkdf;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 12;
const HEAD_BYTES: usize = 1 + SALT_BYTES + NONCE_LEN;
const TAG_BYTES: usize = 16;

/// Bytes that sealing adds.
pub const SEAL_OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;

/// Seals with the first cluster key, opens with all.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: ClusterKeys,
}

impl Sealer {
    /// A sealer over these keys.
    pub fn new(keys: &ClusterKeys) -> Self {
        Self { keys: keys.clone() }
    }

    /// Seals `plain` for a purpose; it opens for the same purpose only. Adds [`SEAL_OVERHEAD_BYTES`].
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let mut head = [0; HEAD_BYTES];
        head[0] = VERSION;
        self.keys.fill_random(&mut head[1..]);
        let key = message_key(&self.keys.roots()[0], purpose, salt_of(&head));
        let mut body = plain.to_vec();
        let tag = key
            .seal_in_place_separate_tag(nonce_of(&head), associated(purpose), &mut body)
            .expect("AES-GCM refuses only texts of 64 GiB");
        [&head, body.as_slice(), tag.as_ref()].concat()
    }

    /// What was sealed for this purpose. `None`: changed, cut short, sealed for something else or with a
    /// key that is not known (any more); which of these it is must not be told, and cannot.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (head, body) = sealed.split_first_chunk::<HEAD_BYTES>()?;
        if head[0] != VERSION || body.len() < TAG_BYTES {
            return None;
        }
        self.keys.roots().iter().find_map(|root| {
            let mut text = body.to_vec();
            let key = message_key(root, purpose, salt_of(head));
            let plain_bytes = key.open_in_place(nonce_of(head), associated(purpose), &mut text).ok()?.len();
            text.truncate(plain_bytes);
            Some(text)
        })
    }
}

impl Seal for Sealer {
    fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        Sealer::seal(self, purpose, plain)
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        Sealer::open(self, purpose, sealed)
    }
}

fn message_key(root: &hkdf::Prk, purpose: &str, salt: &[u8]) -> LessSafeKey {
    let info = [b"seal".as_slice(), &[purpose.len() as u8], purpose.as_bytes(), salt];
    let okm = root.expand(&info, &AES_256_GCM).expect("32 bytes are within what HKDF-SHA256 gives");
    LessSafeKey::new(okm.into())
}

fn associated(purpose: &str) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION], purpose.as_bytes()].concat())
}

fn salt_of(head: &[u8; HEAD_BYTES]) -> &[u8] {
    &head[1..1 + SALT_BYTES]
}

fn nonce_of(head: &[u8; HEAD_BYTES]) -> Nonce {
    Nonce::try_assume_unique_for_key(&head[1 + SALT_BYTES..]).expect("the head ends with 12 bytes of nonce")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(letters: &[u8]) -> ClusterKeys {
        ClusterKeys::from_secrets(letters.iter().map(|letter| vec![*letter; 32]))
    }

    #[test]
    fn what_was_sealed_opens_and_grows_by_the_overhead() {
        let sealer = Sealer::new(&keys(b"a"));
        for plain in [b"".as_slice(), b"x", &[7; 100_000]] {
            let sealed = sealer.seal("test", plain);
            assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD_BYTES);
            assert_eq!(sealer.open("test", &sealed).as_deref(), Some(plain));
        }
    }

    #[test]
    fn no_two_seals_of_one_text_are_alike() {
        let sealer = Sealer::new(&keys(b"a"));
        assert_ne!(sealer.seal("test", b"same"), sealer.seal("test", b"same"));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let sealer = Sealer::new(&keys(b"a"));
        let sealed = sealer.seal("test", b"sixteen letters.");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.open("test", &changed), None, "byte {at}");
        }
    }

    #[test]
    fn a_cut_text_another_purpose_and_another_key_do_not_open() {
        let sealer = Sealer::new(&keys(b"a"));
        let sealed = sealer.seal("test", b"text");
        for length in 0..sealed.len() {
            assert_eq!(sealer.open("test", &sealed[..length]), None, "{length} bytes");
        }
        assert_eq!(sealer.open("tests", &sealed), None);
        assert_eq!(Sealer::new(&keys(b"b")).open("test", &sealed), None);
    }

    #[test]
    fn after_a_rotation_old_seals_open_and_new_ones_are_sealed_with_the_new_key() {
        let (old, both, new) = (Sealer::new(&keys(b"a")), Sealer::new(&keys(b"ba")), Sealer::new(&keys(b"b")));
        assert!(both.open("test", &old.seal("test", b"text")).is_some());
        let sealed = both.seal("test", b"text");
        assert!(new.open("test", &sealed).is_some());
        assert!(old.open("test", &sealed).is_none());
    }
}
