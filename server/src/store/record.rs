//! How one record lies in the log.
//!
//! ```text
//! file    "TGLOG" 0 version:u16 | key record | record | record | …
//! record  "TGR1" kind:u8 session:u128 len:u32 check:u32 | sealed, len bytes
//! sealed  Seal(kind:u8 session:u128 body)
//! ```
//!
//! Numbers are little-endian. `check` is the CRC-32 of the header before it: it tells a damaged body from a damaged header, so that one
//! bad byte in a body costs that one session and not the place in the file. The seal's tag guards everything else.

use super::Seal;
use tidegate_protocol::id::SessionId;

/// First bytes of the file: a name and the format's version.
pub(super) const FILE_HEADER: [u8; 8] = *b"TGLOG\0\x01\x00";
/// The part of [`FILE_HEADER`] before the version.
pub(super) const FILE_MAGIC: &[u8] = b"TGLOG\0";
/// First bytes of each record.
pub(super) const MAGIC: [u8; 4] = *b"TGR1";
/// Bytes before the sealed part.
pub(super) const HEADER_BYTES: usize = 4 + 1 + 16 + 4 + 4;
/// What the seal is told that it seals.
const PURPOSE: &str = "parked-session";
/// Bytes inside the seal before the body.
const INNER_BYTES: usize = 1 + 16;
/// What a seal may add to what it seals: nonce, tag, key id, and room to grow.
pub(super) const SEAL_BYTES_MAX: usize = 256;

/// What a record says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Here is all of it; whoever reads this may go on with it.
    Parked,
    /// A process goes on with it; what is on disk is out of date from here on.
    TakenUp,
    /// Another hub owns it.
    Moved,
    /// It is over.
    Ended,
    /// Of no session: first in each file, durable with it, so that a wrong key is told from damage.
    Key,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Parked => 1,
            Self::TakenUp => 2,
            Self::Moved => 3,
            Self::Ended => 4,
            Self::Key => 5,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Parked, Self::TakenUp, Self::Moved, Self::Ended, Self::Key].into_iter().find(|kind| kind.code() == code)
    }
}

/// The readable start of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) session: SessionId,
    pub(super) sealed_bytes: usize,
}

impl Header {
    /// Reads a header; `None` if this is none, or a damaged one, or one of a record that would be larger than `sealed_bytes_max`.
    pub(super) fn parse(bytes: &[u8], sealed_bytes_max: usize) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let (checked, check) = bytes.split_at(HEADER_BYTES - 4);
        let rest = checked.strip_prefix(&MAGIC)?;
        if crc32(checked).to_le_bytes() != check {
            return None;
        }
        let (kind, rest) = rest.split_first()?;
        let (session, len) = rest.split_first_chunk::<16>()?;
        let sealed_bytes = u32::from_le_bytes(len.try_into().ok()?) as usize;
        if sealed_bytes > sealed_bytes_max {
            return None;
        }
        Some(Self { kind: Kind::of(*kind)?, session: SessionId(u128::from_le_bytes(*session)), sealed_bytes })
    }

    /// Length of the whole record.
    pub(super) fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.sealed_bytes
    }

    /// The body in `sealed`; `None` if it was changed, or does not belong to this header.
    pub(super) fn open(&self, seal: &dyn Seal, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut plain = seal.open(PURPOSE, sealed)?;
        let (kind, rest) = plain.split_first()?;
        let (session, _) = rest.split_first_chunk::<16>()?;
        if *kind != self.kind.code() || u128::from_le_bytes(*session) != self.session.0 {
            return None;
        }
        plain.drain(..INNER_BYTES);
        Some(plain)
    }
}

/// Adds one whole record to `out`.
pub(super) fn encode(seal: &dyn Seal, kind: Kind, session: SessionId, body: &[u8], out: &mut Vec<u8>) {
    let mut plain = Vec::with_capacity(INNER_BYTES + body.len());
    plain.push(kind.code());
    plain.extend_from_slice(&session.0.to_le_bytes());
    plain.extend_from_slice(body);
    let sealed = seal.seal(PURPOSE, &plain);
    let start = out.len();
    out.reserve(HEADER_BYTES + sealed.len());
    out.extend_from_slice(&MAGIC);
    out.push(kind.code());
    out.extend_from_slice(&session.0.to_le_bytes());
    let len = u32::try_from(sealed.len()).expect("bodies are checked against Limits::record_bytes_max, which is a u32");
    out.extend_from_slice(&len.to_le_bytes());
    let check = crc32(&out[start..]);
    out.extend_from_slice(&check.to_le_bytes());
    out.extend_from_slice(&sealed);
}

/// The usual CRC-32 (reflected, polynomial 0xEDB88320). Bit by bit: it runs over 25 bytes per record only.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::PlainSeal;
    use super::*;

    #[test]
    fn the_check_is_the_usual_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_record_reads_back_and_no_changed_byte_goes_unnoticed() {
        let mut whole = Vec::new();
        encode(&PlainSeal, Kind::Parked, SessionId(7), b"body", &mut whole);
        let read = |bytes: &[u8]| {
            let header = Header::parse(bytes, 1 << 20)?;
            let body = header.open(&PlainSeal, bytes.get(HEADER_BYTES..header.record_bytes())?)?;
            Some((header.kind, header.session, body))
        };
        assert_eq!(read(&whole), Some((Kind::Parked, SessionId(7), b"body".to_vec())));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            assert_eq!(read(&changed), None, "a change of byte {at} must be noticed");
        }
    }

    #[test]
    fn a_sealed_part_under_another_header_is_refused() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        encode(&PlainSeal, Kind::Parked, SessionId(1), b"x", &mut one);
        encode(&PlainSeal, Kind::Parked, SessionId(2), b"x", &mut other);
        let header = Header::parse(&one, 1 << 20).expect("a whole header");
        assert_eq!(header.open(&PlainSeal, &other[HEADER_BYTES..]), None);
    }
}
