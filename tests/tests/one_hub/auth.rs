//! Who a client is: JWTs by hello or by header, and what they open.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_tests::{Heard, Hub, RawClient, Setup, wait_until};

const SECRET: &str = "a secret of thirty-two bytes or more";

fn jwt(secret: &str, claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a JWT can be made")
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs() as i64;
    now + seconds
}

async fn hub() -> Hub {
    let setup = Setup::new("A");
    let key = setup.file("jwt.key", SECRET);
    setup
        .flag("--auth", "jwt")
        .flag("--jwt-key-file", key.display())
        .flag("--jwt-issuer", "tests")
        .flag("--limit-channels", 2)
        .start()
        .await
}

async fn with(hub: &Hub, auth: &str) -> RawClient {
    let mut client = RawClient::open(&hub.url("/connect")).await;
    client.frame(&json!({"type": "hello", "auth": auth})).await;
    client
}

#[tokio::test]
async fn a_user_is_known_by_a_jwt_and_joined_to_its_channels() {
    let hub = hub().await;
    let token = jwt(SECRET, &json!({"sub": "ann", "exp": in_seconds(600), "iss": "tests", "channels": ["desk"]}));
    let mut by_hello = with(&hub, &token).await;
    by_hello.expect("welcome").await;
    let bearer = format!("Bearer {token}");
    let headers = [("sec-websocket-protocol", "tidegate.v1"), ("authorization", bearer.as_str())];
    let mut by_header = RawClient::try_open(&hub.url("/connect"), &headers).await.expect("an upgrade");
    by_header.frame(&json!({"type": "hello"})).await;
    by_header.expect("welcome").await;
    assert_eq!(hub.api.publish(&json!({"user": "ann"}), "to ann").await, 2);
    assert_eq!(hub.api.publish(&json!({"channel": "desk"}), "to the desk").await, 2);
    assert_eq!(hub.api.publish(&json!({"user": "bob"}), "to bob").await, 0);
    for mut client in [by_hello, by_header] {
        assert_eq!([client.expect_text().await, client.expect_text().await], ["to ann", "to the desk"]);
    }
}

#[tokio::test]
async fn each_wrong_jwt_is_refused_with_its_code_and_words_and_without_showing_it() {
    let hub = hub().await;
    let good = json!({"sub": "ann", "exp": in_seconds(600), "iss": "tests"});
    let with_claim = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        jwt(SECRET, &claims)
    };
    for (what, token, code, words) in [
        ("another secret", jwt("another secret of more than thirty-two", &good), 4521, "signed"),
        ("expired", with_claim("exp", json!(in_seconds(-600))), 4522, "expired"),
        ("another issuer", with_claim("iss", json!("others")), 4521, "iss"),
        ("no user", with_claim("sub", Value::Null), 4521, "sub"),
        ("not yet", with_claim("nbf", json!(in_seconds(600))), 4521, "nbf"),
        ("more channels than a session may be in", with_claim("channels", json!(["a", "b", "c"])), 4531, "at most 2"),
        ("no JWT at all", "zzz.zzz".to_owned(), 4521, "three parts"),
    ] {
        let (got, reason) = with(&hub, &token).await.closed().await;
        assert_eq!(got, Some(code), "{what}: {reason}");
        assert!(reason.contains(words), "{what}: expected \"{words}\" in \"{reason}\"");
        assert!(
            !reason.contains(&token) && !hub.stderr().join("\n").contains(&token),
            "{what}: the token is never shown"
        );
    }
    let mut nameless = RawClient::open(&hub.url("/connect")).await;
    nameless.frame(&json!({"type": "hello"})).await;
    let (code, reason) = nameless.closed().await;
    assert_eq!(code, Some(4520), "{reason}");
}

/// A JWT of ann's that counts for so many seconds yet, the minute's leeway included.
fn counting(seconds: i64, channels: &[&str]) -> String {
    jwt(SECRET, &json!({"sub": "ann", "exp": in_seconds(seconds - 60), "iss": "tests", "channels": channels}))
}

/// A client whose JWT runs out soon, its welcome, and the JWT: of so many seconds, or of more where the machine was
/// too slow for those.
async fn soon_over(hub: &Hub, seconds: i64, channels: &[&str]) -> (RawClient, Value, String) {
    for doublings in 0..5 {
        let auth = counting(seconds << doublings, channels);
        let mut client = with(hub, &auth).await;
        match client.next().await {
            Heard::Frame(frame) if frame["type"] == "welcome" => return (client, frame, auth),
            Heard::Close(Some(4522), _) => {}
            other => panic!("expected a welcome, the hub sent {other:?}"),
        }
    }
    panic!("a minute is not enough to be welcomed");
}

/// Comes back with a token, and perhaps a JWT.
async fn back(hub: &Hub, token: &Value, attempt: u32, auth: Option<&str>) -> RawClient {
    let mut client = RawClient::open(&hub.url("/connect")).await;
    let mut hello = json!({"type": "hello", "token": token, "try": attempt, "old": "lost", "received": 0});
    if let Some(auth) = auth {
        hello["auth"] = json!(auth);
    }
    client.frame(&hello).await;
    client
}

#[tokio::test]
async fn a_jwt_that_runs_out_ends_the_connection_and_the_session_waits_for_a_newer_one() {
    let hub = hub().await;
    let (mut client, welcome, _) = soon_over(&hub, 3, &["desk"]).await;
    assert_eq!(welcome["auth_expires_ms"], 0, "it has expired, and counts for a little while yet: {welcome}");
    let (code, why) = client.closed().await;
    assert_eq!(code, Some(4522), "{why}");
    assert!(why.contains("fresh JWT"), "{why}");
    assert_eq!(hub.api.publish(&json!({"user": "ann"}), "while she is away").await, 1, "the session waits");
    for (what, attempt, auth) in [("the token alone", 2, None), ("an old JWT", 3, Some(counting(-5, &[])))] {
        let (code, why) = back(&hub, &welcome["token"], attempt, auth.as_deref()).await.closed().await;
        assert_eq!(code, Some(4522), "{what} opens nothing: {why}");
    }
    let mut again = back(&hub, &welcome["token"], 4, Some(&counting(600, &["desk"]))).await;
    let resumed = again.expect("welcome").await;
    assert_eq!((&resumed["session"], &resumed["resumed"]), (&welcome["session"], &json!(true)));
    assert_eq!(again.expect_text().await, "while she is away");
}

#[tokio::test]
async fn the_newest_jwt_counts_and_the_channels_follow_it_but_for_those_that_the_app_chose() {
    let hub = hub().await;
    let (_first, welcome, auth) = soon_over(&hub, 4, &["desk"]).await;
    let session = welcome["session"].as_str().expect("an id").to_owned();
    hub.api.put(&format!("/v1/sessions/{session}/channels/news")).await.expect(204);
    let mut second = back(&hub, &welcome["token"], 2, Some(&counting(600, &["team"]))).await;
    let resumed = second.expect("welcome").await;
    assert!(resumed["auth_expires_ms"].as_u64().is_some_and(|ms| ms > 400_000), "{resumed}");
    assert_eq!(hub.session(&session).await.channels, ["news", "team"]);
    assert_eq!(hub.api.publish(&json!({"channel": "desk"}), "for the desk").await, 0);
    assert_eq!(hub.api.publish(&json!({"channel": "team"}), "for the team").await, 1);
    assert_eq!(second.expect_text().await, "for the team");
    // An older one that still counts takes nothing back.
    let mut third = back(&hub, &resumed["token"], 3, Some(&counting(300, &["desk"]))).await;
    third.expect("welcome").await;
    assert_eq!(third.expect_text().await, "for the team", "it said that it has received nothing");
    assert_eq!(hub.session(&session).await.channels, ["news", "team"]);
    assert_eq!(with(&hub, &auth).await.closed().await.0, Some(4522), "the JWT that it began with has run out");
    assert_eq!(hub.api.publish(&json!({"session": session}), "still here").await, 1);
    assert_eq!(third.expect_text().await, "still here");
}

#[tokio::test]
async fn a_frame_renews_a_jwt_while_its_session_is_served() {
    let hub = hub().await;
    let (mut client, welcome, auth) = soon_over(&hub, 8, &["desk"]).await;
    let session = welcome["session"].as_str().expect("an id").to_owned();
    client.frame(&json!({"type": "auth", "auth": counting(600, &["team"])})).await;
    let regrouped = || async {
        let channels = hub.session(&session).await.channels;
        if channels == ["team"] { Ok(()) } else { Err(format!("{channels:?}")) }
    };
    wait_until("the channels of the newer JWT", regrouped).await;
    assert_eq!(with(&hub, &auth).await.closed().await.0, Some(4522), "the JWT that it began with has run out");
    assert_eq!(hub.api.publish(&json!({"channel": "team"}), "go on").await, 1);
    assert_eq!(client.expect_text().await, "go on");
}

#[tokio::test]
async fn a_frame_with_a_jwt_that_is_not_right_ends_the_connection_and_not_the_session() {
    let hub = hub().await;
    let bob = jwt(SECRET, &json!({"sub": "bob", "exp": in_seconds(600), "iss": "tests"}));
    let mut welcome = json!({"token": null});
    for (attempt, auth, code, words) in [
        (1, bob, 4521, "another user"),
        (2, counting(-5, &[]), 4522, "expired"),
        (3, counting(600, &["a", "b", "c"]), 4531, "at most 2"),
        (4, "rubbish".to_owned(), 4521, "three parts"),
    ] {
        let mut client = match attempt {
            1 => with(&hub, &counting(600, &[])).await,
            _ => back(&hub, &welcome["token"], attempt, None).await,
        };
        let session = welcome["session"].clone();
        welcome = client.expect("welcome").await;
        assert!(session.is_null() || session == welcome["session"], "the session waited");
        client.frame(&json!({"type": "auth", "auth": auth})).await;
        let (got, why) = client.closed().await;
        assert_eq!(got, Some(code), "{why}");
        assert!(why.contains(words), "expected \"{words}\" in \"{why}\"");
    }
}

#[tokio::test]
async fn a_client_that_shows_one_jwt_after_the_other_is_told_to_stop() {
    let hub = hub().await;
    let mut client = with(&hub, &counting(600, &[])).await;
    client.expect("welcome").await;
    for _ in 0..20 {
        client.frame(&json!({"type": "auth", "auth": counting(601, &[])})).await;
    }
    let (code, why) = client.closed().await;
    assert_eq!(code, Some(4500), "{why}");
    assert!(why.contains("at most one a second"), "{why}");
}

#[tokio::test]
async fn without_jwts_the_frame_is_not_looked_at() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    assert!(welcome["auth_expires_ms"].is_null(), "{welcome}");
    client.frame(&json!({"type": "auth", "auth": "rubbish"})).await;
    client.text("one").await;
    client.expect("ack").await;
}

#[tokio::test]
async fn a_client_that_shows_who_it_is_is_reset_and_not_turned_away_when_its_session_died_with_the_hub() {
    let hub = hub().await;
    let token = jwt(SECRET, &json!({"sub": "ann", "exp": in_seconds(600), "iss": "tests"}));
    let welcome = with(&hub, &token).await.expect("welcome").await;
    hub.kill();
    let next = hub.setup().start().await;
    let mut client = RawClient::open(&next.url("/connect")).await;
    let hello =
        json!({"type": "hello", "token": welcome["token"], "auth": token, "try": 2, "old": "lost", "received": 0});
    client.frame(&hello).await;
    assert_eq!(client.expect("reset").await["replaces"], welcome["session"]);
    assert_ne!(client.expect("welcome").await["session"], welcome["session"], "a new session takes its place");
    assert_eq!(next.api.publish(&json!({"user": "ann"}), "still ann").await, 1);
    assert_eq!(client.expect_text().await, "still ann");
}

#[tokio::test]
async fn a_resume_token_beside_the_jwt_of_another_user_opens_nothing_and_hurts_nobody() {
    let hub = hub().await;
    let of = |user: &str| jwt(SECRET, &json!({"sub": user, "exp": in_seconds(600), "iss": "tests"}));
    let mut ann = with(&hub, &of("ann")).await;
    let welcome = ann.expect("welcome").await;
    let hello = |auth: String| json!({"type": "hello", "token": welcome["token"], "auth": auth, "try": 2, "old": "lost", "received": 0});
    let mut bob = RawClient::open(&hub.url("/connect")).await;
    bob.frame(&hello(of("bob"))).await;
    let (code, why) = bob.closed().await;
    assert_eq!(code, Some(4510), "{why}");
    assert!(why.contains("another user") && why.contains("without it"), "{why}");
    assert_eq!(hub.api.publish(&json!({"user": "ann"}), "for ann alone").await, 1);
    assert_eq!(ann.expect_text().await, "for ann alone", "her connection went on");
    let mut again = RawClient::open(&hub.url("/connect")).await;
    again.frame(&hello(of("ann"))).await;
    assert_eq!(again.expect("welcome").await["session"], welcome["session"], "her token is as good as before");
}
