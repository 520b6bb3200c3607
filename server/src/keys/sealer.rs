//! Sealing: what goes out cannot be read, and what comes back was not changed.
//!
//! ```text
//!   one key    sealed = 1 | salt 12 | nonce 12 | AES-256-GCM(text) | tag 16
//!   two keys   sealed = 2 | salt 12 | nonce 12 | lock 48 | lock 48 | AES-256-GCM(text) | tag 16
//!              lock   = AES-256-GCM(a key drawn for this text alone) | tag 16, one under each key of the file
//!   key        = HKDF(cluster key, purpose, salt)     associated data = everything before, purpose
//! ```
//!
//! The salt makes a key of its own for each message. With 96 random bits of nonce alone a fleet that
//! shares one key for months would come near the number of messages at which nonces meet.
//!
//! A hub with two keys locks with both, so that whoever has either opens it: while a key is changed hub by hub there
//! are hubs that have only the old one, then hubs that have only the new one, and no hub can know which are which.

use super::ClusterKeys;
use crate::store::Seal;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;

/// Sealed with the one key there is.
const WITH_ONE: u8 = 1;
/// Sealed with a key of its own, which each of two keys opens.
const WITH_TWO: u8 = 2;
const SALT_BYTES: usize = 12;
const HEAD_BYTES: usize = 1 + SALT_BYTES + NONCE_LEN;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const LOCK_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// Seals so that each of the cluster keys opens it.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: ClusterKeys,
}

impl Sealer {
    /// A sealer over these keys.
    pub fn new(keys: &ClusterKeys) -> Self {
        Self { keys: keys.clone() }
    }

    /// Seals `plain` for a purpose; it opens for the same purpose only. Adds 41 bytes, with two keys 137.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let roots = self.keys.roots();
        let mut sealed = vec![0; HEAD_BYTES];
        self.keys.fill_random(&mut sealed[1..]);
        let key = if let [root] = roots {
            sealed[0] = WITH_ONE;
            message_key(root, purpose, salt_of(&sealed))
        } else {
            sealed[0] = WITH_TWO;
            let mut drawn = [0; KEY_BYTES];
            self.keys.fill_random(&mut drawn);
            for (place, root) in roots.iter().enumerate() {
                let lock = encrypt(&message_key(root, purpose, salt_of(&sealed)), &sealed, purpose, place, &drawn);
                sealed.extend(lock);
            }
            drawn_key(&drawn)
        };
        let body = encrypt(&key, &sealed, purpose, roots.len(), plain);
        sealed.extend(body);
        sealed
    }

    /// What was sealed for this purpose. `None`: changed, cut short, sealed for something else or with
    /// keys none of which is known (any more); which of these it is must not be told, and cannot.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let head = sealed.get(..HEAD_BYTES)?;
        let keys = self.keys.roots().iter().map(|root| message_key(root, purpose, salt_of(head)));
        match head[0] {
            WITH_ONE => {
                let mut opened = keys.filter_map(|key| decrypt(&key, head, purpose, 1, &sealed[HEAD_BYTES..]));
                opened.next()
            }
            WITH_TWO => {
                let locks_end = HEAD_BYTES + 2 * LOCK_BYTES;
                sealed.get(..locks_end)?;
                let unlock = |key: LessSafeKey| {
                    let mut places = (0..2).map(|place| (place, HEAD_BYTES + place * LOCK_BYTES));
                    places.find_map(|(place, at)| {
                        decrypt(&key, &sealed[..at], purpose, place, &sealed[at..at + LOCK_BYTES])
                    })
                };
                let drawn = keys.filter_map(unlock).next()?;
                let key = drawn_key(drawn.as_slice().try_into().ok()?);
                decrypt(&key, &sealed[..locks_end], purpose, 2, &sealed[locks_end..])
            }
            _ => None,
        }
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

fn drawn_key(drawn: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, drawn).expect("32 bytes are a key of AES-256"))
}

/// Encrypts; `place` keeps the uses of one salt apart (lock, lock, text), in nonce and associated data.
fn encrypt(key: &LessSafeKey, before: &[u8], purpose: &str, place: usize, plain: &[u8]) -> Vec<u8> {
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(nonce_of(before, place), associated(before, purpose), &mut body)
        .expect("AES-GCM refuses only texts of 64 GiB");
    body
}

fn decrypt(key: &LessSafeKey, before: &[u8], purpose: &str, place: usize, body: &[u8]) -> Option<Vec<u8>> {
    let mut text = body.to_vec();
    let plain_bytes = key.open_in_place(nonce_of(before, place), associated(before, purpose), &mut text).ok()?.len();
    text.truncate(plain_bytes);
    Some(text)
}

/// The first version's data is version and purpose alone: its salt and nonce are in the key and the nonce anyway.
fn associated(before: &[u8], purpose: &str) -> Aad<Vec<u8>> {
    let before = if before[0] == WITH_ONE { &before[..1] } else { before };
    Aad::from([before, purpose.as_bytes()].concat())
}

fn salt_of(head: &[u8]) -> &[u8] {
    &head[1..1 + SALT_BYTES]
}

fn nonce_of(before: &[u8], place: usize) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&before[1 + SALT_BYTES..HEAD_BYTES]);
    if before[0] == WITH_TWO {
        nonce[NONCE_LEN - 1] ^= place as u8;
    }
    Nonce::assume_unique_for_key(nonce)
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
            assert_eq!(sealed.len(), plain.len() + HEAD_BYTES + TAG_BYTES);
            assert_eq!(sealer.open("test", &sealed).as_deref(), Some(plain));
        }
    }

    #[test]
    fn no_two_seals_of_one_text_are_alike() {
        let sealer = Sealer::new(&keys(b"a"));
        assert_ne!(sealer.seal("test", b"same"), sealer.seal("test", b"same"));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed_and_a_cut_too() {
        for letters in [b"a".as_slice(), b"ab"] {
            let sealer = Sealer::new(&keys(letters));
            let sealed = sealer.seal("test", b"sixteen letters.");
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(sealer.open("test", &changed), None, "byte {at}");
                assert_eq!(sealer.open("test", &sealed[..at]), None, "{at} bytes");
            }
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
    fn while_a_key_is_changed_each_hub_opens_what_any_other_seals_in_whatever_order_the_file_has_them() {
        let [old, old_new, new_old, new] =
            [b"o".as_slice(), b"on", b"no", b"n"].map(|letters| Sealer::new(&keys(letters)));
        // Only between the two ends of the change there are no two hubs that can run at the same time.
        for (here, there) in
            [(&old, &old_new), (&old, &new_old), (&old_new, &new_old), (&old_new, &new), (&new_old, &new)]
        {
            for (seals, opens) in [(here, there), (there, here)] {
                assert_eq!(opens.open("test", &seals.seal("test", b"text")).as_deref(), Some(b"text".as_slice()));
            }
        }
        assert_eq!(new.open("test", &old.seal("test", b"text")), None);
        assert_eq!(Sealer::new(&keys(b"xy")).open("test", &old_new.seal("test", b"text")), None);
    }

    #[test]
    fn what_one_key_seals_is_as_the_release_before_sealed_it() {
        let sealed = Sealer::new(&keys(b"a")).seal("test", b"text");
        let key = message_key(&keys(b"a").roots()[0], "test", &sealed[1..13]);
        let nonce = Nonce::try_assume_unique_for_key(&sealed[13..25]).expect("12 bytes");
        let mut text = sealed[25..].to_vec();
        let plain = key.open_in_place(nonce, Aad::from([&[1], b"test".as_slice()].concat()), &mut text);
        assert_eq!(plain.expect("the old way of reading it"), b"text");
    }
}
