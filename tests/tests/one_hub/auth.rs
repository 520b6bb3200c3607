//! Who a client is: JWTs by hello or by header, and what they open.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_tests::{Hub, RawClient, Setup};

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

#[tokio::test]
async fn a_session_ends_when_its_jwt_expires() {
    let hub = hub().await;
    let token = jwt(SECRET, &json!({"sub": "ann", "exp": in_seconds(2), "iss": "tests"}));
    let mut client = with(&hub, &token).await;
    client.expect("welcome").await;
    assert_eq!(client.closed().await.0, Some(4522));
    assert_eq!(hub.api.publish(&json!({"user": "ann"}), "too late").await, 0);
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
