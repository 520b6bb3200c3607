//! What the store's tests share.

use super::log::{Log, Unit};
use super::record::{self, FILE_HEADER, Kind};
use super::{Limits, Seal, StoreError};
use tidegate_protocol::id::SessionId;

/// A seal that hides nothing and notices changes: a sum over purpose and bytes in front.
pub(super) struct PlainSeal;

fn sum(purpose: &str, plain: &[u8]) -> [u8; 8] {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    purpose.as_bytes().iter().chain(plain).fold(0xcbf2_9ce4_8422_2325, mix).to_le_bytes()
}

impl Seal for PlainSeal {
    fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        [&sum(purpose, plain), plain].concat()
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (found, plain) = sealed.split_at_checked(8)?;
        (found == sum(purpose, plain)).then(|| plain.to_vec())
    }
}

/// Small enough that a few sessions make the log rewrite itself.
pub(super) fn small_limits() -> Limits {
    Limits { record_bytes_max: 4096, compact_dead_bytes_min: 300, ..Limits::default() }
}

/// The body that the tests park for a session the `nth` time.
pub(super) fn body(session: u128, nth: u8) -> Vec<u8> {
    let mut body = format!("session {session} body {nth} ").into_bytes();
    body.resize(100, nth);
    body
}

/// What an empty log looks like.
pub(super) fn fresh_log_bytes() -> Vec<u8> {
    let mut bytes = FILE_HEADER.to_vec();
    record::encode(&PlainSeal, Kind::Key, SessionId(0), &[], &mut bytes);
    bytes
}

/// One record, as the writer thread would write it.
pub(super) fn write(log: &mut Log, kind: Kind, session: u128, body: &[u8]) -> Result<(), StoreError> {
    let mut unit = Unit::new();
    unit.push(&PlainSeal, kind, SessionId(session), body);
    let result = log.append(&[unit]).remove(0);
    log.compact_if_worth();
    result
}
