//! Secrets that nobody drew: of one letter, of a piece that repeats, of a count. They pass for long ones and are
//! guessed at once, so a hub does not start with them. What is drawn at random never looks like that.

use std::collections::BTreeSet;

/// A piece that is shorter than this and makes up the whole is what would be guessed.
const PIECE_BYTES_MIN: usize = 16;
/// Different bytes that are enough for a secret of any length.
const DIFFERENT_ENOUGH: usize = 8;
/// Different steps from one byte to the next that are enough; a count has one, or a few where it goes from 9 to a.
const STEPS_ENOUGH: usize = 4;

/// Why a secret is too easily guessed, as a clause that shows none of it; `None`: nothing speaks against it.
pub fn weakness(secret: &[u8]) -> Option<String> {
    let different = secret.iter().collect::<BTreeSet<_>>().len();
    let wanted = (secret.len() / 3).clamp(2, DIFFERENT_ENOUGH);
    if different < wanted {
        return Some(format!("it has only {different} different bytes in {}", secret.len()));
    }
    let repeats = |piece: usize| secret.iter().skip(piece).zip(secret).all(|(later, earlier)| later == earlier);
    if let Some(piece) = (1..PIECE_BYTES_MIN.min(secret.len() / 2 + 1)).find(|piece| repeats(*piece)) {
        return Some(format!("it is a piece of {piece} bytes that repeats"));
    }
    let steps = secret.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect::<BTreeSet<_>>().len();
    (steps < STEPS_ENOUGH.min(secret.len() / 3)).then(|| "it only counts up or down".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_drew_is_weak_and_why_is_told() {
        for (secret, why) in [
            ("kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", "1 different bytes in 32"),
            ("abababababababababababababababab", "2 different bytes"),
            ("password0password0password0passw", "a piece of 9 bytes that repeats"),
            ("abcdefghijklmnopqrstuvwxyz", "counts up or down"),
            ("0123456789abcdefghijklmnopqrstuv", "counts up or down"),
        ] {
            let told = weakness(secret.as_bytes()).unwrap_or_else(|| panic!("{secret} passes"));
            assert!(told.contains(why), "{secret}: {told}");
        }
        assert!(weakness(&(200..232).collect::<Vec<u8>>()).is_some(), "bytes that count");
    }

    #[test]
    fn what_was_drawn_passes_in_each_form_that_people_give_it() {
        for _ in 0..2_000 {
            let mut drawn = [0; 32];
            crate::keys::fill_random(&mut drawn);
            let hex: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
            for secret in [&drawn[..], &drawn[..16], hex.as_bytes(), &hex.as_bytes()[..32], &hex.as_bytes()[..16]] {
                assert_eq!(weakness(secret), None, "{secret:?}");
            }
        }
        assert_eq!(weakness(b"a horse, a staple, a battery, and some more words"), None);
    }
}
