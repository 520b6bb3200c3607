//! Resume tokens: what a client shows to come back. Sealed, so that nobody else can make or read one.

use super::{ClusterKeys, Sealer};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_protocol::id::{HubId, ResumeToken, SessionId};
use tidegate_protocol::position::Generation;

/// How long a token may be shown after it was issued: a day. It bounds how long a stolen one is of use;
/// how long a session waits for its client is another matter and much shorter.
pub const TOKEN_LIFETIME_MS: u64 = 24 * 3600 * 1000;
/// How far the clocks of two hubs may be apart when expiry is judged.
pub const TOKEN_LEEWAY_MS: u64 = 60_000;

const PURPOSE: &str = "resume-token";
const BODY_BYTES: usize = 16 + 4 + 8 + 4 + 8 + UserTag::BYTES;
/// Longest text that is looked at; ours have 108 characters, or 119 with a user.
const TEXT_BYTES_MAX: usize = 512;

/// What a token says. Hub and generation are hints where to look; serial and session count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBody {
    /// The session to resume.
    pub session: SessionId,
    /// Which token of the session this is; using one voids those before it.
    pub serial: u32,
    /// The hub that owned the session when this was issued.
    pub hub: HubId,
    /// The session's generation then.
    pub generation: Generation,
    /// When it expires, in milliseconds of the wall clock since 1970.
    pub expires_unix_ms: u64,
    /// Whose session it is; absent: nobody's in particular.
    pub user: Option<UserTag>,
}

/// Tells one user from another without being the name: the first eight bytes of its SHA-256. A token has no room
/// for names, and a JWT that is shown beside it must be of the same user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserTag([u8; UserTag::BYTES]);

impl UserTag {
    const BYTES: usize = 8;
    /// What stands for nobody where a later field follows.
    const NOBODY: [u8; Self::BYTES] = [0; Self::BYTES];

    /// The tag of this user.
    pub fn of(user: &str) -> Self {
        let mut tag = Self::NOBODY;
        tag.copy_from_slice(&digest::digest(&digest::SHA256, user.as_bytes()).as_ref()[..Self::BYTES]);
        Self(tag)
    }
}

/// Why a token is not accepted. None of these shows the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("the resume token is malformed: expected the text that `welcome` gave, unchanged")]
    Malformed,
    /// Not made by this fleet with a key that still counts, or changed since.
    #[error("the resume token was not issued by this fleet, was changed, or its key was rotated out")]
    Forged,
    /// Too old.
    #[error("the resume token expired {ago_ms} ms ago")]
    Expired {
        /// How long ago, leeway not counted.
        ago_ms: u64,
    },
    /// Of a session of somebody else than who shows it.
    #[error("the resume token is of another user's session than the JWT's `sub`: connect without it")]
    OtherUser,
}

/// Issues and opens resume tokens.
#[derive(Clone, Debug)]
pub struct TokenMint {
    sealer: Sealer,
}

impl TokenMint {
    /// A mint over these keys; each hub with the same keys opens what the others issue.
    pub fn new(keys: &ClusterKeys) -> Self {
        Self { sealer: Sealer::new(keys) }
    }

    /// A token that says `body`; set the expiry to now plus [`TOKEN_LIFETIME_MS`].
    pub fn issue(&self, body: &TokenBody) -> ResumeToken {
        ResumeToken(URL_SAFE_NO_PAD.encode(self.sealer.seal(PURPOSE, &encode(body))))
    }

    /// What a token says, if it was issued by this fleet and has not expired by `now_unix_ms`.
    pub fn open(&self, token: &ResumeToken, now_unix_ms: u64) -> Result<TokenBody, TokenError> {
        if token.0.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let sealed = URL_SAFE_NO_PAD.decode(&token.0).map_err(|_| TokenError::Malformed)?;
        let plain = self.sealer.open(PURPOSE, &sealed).ok_or(TokenError::Forged)?;
        let body = decode(&plain).ok_or(TokenError::Malformed)?;
        let last_ms = body.expires_unix_ms.saturating_add(TOKEN_LEEWAY_MS);
        if now_unix_ms > last_ms {
            return Err(TokenError::Expired { ago_ms: now_unix_ms - body.expires_unix_ms });
        }
        Ok(body)
    }
}

fn encode(body: &TokenBody) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    bytes.extend(body.session.0.to_be_bytes());
    bytes.extend(body.serial.to_be_bytes());
    bytes.extend(body.hub.0.to_be_bytes());
    bytes.extend(body.generation.0.to_be_bytes());
    bytes.extend(body.expires_unix_ms.to_be_bytes());
    bytes.extend(body.user.iter().flat_map(|tag| tag.0));
    bytes
}

/// Reads a body; a later release may append fields, which are left alone.
fn decode(bytes: &[u8]) -> Option<TokenBody> {
    let (session, rest) = bytes.split_first_chunk()?;
    let (serial, rest) = rest.split_first_chunk()?;
    let (hub, rest) = rest.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (expires, later) = rest.split_first_chunk()?;
    let tag = later.first_chunk().copied().filter(|tag| *tag != UserTag::NOBODY);
    Some(TokenBody {
        session: SessionId(u128::from_be_bytes(*session)),
        serial: u32::from_be_bytes(*serial),
        hub: HubId(u64::from_be_bytes(*hub)),
        generation: Generation(u32::from_be_bytes(*generation)),
        expires_unix_ms: u64::from_be_bytes(*expires),
        user: tag.map(UserTag),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mint(letter: u8) -> TokenMint {
        TokenMint::new(&ClusterKeys::from_secrets([vec![letter; 32]]))
    }

    const BODY: TokenBody = TokenBody {
        session: SessionId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        serial: 7,
        hub: HubId(u64::MAX - 1),
        generation: Generation(3),
        expires_unix_ms: 1_000_000,
        user: None,
    };

    #[test]
    fn a_token_opens_on_every_hub_with_the_same_key_and_fits_a_url() {
        let token = mint(b'a').issue(&BODY);
        assert_eq!(mint(b'a').open(&token, 0), Ok(BODY));
        assert_eq!(token.0.len(), 108);
        assert!(token.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn a_token_expires_after_its_leeway() {
        let token = mint(b'a').issue(&BODY);
        assert_eq!(mint(b'a').open(&token, 1_060_000), Ok(BODY));
        assert_eq!(mint(b'a').open(&token, 1_060_001), Err(TokenError::Expired { ago_ms: 60_001 }));
    }

    #[test]
    fn a_foreign_changed_or_cut_token_is_forged() {
        let token = mint(b'a').issue(&BODY);
        assert_eq!(mint(b'b').open(&token, 0), Err(TokenError::Forged));
        let changed = token.0.replacen(&token.0[50..51], if &token.0[50..51] == "A" { "B" } else { "A" }, 1);
        assert_eq!(mint(b'a').open(&ResumeToken(changed), 0), Err(TokenError::Forged));
        assert_eq!(mint(b'a').open(&ResumeToken(token.0[..96].into()), 0), Err(TokenError::Forged));
        assert_eq!(mint(b'a').open(&ResumeToken(String::new()), 0), Err(TokenError::Forged));
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        for text in ["not base64!", "a", &"A".repeat(600)] {
            assert_eq!(mint(b'a').open(&ResumeToken(text.into()), 0), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn what_was_sealed_for_another_purpose_is_no_token() {
        let keys = ClusterKeys::from_secrets([vec![b'a'; 32]]);
        let record = Sealer::new(&keys).seal("parked-session", &encode(&BODY));
        let token = ResumeToken(URL_SAFE_NO_PAD.encode(record));
        assert_eq!(TokenMint::new(&keys).open(&token, 0), Err(TokenError::Forged));
    }

    #[test]
    fn a_token_of_a_user_says_whose_it_is_and_not_the_name() {
        let body = TokenBody { user: Some(UserTag::of("ann")), ..BODY };
        let token = mint(b'a').issue(&body);
        assert_eq!(mint(b'a').open(&token, 0), Ok(body));
        assert_eq!(token.0.len(), 119);
        assert!(UserTag::of("ann") != UserTag::of("bob"));
    }

    #[test]
    fn a_token_of_a_later_release_with_more_fields_is_read() {
        let mint = mint(b'a');
        let of_ann = TokenBody { user: Some(UserTag::of("ann")), ..BODY };
        let nobody = [encode(&BODY), UserTag::NOBODY.to_vec()].concat();
        for (plain, expected) in [(encode(&of_ann), of_ann), (nobody, BODY)] {
            let longer = [plain, b"more".to_vec()].concat();
            let token = ResumeToken(URL_SAFE_NO_PAD.encode(mint.sealer.seal(PURPOSE, &longer)));
            assert_eq!(mint.open(&token, 0), Ok(expected));
        }
    }
}
