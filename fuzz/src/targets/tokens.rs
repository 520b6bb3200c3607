//! What clients prove themselves by: resume tokens, from without and from within the seal.

use super::{inputs, text};
use crate::bench::keys;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate::keys::{Sealer, TokenBody, TokenMint};
use tidegate_protocol::id::{HubId, ResumeToken, SessionId};
use tidegate_protocol::position::Generation;

/// A text that nobody issued opens nothing; and whatever is sealed as a token is read without a fall.
pub(super) fn tokens(data: &[u8]) {
    let mint = TokenMint::new(&keys());
    assert!(mint.open(&ResumeToken(text(data).into_owned()), 0).is_err(), "nobody has issued this");
    let now = data.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let sealed = Sealer::new(&keys()).seal("resume-token", &data[..data.len().min(300)]);
    _ = mint.open(&ResumeToken(URL_SAFE_NO_PAD.encode(sealed)), now);
}

/// Bodies that are whole, cut and longer than ours. A real token is none of them: it would open.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let body = TokenBody {
        session: SessionId(1),
        serial: 1,
        hub: HubId(1),
        generation: Generation(1),
        expires_unix_ms: u64::MAX,
        user: None,
    };
    let changed = TokenMint::new(&keys()).issue(&body).0.replace(['A', 'B', 'C', 'D'], "E");
    inputs([&[0u8; 40][..], &[0xff; 40], &[1; 39], &[7; 60], changed.as_bytes(), b"not base64!", b""])
}
