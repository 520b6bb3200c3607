//! Close codes in one table, with "may come back?" as data. The picture of the ranges:
//! 4000–4499 may come back, 4500–4999 must not; of the standard codes 1012 and 1013 say "come back".

/// Why a hub closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Close {
    /// Ended as asked.
    Normal,
    /// A binary or text message above the limit.
    TooBig,
    /// The session was moved, parked, or the hub restarts.
    Restart,
    /// After `retry`, or the hub is full.
    Later,
    /// Nothing heard for three heartbeats.
    Heartbeat,
    /// The client did not read for too long.
    SlowConsumer,
    /// No `hello` in time.
    HelloTimeout,
    /// A frame that breaks the protocol; the reason names the fault.
    ProtocolError,
    /// Not a token of this fleet, or damaged.
    BadToken,
    /// The token's time is over.
    TokenExpired,
    /// A later token, or a higher try, was used already.
    TokenReuse,
    /// Another connection took the session over.
    Displaced,
    /// `hello.auth` is missing.
    AuthRequired,
    /// The JWT was refused.
    AuthFailed,
    /// The JWT's `exp` has passed.
    AuthExpired,
    /// An administrator ended the session.
    Evicted,
    /// More channels than the limit.
    TooManyChannels,
}

impl Close {
    /// Every reason, in the order of the table in `protocol/README.md` section 7.
    pub const ALL: [Self; 17] = [
        Self::Normal,
        Self::TooBig,
        Self::Restart,
        Self::Later,
        Self::Heartbeat,
        Self::SlowConsumer,
        Self::HelloTimeout,
        Self::ProtocolError,
        Self::BadToken,
        Self::TokenExpired,
        Self::TokenReuse,
        Self::Displaced,
        Self::AuthRequired,
        Self::AuthFailed,
        Self::AuthExpired,
        Self::Evicted,
        Self::TooManyChannels,
    ];

    /// The code on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::TooBig => 1009,
            Self::Restart => 1012,
            Self::Later => 1013,
            Self::Heartbeat => 4000,
            Self::SlowConsumer => 4001,
            Self::HelloTimeout => 4002,
            Self::ProtocolError => 4500,
            Self::BadToken => 4510,
            Self::TokenExpired => 4511,
            Self::TokenReuse => 4512,
            Self::Displaced => 4513,
            Self::AuthRequired => 4520,
            Self::AuthFailed => 4521,
            Self::AuthExpired => 4522,
            Self::Evicted => 4530,
            Self::TooManyChannels => 4531,
        }
    }

    /// The name in the table, also the value of the metric label `why`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::TooBig => "too_big",
            Self::Restart => "restart",
            Self::Later => "later",
            Self::Heartbeat => "heartbeat",
            Self::SlowConsumer => "slow_consumer",
            Self::HelloTimeout => "hello_timeout",
            Self::ProtocolError => "protocol_error",
            Self::BadToken => "bad_token",
            Self::TokenExpired => "token_expired",
            Self::TokenReuse => "token_reuse",
            Self::Displaced => "displaced",
            Self::AuthRequired => "auth_required",
            Self::AuthFailed => "auth_failed",
            Self::AuthExpired => "auth_expired",
            Self::Evicted => "evicted",
            Self::TooManyChannels => "too_many_channels",
        }
    }

    /// Whether the client that sees this close may come back with its session.
    pub const fn may_return(self) -> bool {
        may_return(self.code())
    }
}

/// The rule for any code that a client may see, also those that no hub sends: 1000 and the codes of
/// a broken WebSocket are final, 4500–4999 are final, all else means the connection is gone and the
/// session is not.
pub const fn may_return(code: u16) -> bool {
    !matches!(code, 1000 | 1002 | 1003 | 1007 | 1008 | 1009 | 4500..=4999)
}

/// What a close *from the client* means for its session (README section 7): only 1000 and 1001 end it.
pub const fn client_ends_session(code: u16) -> bool {
    matches!(code, 1000 | 1001)
}

/// Shortens a close reason to the 123 bytes that WebSocket allows, at a character's border.
pub fn reason(text: &str) -> &str {
    cut(text, REASON_BYTES_MAX)
}

/// What a close frame has room for.
const REASON_BYTES_MAX: usize = 123;

fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What stands between a close reason's words and the slot, and what begins it.
const SLOT_MARK: &str = "; after_ms=";
/// A client waits no longer than this for its slot, in milliseconds.
pub const SLOT_MAX_MS: u64 = 60_000;

/// A close reason whose client should not come back before `slot_ms` have passed (README section 7). Words that
/// are too long are cut, the slot never.
pub fn reason_until(words: &str, slot_ms: u64) -> String {
    let slot = format!("{SLOT_MARK}{slot_ms}");
    format!("{}{slot}", cut(words, REASON_BYTES_MAX.saturating_sub(slot.len())))
}

/// When the client of a close with this code and reason should come back at the earliest, in milliseconds.
/// None: the reason says nothing of it, or the client must not come back at all.
pub fn slot_ms(code: u16, reason: &str) -> Option<u64> {
    const DIGITS_MAX: usize = 9;
    let (_, digits) = reason.rsplit_once(SLOT_MARK).filter(|_| may_return(code))?;
    let is_number = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number).map(|slot_ms| slot_ms.min(SLOT_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_and_keeps_to_the_ranges() {
        let mut codes: Vec<u16> = Close::ALL.iter().map(|c| c.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Close::ALL.len());
        assert!(codes.is_sorted(), "the table is in the order of its codes");
        assert!(Close::Restart.may_return() && Close::Later.may_return());
        assert!(!Close::Displaced.may_return(), "a duplicated tab must not steal back");
    }

    #[test]
    fn a_slot_is_read_as_it_was_written() {
        for slot in [0, 1, 250, SLOT_MAX_MS] {
            assert_eq!(slot_ms(1012, &reason_until("parked", slot)), Some(slot));
        }
        assert_eq!(slot_ms(1012, &reason_until("parked", u64::from(u32::MAX))), None, "more digits than anybody needs");
        assert_eq!(slot_ms(4500, &reason_until("parked", 1)), None, "who must not come back has no slot");
    }

    #[test]
    fn a_reason_is_cut_at_a_character_and_fits_the_close_frame() {
        let long = "é".repeat(100);
        assert_eq!(reason(&long).len(), 122);
        assert_eq!(reason("short"), "short");
        let with_slot = reason_until(&long, 4_999);
        assert!(with_slot.len() <= 123 && slot_ms(1013, &with_slot) == Some(4_999), "{with_slot}");
    }
}
