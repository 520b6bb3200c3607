//! API.md says what the API does: no word of it is missing there.

use super::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::control::{
    DrainRequest, DrainResult, HubInfo, MessageCounts, Phase, PublishRequest, ReportSessions, SessionPhase,
};

const PAGE: &str = include_str!("../../../API.md");

#[track_caller]
fn named(word: &str) {
    assert!(PAGE.contains(&format!("`{word}`")), "API.md does not name `{word}`");
}

/// The fields that a body may have, as the refusal of a wrong one lists them.
fn fields_of<T: DeserializeOwned>() -> Vec<String> {
    let refused = serde_json::from_str::<T>(r#"{"no such field":1}"#).map(drop).expect_err("refused").to_string();
    let listed = refused.split_once("expected").map(|(_, listed)| listed.to_owned()).unwrap_or_default();
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn keys_of(value: impl Serialize) -> Vec<String> {
    let value = serde_json::to_value(value).expect("plain values");
    value.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn the_page_names_every_field_that_may_be_sent_and_every_word_that_comes_back() {
    let sent = [fields_of::<DrainRequest>(), fields_of::<PublishRequest>()];
    assert!(sent.iter().all(|fields| fields.len() > 4), "{sent:?}");
    let counts = [keys_of(ReportSessions::default()), keys_of(MessageCounts::default())];
    for word in sent.iter().chain(&counts).flatten() {
        named(word);
    }
    Phase::ALL.iter().for_each(|phase| named(phase.as_str()));
    use DrainResult::{Cancelled, Drained, Forced, GateFailed, Unroutable};
    for result in [Drained, Forced, Unroutable, GateFailed, Cancelled] {
        named(result.as_str());
    }
    use SessionPhase::{Attached, Copy, Detached, Frozen, Parked};
    for phase in [Attached, Detached, Frozen, Copy, Parked] {
        named(serde_json::to_value(phase).expect("a word").as_str().expect("a word"));
    }
}

#[tokio::test]
async fn what_the_page_says_of_a_session_and_of_the_listing_is_what_comes_back() {
    let bench = bench(&[]).await;
    bench.session(1, Some("ann"), &[]);
    let shown = bench.get(&format!("/v1/sessions/{}", id(1))).await.ok(200);
    keys_of(&shown).iter().for_each(|field| named(field));
    bench.get("/v1/sessions?limit=1000").await.ok(200);
    bench.get("/v1/sessions?limit=1001").await.problem(400);
    let hub: HubInfo = serde_json::from_value(bench.get("/v1/hub").await.ok(200)).expect("as the type says");
    assert_eq!(hub.sessions, 1);
}

#[tokio::test]
async fn the_pages_example_of_a_publish_is_taken() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, Some("ann"), &[]);
    let body = PAGE.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).expect("a body");
    assert_eq!(bench.publish(body.to_owned()).await.ok(200)["sessions"], 1);
    assert_eq!(outbox(&cell).len(), 1);
}
