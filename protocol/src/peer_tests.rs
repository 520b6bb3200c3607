use super::*;
use crate::id::HubId;
use crate::position::Epoch;
use crate::session::record::Profile;

/// A snapshot as the release that knew version 1 alone wrote it.
const SNAPSHOT_1: &str = include_str!("../tests/records/snapshot-1.json");

#[test]
fn a_snapshot_of_the_version_before_is_read_and_written_as_it_was() {
    let read: PeerMessage<String> = serde_json::from_str(SNAPSHOT_1).expect("version 1 is still read");
    let PeerMessage::Snapshot { version: 1, record, claim: Some(ClaimId(77)), .. } = &read else {
        panic!("expected a snapshot of version 1: {read:?}")
    };
    assert_eq!(record.outbox.iter().collect::<Vec<_>>(), ["three", "four"]);
    assert_eq!(
        (record.outbox.base(), record.received, record.state.as_slice()),
        (Offset(2), Offset(5), &b"seat 7"[..])
    );
    let written = serde_json::to_value(&read).expect("plain values");
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(SNAPSHOT_1).expect("JSON"));
}

#[test]
fn what_this_release_says_of_a_session_is_recorded_and_a_bulk_with_its_difference_is_the_snapshot() {
    let said = [
        include_str!("../tests/records/snapshot-2.json"),
        include_str!("../tests/records/bulk-2.json"),
        include_str!("../tests/records/difference-2.json"),
    ];
    let [snapshot, bulk, difference] = said.map(|text| {
        let read: PeerMessage<String> = serde_json::from_str(text).expect("version 2 is read");
        let written = serde_json::to_value(&read).expect("plain values");
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
        read
    });
    let PeerMessage::Snapshot { version: 2, record, .. } = snapshot else {
        panic!("expected a snapshot: {snapshot:?}")
    };
    let PeerMessage::Bulk { bulk: number, contents, .. } = bulk else { panic!("expected a bulk: {bulk:?}") };
    let PeerMessage::Difference { bulk: stands_on, difference, .. } = difference else {
        panic!("expected a difference: {difference:?}")
    };
    assert_eq!((stands_on, contents.with(&difference)), (number, Some(*record)));
}

#[test]
fn the_newest_version_that_both_know_is_spoken() {
    assert_eq!(common_version(&SNAPSHOT_VERSIONS, &[1]), Some(1));
    assert_eq!(common_version(&SNAPSHOT_VERSIONS, &[1, 2]), Some(2));
    assert_eq!(common_version(&SNAPSHOT_VERSIONS, &[3, 2]), Some(2), "a rollback from the next release");
    assert_eq!(common_version(&SNAPSHOT_VERSIONS, &[99]), None);
}

#[test]
fn a_release_that_knows_no_bulks_leaves_them_out_and_says_nothing() {
    /// What that release knew.
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case", tag = "say")]
    enum Before {
        Held {},
    }
    let record = Record::<u8>::new(Epoch(1), Profile::default());
    let bulk = PeerMessage::Bulk {
        session: SessionId(1),
        bulk: Generation(2),
        version: SNAPSHOT_VERSION,
        contents: Box::new(Bulk::of(&record)),
    };
    let text = serde_json::to_string(&bulk).expect("plain values");
    assert!(serde_json::from_str::<Before>(&text).is_err(), "an unknown kind is left out by its reader: {text}");
    let held: PeerMessage<u8> = PeerMessage::Held {
        session: SessionId(1),
        handover: Handover { from: HubId(1), to: HubId(2), generation: Generation(2) },
    };
    let text = serde_json::to_string(&held).expect("plain values");
    assert!(matches!(serde_json::from_str(&text), Ok(Before::Held {})), "{text}");
}
