use super::*;
use tidegate_protocol::control::SessionCounts;

const OURS: &str = "\"0000000000000001\"";

fn drain_id(text: &str) -> DrainId {
    serde_json::from_str(text).expect("a drain id is 16 hexadecimal digits")
}

fn status(phase: Phase, remaining: u64) -> DrainStatus {
    DrainStatus {
        phase,
        drain: Some(drain_id(OURS)),
        sessions: Some(SessionCounts { at_start: 10, moved: 10 - remaining, remaining, ..SessionCounts::default() }),
        ..DrainStatus::default()
    }
}

#[test]
fn a_change_is_said_once_and_then_every_ten_seconds() {
    let mut watch = Watch::new(None);
    let noticing = status(Phase::Noticing, 10);
    assert_eq!(watch.observe(&noticing, 0).lines, ["noticing: 10 sessions told, nobody moved yet"]);
    assert_eq!(watch.observe(&noticing, 5_000), Step::default());
    let beat = watch.observe(&noticing, 10_000);
    assert!(beat.heartbeat && beat.lines.len() == 1, "a sign of life: {beat:?}");
    assert_eq!(watch.observe(&noticing, 19_999), Step::default());
    let moved = watch.observe(&status(Phase::Releasing, 9), 20_000);
    assert_eq!(moved.lines, ["releasing: 9 of 10 left (moved 1)"]);
    assert!(!moved.heartbeat);
}

#[test]
fn changes_that_come_fast_are_told_together() {
    let mut watch = Watch::new(None);
    watch.observe(&status(Phase::Releasing, 10), 0);
    for at_ms in [100, 300, 500, 700] {
        let phase = if at_ms % 200 == 100 { Phase::Held } else { Phase::Releasing };
        assert_eq!(watch.observe(&status(phase, 9), at_ms), Step::default(), "at {at_ms} ms");
    }
    assert_eq!(watch.wait_ms(700), 300, "the change that is not said yet is due soon");
    assert_eq!(watch.observe(&status(Phase::Held, 9), 1_000).lines, ["held: 9 of 10 left (moved 1)"]);
    assert_eq!(watch.wait_ms(1_000), QUIET_MAX_MS);
}

#[test]
fn drained_ends_at_once_and_says_so_even_right_after_another_line() {
    let mut watch = Watch::new(None);
    watch.observe(&status(Phase::Releasing, 10), 0);
    let step = watch.observe(&status(Phase::Drained, 0), 10);
    assert_eq!(step.end, Some(End::Drained));
    assert_eq!(step.lines, ["drained: 0 of 10 left (moved 10)"]);
}

#[test]
fn a_hub_that_serves_or_drains_for_somebody_else_is_no_longer_ours() {
    for other in [
        DrainStatus::default(),
        DrainStatus { drain: Some(drain_id("\"0000000000000002\"")), ..status(Phase::Noticing, 3) },
    ] {
        let mut watch = Watch::new(None);
        watch.observe(&status(Phase::Releasing, 10), 0);
        assert_eq!(watch.observe(&other, 500).end, Some(End::Gone));
        assert_eq!(watch.drain(), Some(drain_id(OURS)));
    }
}

#[test]
fn the_rest_is_waited_for_until_nobody_is_left() {
    let mut watch = Watch::new(Some(2_000));
    assert_eq!(watch.observe(&status(Phase::Drained, 4), 0).end, None);
    assert_eq!(watch.observe(&status(Phase::Drained, 2), 1_500).end, None);
    assert_eq!(watch.wait_ms(1_500), 2_000, "no longer than the settle");
    assert_eq!(watch.observe(&status(Phase::Drained, 0), 3_000).end, Some(End::Drained));
}

#[test]
fn the_rest_that_does_not_move_is_given_up_after_one_settle() {
    let mut watch = Watch::new(Some(2_000));
    assert_eq!(watch.observe(&status(Phase::Drained, 4), 100).end, None);
    assert_eq!(watch.observe(&status(Phase::Drained, 4), 2_100).end, Some(End::Drained));
}

#[test]
fn a_drain_with_newcomers_left_ends_without_waiting_for_them() {
    let mut watch = Watch::new(None);
    assert_eq!(watch.observe(&status(Phase::Drained, 4), 0).end, Some(End::Drained));
}
