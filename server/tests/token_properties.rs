//! Resume tokens under attack: changed, cut, aged, under other keys, and across a rotation of keys.

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};
use tidegate::keys::{ClusterKeys, TOKEN_LEEWAY_MS, TokenBody, TokenError, TokenMint};
use tidegate_protocol::id::{HubId, ResumeToken, SessionId};
use tidegate_protocol::position::Generation;

/// So many cases, the same ones each time, unless the environment asks for others.
fn config(cases: u32) -> ProptestConfig {
    let standard = ProptestConfig::default();
    let asked = |name: &str| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if asked("PROPTEST_CASES") { standard.cases } else { cases },
        rng_seed: if asked("PROPTEST_RNG_SEED") { standard.rng_seed } else { RngSeed::Fixed(4) },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..standard
    }
}

/// A mint over keys that stand for themselves: the first seals.
fn mint(letters: &[u8]) -> TokenMint {
    TokenMint::new(&ClusterKeys::from_secrets(letters.iter().map(|letter| vec![*letter; 32])))
}

/// The keys of a hub at some moment of a rotation.
fn ring() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![b"a".as_slice(), b"ab", b"ba", b"b", b"bc", b"c"])
}

fn body() -> impl Strategy<Value = TokenBody> {
    let ids = (any::<u128>(), any::<u32>(), any::<u64>(), any::<u32>(), any::<u64>());
    ids.prop_map(|(session, serial, hub, generation, expires_unix_ms)| TokenBody {
        session: SessionId(session),
        serial,
        hub: HubId(hub),
        generation: Generation(generation),
        expires_unix_ms,
        user: None,
    })
}

#[test]
fn any_bit_flipped_in_a_token_is_refused_and_so_is_any_part_of_it() {
    let (mint, body) = (
        mint(b"a"),
        TokenBody {
            session: SessionId(1),
            serial: 2,
            hub: HubId(3),
            generation: Generation(4),
            expires_unix_ms: 1_000,
            user: None,
        },
    );
    let token = mint.issue(&body).0;
    assert_eq!(mint.open(&ResumeToken(token.clone()), 0), Ok(body), "as it was issued it is good");
    for at in 0..token.len() * 8 {
        let mut bytes = token.clone().into_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        // What is no text any more cannot be shown at all.
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        let refused = mint.open(&ResumeToken(changed.clone()), 0);
        assert!(
            matches!(refused, Err(TokenError::Forged | TokenError::Malformed)),
            "bit {at} of {changed}: {refused:?}"
        );
    }
    for end in 0..token.len() {
        assert!(mint.open(&ResumeToken(token[..end].to_owned()), 0).is_err(), "the first {end} characters");
        assert!(mint.open(&ResumeToken(token[end + 1..].to_owned()), 0).is_err(), "without the first {end}");
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_token_says_what_it_was_issued_with_until_its_leeway_is_over(body in body(), now in any::<u64>()) {
        let opened = mint(b"a").open(&mint(b"a").issue(&body), now);
        let last = body.expires_unix_ms.saturating_add(TOKEN_LEEWAY_MS);
        if now <= last {
            prop_assert_eq!(opened, Ok(body));
        } else {
            prop_assert_eq!(opened, Err(TokenError::Expired { ago_ms: now - body.expires_unix_ms }));
        }
    }

    #[test]
    fn the_edge_of_the_leeway_is_the_edge(body in body(), off in -2i64..3) {
        let edge = body.expires_unix_ms.saturating_add(TOKEN_LEEWAY_MS);
        let now = edge.saturating_add_signed(off);
        let opened = mint(b"a").open(&mint(b"a").issue(&body), now);
        prop_assert_eq!(opened.is_ok(), now <= edge);
    }

    #[test]
    fn a_changed_token_is_refused_whatever_is_changed(
        body in body(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 33u8..127), 1..8),
    ) {
        let token = mint(b"a").issue(&body).0;
        let mut bytes = token.clone().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let changed = String::from_utf8(bytes).expect("visible ASCII");
        prop_assume!(changed != token);
        let refused = mint(b"a").open(&ResumeToken(changed), 0);
        prop_assert!(matches!(refused, Err(TokenError::Forged | TokenError::Malformed)), "{:?}", refused);
    }

    #[test]
    fn any_text_that_was_never_issued_is_refused(text in ".{0,700}") {
        prop_assert!(mint(b"ab").open(&ResumeToken(text), 0).is_err());
    }

    #[test]
    fn while_a_key_is_changed_hubs_that_share_one_open_what_the_other_sealed_and_no_others_do(
        body in body(),
        sealer in ring(),
        opener in ring(),
    ) {
        let opened = mint(opener).open(&mint(sealer).issue(&body), 0);
        // Whoever has two keys seals with both.
        if sealer.iter().any(|key| opener.contains(key)) {
            prop_assert_eq!(opened, Ok(body));
        } else {
            prop_assert_eq!(opened, Err(TokenError::Forged));
        }
    }
}
