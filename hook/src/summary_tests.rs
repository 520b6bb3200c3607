use super::*;
use crate::text::LINE_MAX_CHARS;
use serde_json::json;

fn sample() -> DrainReport {
    serde_json::from_value(json!({
        "drain": "0000000000000001", "result": "drained", "started_at": "2026-11-22T20:00:00Z", "took_ms": 42_100,
        "sessions": { "at_start": 500, "arrived": 3, "moved": 497, "parked": 0, "left": 5, "forced": 0, "unconfirmed": 0, "remaining": 1, "resumed": 490 },
        "cut": 0, "unroutable": 2,
        "clients": { "notified": 500, "ready": 420, "busy": 12, "granted": 11 },
        "messages": { "replayed": 20, "duplicates_dropped": 3, "gaps": 0, "lost": 0 },
        "gap_ms": { "p50": 12, "p99": 84, "max": 1400 },
        "stages": [],
        "successors": [{ "hub": "00000000000000aa", "url": null, "moved": 497, "state": "serving" }],
        "trigger": null, "why": null
    }))
    .expect("the sample is a report of the contract")
}

#[test]
fn a_report_reads_as_an_account() {
    let expected = [
        "drained in 42 s: 500 sessions at the start, 3 arrived",
        "moved 497, parked 0, ended 5, forced 0, unconfirmed 0, left here 1; cut 0, unroutable 2",
        "clients: notified 500, ready 420, busy 12 (11 given time), resumed 490",
        "messages: lost 0, gaps 0, replayed 20, duplicates dropped 3",
        "without service: half of them up to 12 ms, 99 % up to 84 ms, longest 1.4 s",
        "to hub 00000000000000aa: 497 sessions, it is serving",
    ];
    assert_eq!(report(&sample()), expected);
}

#[test]
fn the_longest_report_fits_in_what_the_agent_keeps() {
    let mut worst = sample();
    let huge = u64::MAX;
    worst.took_ms = huge;
    worst.sessions.counts = SessionCounts {
        at_start: huge,
        arrived: huge,
        moved: huge,
        parked: huge,
        left: huge,
        forced: huge,
        unconfirmed: huge,
        remaining: huge,
    };
    worst.why = Some("because ".repeat(500));
    let hub = SuccessorReport { url: Some("wss://".repeat(100)), moved: huge, ..worst.successors[0].clone() };
    worst.successors = vec![hub; 50];
    let lines = report(&worst);
    assert!(lines.iter().all(|line| line.chars().count() <= LINE_MAX_CHARS), "{lines:#?}");
    // Room for the lines that say what was undone and how it ended.
    let chars: usize = lines.iter().map(|line| line.chars().count() + 1).sum();
    assert!(chars <= 2_000 - 5 * LINE_MAX_CHARS, "{chars} characters: {lines:#?}");
}

#[test]
fn strict_looks_at_everybody_who_did_not_go_in_good_order() {
    let clean = SessionCounts { at_start: 9, moved: 5, parked: 3, left: 1, ..SessionCounts::default() };
    assert_eq!(not_clean(&clean, 0), None);
    assert_eq!(not_clean(&clean, 2).as_deref(), Some("2 cut"));
    let bad = SessionCounts { forced: 1, unconfirmed: 2, remaining: 3, ..clean };
    assert_eq!(not_clean(&bad, 0).as_deref(), Some("1 forced, 2 unconfirmed, 3 left here"));
}

#[test]
fn a_plan_is_a_table() {
    let answer: PlanAnswer = serde_json::from_value(json!({
        "sessions": 500,
        "stages": [{ "begin_ms": 15_000, "span_ms": 6_000, "count": 5 }, { "begin_ms": 21_000, "span_ms": 54_000, "count": 495 }],
        "total_ms": 75_000, "deadline_ms": 300_000, "push_reserve_ms": 20_000,
        "successors": [{ "hub": "00000000000000aa", "url": "wss://b", "sessions": 500 }],
        "fits": false, "blockers": ["the successor has room for 200"]
    }))
    .unwrap();
    let expected = [
        "plan for 500 sessions",
        "  stage     begins      takes   sessions",
        "      1      +15 s        6 s          5",
        "      2      +21 s       54 s        495",
        "takes 1m 15s of 5m; the last 20 s are kept for pushing who is left",
        "to hub 00000000000000aa by wss://b: 500 sessions",
        "in the way: the successor has room for 200",
        "it does NOT fit the deadline",
    ];
    assert_eq!(plan(&answer), expected);
}

#[test]
fn a_plan_that_parks_everybody_says_so_and_why_instead_of_stages() {
    let answer: PlanAnswer = serde_json::from_value(json!({
        "sessions": 500, "stages": [], "total_ms": 15_000, "deadline_ms": 300_000, "push_reserve_ms": 20_000,
        "parks": { "sessions": 500, "at_ms": 15_000, "why": "no other hub is known" },
        "successors": [], "fits": true, "blockers": ["the peer http://b does not believe this hub"]
    }))
    .unwrap();
    let expected = [
        "plan for 500 sessions",
        "nobody would be moved: after 15 s all 500 sessions would be parked here for the next process, because no other hub is",
        "known",
        "in the way: the peer http://b does not believe this hub",
        "it fits",
    ];
    assert_eq!(plan(&answer), expected);
}

#[test]
fn a_status_says_why_nobody_takes_sessions() {
    let seen =
        DrainStatus { phase: Phase::Noticing, blockers: vec!["its key differs".to_owned()], ..DrainStatus::default() };
    assert!(status(&seen).contains(&"in the way: its key differs".to_owned()), "{:?}", status(&seen));
    assert_eq!(progress::blocked(&seen), ["in the way: its key differs"]);
}

#[test]
fn a_hub_without_a_drain_serves() {
    assert_eq!(status(&DrainStatus::default()), ["serving: no drain"]);
}
