//! The 26 rules of ownership and handover, and for each the checks that attack it. For every rule at least
//! one check was shown to fail when the rule is dropped: by a mutant of the model, of the drain's search, or
//! here ([`mutants`]). A name in this list that no test bears any more fails this test.

mod mutants;

use std::path::{Path, PathBuf};

/// One rule: what it says in short, which tests fail without it, and which tests show that they would.
struct Rule {
    number: usize,
    says: &'static str,
    /// Tests that attack it.
    checks: &'static [&'static str],
    /// Tests that drop it and see that a check notices.
    mutants: &'static [&'static str],
}

const RULES: [Rule; 26] = [
    Rule {
        number: 1,
        says: "a connection is counted or deaf; a frozen owner reads nothing",
        checks: &[
            "a_frozen_owner_reads_nothing_from_the_old_connection_and_gives_it_nothing",
            "commit_makes_the_old_connection_deaf_and_its_last_words_are_move_and_1012",
            "a_takeover_closes_the_displaced_connection_for_good_and_fixes_received_in_the_same_step",
        ],
        mutants: &["a_frozen_owner_that_reads_on_is_caught"],
    },
    Rule {
        number: 2,
        says: "no app message before welcome; only a hello is answered by reset",
        checks: &["an_impatient_client_with_bytes_under_way_both_ways_loses_nothing"],
        mutants: &["an_app_message_before_welcome_is_caught"],
    },
    Rule {
        number: 3,
        says: "a position per connection, from welcome.from on",
        checks: &[
            "what_was_not_acked_comes_again_on_the_next_connection_from_the_clients_own_place",
            "what_was_acked_between_hello_and_welcome_is_neither_sent_again_nor_called_a_gap",
        ],
        mutants: &["a_connection_that_starts_one_position_off_is_caught"],
    },
    Rule {
        number: 4,
        says: "hello changes nothing; the old connection counts until welcome",
        checks: &["a_hello_that_is_refused_changes_nothing_for_the_connection_at_work"],
        mutants: &["an_old_connection_that_still_counts_is_caught"],
    },
    Rule {
        number: 5,
        says: "acks are cumulative, and say taken; untaken messages travel",
        checks: &["a_message_is_acked_only_once_the_app_has_taken_it"],
        mutants: &["an_ack_before_the_app_took_the_message_is_caught", "untaken_messages_that_stay_behind_are_caught"],
    },
    Rule {
        number: 6,
        says: "every freeze offers a new generation, a thaw raises the own, a commit needs the held of now",
        checks: &[
            "a_thaw_raises_the_generation_above_the_offer_and_the_next_freeze_offers_a_new_one",
            "a_held_for_an_old_freeze_is_answered_aborted_and_its_holder_drops_the_copy",
            "a_repeated_claim_after_a_thaw_never_reenters_the_old_freeze_and_is_told_busy",
        ],
        mutants: &["a_commit_on_any_held_is_caught", "a_thaw_that_keeps_the_generation_is_caught"],
    },
    Rule {
        number: 7,
        says: "commit is the owner's step on held alone",
        checks: &["a_push_survives_thaw_doubled_messages_and_repeated_commits"],
        mutants: &["a_commit_without_held_is_caught"],
    },
    Rule {
        number: 8,
        says: "committed is repeated until live, the data kept; only live counts as moved",
        checks: &[
            "committed_is_repeated_until_live_is_in_and_the_data_is_kept_until_then",
            "data_that_nobody_confirmed_is_kept_for_a_limited_time_and_leaves_a_tombstone_that_shows_the_way",
            "a_hub_that_ends_in_good_order_while_sessions_come_and_go_loses_none",
        ],
        mutants: &[
            "counting_a_committed_session_as_moved_is_caught",
            "a_committed_that_is_said_only_once_is_caught",
            "kept_data_that_resets_its_client_without_asking_the_others_is_caught",
            "a_session_that_counts_as_moved_before_it_is_live_is_caught",
            "a_hub_that_ends_while_a_copy_of_it_waits_for_its_predecessor_is_caught",
        ],
    },
    Rule {
        number: 9,
        says: "a copy goes live on committed alone",
        checks: &[
            "a_copy_goes_live_on_committed_alone",
            "a_copy_that_ran_out_leaves_its_generation_so_that_an_old_snapshot_never_comes_to_life",
        ],
        mutants: &[
            "a_copy_that_goes_live_on_its_time_to_live_is_caught",
            "a_copy_that_goes_live_when_its_predecessor_is_gone_is_caught",
        ],
    },
    Rule {
        number: 10,
        says: "the bulk goes before the freeze, which carries the difference and has a limit",
        checks: &[
            "a_heavy_session_is_served_until_its_bulk_is_held_and_the_freeze_carries_the_difference",
            "a_bulk_and_its_difference_are_the_session_whatever_happened_between_them",
            "a_bulk_that_is_lost_doubled_or_late_costs_no_message",
            "the_freeze_of_a_heavy_session_carries_little_more_than_that_of_a_small_one",
            "the_limit_of_a_freeze_doubles_with_each_failure_and_the_third_reports_the_session_as_blocked",
        ],
        mutants: &[
            "a_difference_that_is_put_on_whatever_is_there_is_caught",
            "a_freeze_without_a_limit_is_caught",
            "a_freeze_that_carries_everything_is_caught",
        ],
    },
    Rule {
        number: 11,
        says: "a try is used once, and the owner judges",
        checks: &[
            "a_claim_whose_try_is_not_above_the_highest_seen_is_refused_for_good",
            "two_clients_with_one_token_never_have_two_owners_and_each_hears_in_order",
        ],
        mutants: &["a_try_that_is_not_looked_at_is_caught"],
    },
    Rule {
        number: 12,
        says: "the owner is looked for at every known hub",
        checks: &[
            "an_owner_is_claimed_as_soon_as_it_answers",
            "a_trail_is_followed_to_the_hub_with_the_highest_generation",
            "two_tombstones_that_point_at_each_other_lead_to_a_reset_and_not_in_circles",
        ],
        mutants: &["a_claim_that_asks_nobody_else_is_caught"],
    },
    Rule {
        number: 13,
        says: "reset on knowledge only",
        checks: &["a_reset_comes_only_when_every_known_hub_said_unknown", "one_silent_hub_means_retry_and_not_reset"],
        mutants: &["silence_taken_for_knowledge_is_caught"],
    },
    Rule {
        number: 14,
        says: "waiting for a silent owner ends in a reset, under a new session",
        checks: &[
            "waiting_for_a_silent_hub_ends_in_a_reset_once_the_client_is_orphaned",
            "an_orphaned_client_is_reset_from_a_copy_and_the_owner_that_learns_it_ends_the_session",
            "a_client_that_waited_is_reset_and_told",
        ],
        mutants: &["a_wait_for_a_silent_hub_that_never_ends_is_caught"],
    },
    Rule {
        number: 15,
        says: "a client that comes back is sent away while chance explains it, and only while its old connection works",
        checks: &[
            "a_leaving_hub_sends_an_open_client_away_each_time_until_its_drain_says_that_it_stays",
            "how_often_is_beyond_chance_follows_the_number_of_hubs_and_of_clients",
            "nobody_is_found_unroutable_before_half_of_the_settle_however_often_he_came_back",
            "a_leaving_hub_resumes_a_client_whose_connection_is_lost_at_once",
        ],
        mutants: &["bounces_that_are_never_counted_are_caught"],
    },
    Rule {
        number: 16,
        says: "calls for a frozen session wait, and follow it",
        checks: &[
            "a_call_that_comes_at_a_bad_moment_is_numbered_once_or_answered_and_never_forgotten",
            "calls_that_wait_at_a_copy_are_not_forgotten_when_it_will_never_go_live",
            "calls_for_a_session_reach_it_from_either_hub_before_and_after_it_moved",
        ],
        mutants: &["calls_that_are_forgotten_after_the_freeze_are_caught"],
    },
    Rule {
        number: 17,
        says: "fleet-wide messages are stamped, and the stamps travel",
        checks: &["fleet_wide_messages_reach_everyone_once_and_in_order_while_sessions_move"],
        mutants: &["stamps_that_stay_behind_are_caught"],
    },
    Rule {
        number: 18,
        says: "told safe means on disk",
        checks: &[
            "a_parked_session_is_written_before_its_connection_is_closed_with_1012",
            "what_was_said_holds_after_a_crash_at_any_operation",
            "whoever_was_told_parked_resumes_after_a_kill_in_the_middle_of_parking",
        ],
        mutants: &["a_park_that_is_told_before_it_is_written_is_caught"],
    },
    Rule {
        number: 19,
        says: "held means in the memory of a ready peer",
        checks: &["a_peer_that_is_draining_itself_takes_nobody"],
        mutants: &["a_peer_that_is_taken_for_ready_is_caught"],
    },
    Rule {
        number: 20,
        says: "the data directory is locked; who has parked takes nothing up for a client",
        checks: &[
            "a_second_process_waits_for_the_directory_and_gets_it_when_the_first_ends",
            "after_parking_every_hello_is_answered_retry_and_a_claim_takes_it_up",
        ],
        mutants: &["a_directory_that_is_not_locked_is_caught", "a_parked_session_that_welcomes_is_caught"],
    },
    Rule {
        number: 21,
        says: "drained: nobody of the starting population remains; who comes is handed on",
        checks: &[
            "whoever_comes_after_the_end_is_handed_on",
            "a_drain_whose_clients_and_peers_answer_or_never_do_ends_with_a_report",
        ],
        mutants: &[
            "a_machine_that_nobody_wakes_at_its_deadline_is_caught",
            "a_drain_that_rests_after_its_end_is_caught",
        ],
    },
    Rule {
        number: 22,
        says: "one outcome per session",
        checks: &[
            "an_account_that_does_not_add_up_is_named_with_its_sums",
            "whatever_happens_it_ends_by_its_deadline_with_one_report_that_adds_up",
        ],
        mutants: &["an_outcome_of_a_session_that_is_told_for_another_is_caught"],
    },
    Rule {
        number: 23,
        says: "no eligible peer: park; time is kept for pushing",
        checks: &[
            "a_hub_that_is_alone_parks_everybody_after_the_notice",
            "a_grant_ends_before_the_time_that_is_kept_for_pushing",
        ],
        mutants: &["a_hub_that_waits_for_a_peer_that_is_not_there_is_caught"],
    },
    Rule {
        number: 24,
        says: "using a token voids the older ones, and tokens run out",
        checks: &["using_a_token_voids_the_older_ones_and_itself_stays_good", "a_token_expires_after_its_leeway"],
        mutants: &["tokens_that_are_never_void_are_caught", "a_token_whose_expiry_is_not_looked_at_is_caught"],
    },
    Rule {
        number: 25,
        says: "peer calls are signed over everything, and taken once",
        checks: &[
            "a_change_of_body_path_method_time_or_addressee_is_noticed",
            "a_call_is_taken_once_even_by_a_clone",
            "an_unsigned_a_forged_a_replayed_and_a_late_call_are_refused_and_counted",
        ],
        mutants: &["a_signature_that_does_not_cover_the_body_is_caught"],
    },
    Rule {
        number: 26,
        says: "a claim says which snapshot versions it reads",
        checks: &[
            "a_peer_that_reads_only_the_old_version_gets_everything_in_it",
            "a_snapshot_of_the_version_before_is_read_and_written_as_it_was",
            "a_claimant_that_reads_no_snapshot_version_of_ours_is_refused_without_a_freeze",
        ],
        mutants: &["a_claim_whose_versions_are_not_looked_at_is_caught"],
    },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the crates whose tests are named here.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["protocol", "server/src", "tests/tests"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry of a folder that was just read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found
                    .push(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
    }
    found
}

/// Whether a test of this name is there: the attribute stands on one of the three lines before it.
fn is_test(sources: &[String], name: &str) -> bool {
    let head = format!("fn {name}()");
    sources.iter().any(|source| {
        let lines: Vec<&str> = source.lines().collect();
        lines.iter().enumerate().any(|(at, line)| {
            let before = &lines[at.saturating_sub(3)..at];
            line.contains(&head) && before.iter().any(|line| line.contains("test]") || line.contains("test("))
        })
    })
}

#[test]
fn each_rule_has_checks_that_exist_and_one_that_was_seen_to_fail_without_it() {
    let sources = sources();
    assert!(sources.len() > 100, "the sources were not found: {}", sources.len());
    let mut missing = Vec::new();
    for (at, rule) in RULES.iter().enumerate() {
        assert_eq!(rule.number, at + 1, "the list has each rule once, in order");
        assert!(
            !rule.checks.is_empty() && !rule.mutants.is_empty(),
            "rule {} ({}) is unproven",
            rule.number,
            rule.says
        );
        let named = rule.checks.iter().chain(rule.mutants);
        missing
            .extend(named.filter(|name| !is_test(&sources, name)).map(|name| format!("rule {}: {name}", rule.number)));
    }
    assert!(missing.is_empty(), "these tests are named and do not exist:\n{}", missing.join("\n"));
}

#[test]
fn a_name_that_no_test_bears_is_noticed() {
    let sources = ["#[test]\nfn a_sentence() {}\nfn a_helper() {}\n\n\n\n\nfn another() {}\n".to_owned()];
    assert!(is_test(&sources, "a_sentence"));
    assert!(!is_test(&sources, "another") && !is_test(&sources, "nothing"));
}
