//! Each target for some seconds, on stable Rust: its corpus, then mutations by a seed that a failure names.
//! `TIDEGATE_FUZZ_SECONDS` and `TIDEGATE_FUZZ_SEED` ask for more, and for others.

use std::sync::Mutex;
use std::time::Duration;
use tidegate_fuzz::engine::{Chance, attack, mutate};
use tidegate_fuzz::meter::Meter;
use tidegate_fuzz::targets::TARGETS;

#[global_allocator]
static METER: Meter = Meter;

/// Two at a time, as the machine has processors; the budget of each is its own.
static LANES: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
const SECONDS: u64 = 3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn attacked(name: &str) {
    let at = TARGETS.iter().position(|target| target.name == name).expect("a target of that name");
    let _lane = LANES[at % 2].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = setting("TIDEGATE_FUZZ_SECONDS").unwrap_or(SECONDS);
    let seed = setting("TIDEGATE_FUZZ_SEED").unwrap_or(2026);
    let tried = attack(&TARGETS[at], Duration::from_secs(seconds), seed);
    println!("{name}: {tried} inputs, seed {seed}");
    assert!(tried > 20, "{name}: only {tried} inputs were tried");
}

macro_rules! attacks {
    ($($name:ident => $sentence:ident,)*) => {
        $(#[test]
        fn $sentence() {
            attacked(stringify!($name));
        })*

        #[test]
        fn every_target_has_its_attack() {
            let attacked = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|target| attacked.contains(&target.name)) && attacked.len() == TARGETS.len());
        }
    };
}

attacks! {
    client_frames => any_text_is_a_frame_or_an_app_message_or_is_refused_in_words,
    client_machine => a_client_among_hubs_that_say_anything_never_falls_and_never_leaves_its_host,
    drain_requests => any_policy_is_planned_within_its_deadline_or_refused,
    tokens => no_text_opens_a_session_that_nobody_issued_it_for,
    config => any_setting_is_taken_or_named,
    peers_file => any_peers_file_gives_a_bounded_list,
    parked_records => any_record_can_be_used_or_is_refused,
    parked_log => no_damage_to_the_log_loses_what_stands_before_it_or_brings_anybody_back,
    connection => a_client_may_say_any_bytes_in_any_pieces_and_the_hub_lives,
    ws_frames => frames_say_what_they_say_to_tungstenite_however_they_are_cut,
    private_api => any_request_is_answered_by_a_status_that_blames_the_right_one,
    peer_link => whatever_a_peer_says_signed_or_not_the_hub_lives,
    app_answers => whatever_an_app_answers_the_hub_lives,
}

#[test]
fn one_seed_makes_the_same_inputs_for_ever() {
    let corpus = [b"{\"a\":12}".to_vec(), b"hello".to_vec()];
    let made = |seed| {
        let mut chance = Chance(seed);
        (0..50).map(|_| mutate(&corpus, &["word"], &mut chance)).collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
