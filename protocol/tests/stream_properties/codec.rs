//! What a session is on its way to another hub or release: any session, in any form that a release writes,
//! is read as it was, by this release and with words in it that only the next one knows.

use crate::config;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::peer::{ClaimId, Handover, PeerMessage, SNAPSHOT_VERSIONS};
use tidegate_protocol::position::{Epoch, Generation, Offset};
use tidegate_protocol::replay::Replay;
use tidegate_protocol::session::bulk::Bulk;
use tidegate_protocol::session::channels::Channels;
use tidegate_protocol::session::headers::Headers;
use tidegate_protocol::session::record::{Profile, Record, Tokens};

type Session = Record<String>;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", "[a-z]{1,8}"]
}

fn shared() -> impl Strategy<Value = Option<Arc<str>>> {
    option::of(text().prop_map(Arc::from))
}

fn profile() -> impl Strategy<Value = Profile> {
    let headers = btree_map("[a-z-]{1,8}", "[ -~]{0,12}", 0..4).prop_map(Headers::from_iter);
    let one = (shared(), shared(), shared(), headers);
    let two = (vec("[a-z]{1,6}", 0..3), option::of("[a-z]{1,6}"), shared());
    let auth = (option::of(any::<u64>()), btree_set("[a-z]{1,6}", 0..3));
    (one, two, auth).prop_map(|((user, path, query, headers), (protocols, protocol, language), (until, channels))| {
        let granted = channels.into_iter().map(Arc::from).collect();
        Profile { user, path, query, headers, protocols, protocol, language, auth_expires_unix_ms: until, granted }
    })
}

fn session() -> impl Strategy<Value = Session> {
    let counts = (any::<u32>(), 0..1_u64 << 50, 0..1_u64 << 50, any::<(u32, u32, u32)>());
    let held = (vec(text(), 0..5), vec(text(), 0..4), vec(any::<u8>(), 0..60));
    let rest = (btree_map("[0-9a-f]{16}", any::<u64>(), 0..3), any::<u64>(), btree_set("[a-z0-9:]{1,9}", 0..4));
    (counts, held, rest, profile()).prop_map(|(counts, (outbox, untaken, state), rest, profile)| {
        let (epoch, base, received, (used, issued, attempt)) = counts;
        let (applied, app_events, names) = rest;
        let mut session = Session::new(Epoch(epoch), profile);
        session.outbox = Replay::restored(Offset(base), outbox);
        session.acked = Offset(base);
        session.received = Offset(received + untaken.len() as u64);
        session.untaken = untaken.into();
        session.state = state;
        session.tokens = Tokens { used, issued };
        session.attempt = attempt;
        session.applied = applied;
        session.app_events = app_events;
        let mut channels = Channels::default();
        for name in names {
            assert!(channels.insert(name.into()), "a set has each name once");
        }
        session.channels = channels;
        session
    })
}

fn snapshot(version: u32, record: &Session, claim: Option<u64>) -> PeerMessage<String> {
    let handover = Handover { from: HubId(1), to: HubId(2), generation: Generation(3) };
    let claim = claim.map(ClaimId);
    PeerMessage::Snapshot { session: SessionId(9), handover, claim, version, record: Box::new(record.clone()) }
}

/// Adds, to every object in it, a field that no release knows yet. Maps whose names are data stay as they are.
fn from_the_next_release(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if !["applied", "headers"].contains(&name.as_str()) {
                    from_the_next_release(field);
                }
            }
            fields.insert("of_the_next_release".into(), json!({"any": ["thing"]}));
        }
        Value::Array(items) => items.iter_mut().for_each(from_the_next_release),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn a_snapshot_of_any_version_is_read_as_it_was_written(record in session(), claim in option::of(any::<u64>())) {
        for version in SNAPSHOT_VERSIONS {
            let said = snapshot(version, &record, claim);
            let text = serde_json::to_string(&said).expect("plain values");
            let heard: PeerMessage<String> = serde_json::from_str(&text).expect("what was written is read");
            prop_assert_eq!(&heard, &said);
        }
    }

    #[test]
    fn words_of_the_next_release_in_a_snapshot_are_passed_over(record in session()) {
        let said = snapshot(1, &record, None);
        let mut text = serde_json::to_value(&said).expect("plain values");
        from_the_next_release(&mut text);
        let heard: PeerMessage<String> = serde_json::from_value(text).expect("unknown fields are ignored");
        prop_assert_eq!(heard, said);
    }

    #[test]
    fn what_a_release_leaves_out_for_being_empty_is_read_as_empty(record in session()) {
        let mut text = serde_json::to_value(&record).expect("plain values");
        let fields = text.as_object_mut().expect("an object");
        for optional in ["applied", "channels", "acked", "app_events"] {
            fields.remove(optional);
        }
        let heard: Session = serde_json::from_value(text).expect("these may be missing");
        let mut expected = record;
        expected.applied = BTreeMap::new();
        expected.channels = Channels::default();
        expected.acked = Offset(0);
        expected.app_events = 0;
        prop_assert_eq!(heard, expected);
    }

    #[test]
    fn a_bulk_is_read_as_it_was_written(record in session()) {
        let said = PeerMessage::Bulk {
            session: SessionId(9),
            bulk: Generation(7),
            version: 2,
            contents: Box::new(Bulk::of(&record)),
        };
        let text = serde_json::to_string(&said).expect("plain values");
        prop_assert_eq!(serde_json::from_str::<PeerMessage<String>>(&text).expect("what was written is read"), said);
    }

    #[test]
    fn a_session_that_was_cut_anywhere_on_its_way_is_refused_and_never_read_as_another(
        record in session(),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = serde_json::to_string(&snapshot(1, &record, None)).expect("plain values");
        let bytes = &text.as_bytes()[..cut.index(text.len())];
        prop_assert!(serde_json::from_slice::<PeerMessage<String>>(bytes).is_err());
    }
}
