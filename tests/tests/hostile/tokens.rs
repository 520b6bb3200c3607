//! Tokens in the wrong hands, or in too many.

use serde_json::json;
use tidegate_protocol::close::Close;
use tidegate_tests::{Hub, RawClient, Setup};

async fn hub() -> Hub {
    Setup::new("A").start().await
}

/// The metric of tokens that were refused because a newer one was used.
async fn reused(hub: &Hub) -> u64 {
    let text = hub.api.get("/metrics").await;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    let line = text.lines().find(|line| line.starts_with("tidegate_rejected_total") && line.contains("token_reuse"));
    line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default() as u64
}

#[tokio::test]
async fn a_duplicated_tab_takes_over_once_and_the_first_one_cannot_steal_back() {
    let hub = hub().await;
    let url = hub.url("/connect");
    let (mut first, welcome) = RawClient::welcomed(&url).await;
    let token = welcome["token"].clone();
    // The copy of the tab has the same token and says hello with it.
    let mut copy = RawClient::back(&url, &token, 2, 0).await;
    let taken_over = copy.expect("welcome").await;
    assert_eq!(taken_over["session"], welcome["session"]);
    let (code, reason) = first.closed().await;
    assert_eq!(code, Some(Close::Displaced.code()), "a code that ends it for good: {reason}");
    // A tab that ignores the code and says the same hello again is refused.
    let (code, reason) = RawClient::back(&url, &token, 2, 0).await.closed().await;
    assert_eq!(code, Some(Close::TokenReuse.code()), "the same try: {reason}");
    // Once the copy has used the token that it was given, the first one is void, whatever the try.
    drop(copy);
    let mut copy = RawClient::back(&url, &taken_over["token"], 3, 0).await;
    copy.expect("welcome").await;
    for attempt in [3, 4, 9] {
        let (code, reason) = RawClient::back(&url, &token, attempt, 0).await.closed().await;
        assert_eq!(code, Some(Close::TokenReuse.code()), "try {attempt}: {reason}");
    }
    assert!(reused(&hub).await >= 4, "and it is counted");
    let session = json!({"session": welcome["session"]});
    assert_eq!(hub.api.publish(&session, "still yours").await, 1);
    assert_eq!(copy.expect_text().await, "still yours");
}

#[tokio::test]
async fn two_clients_with_one_token_end_with_one_of_them_and_nothing_comes_twice() {
    let hub = hub().await;
    let url = hub.url("/connect");
    let (_first, welcome) = RawClient::welcomed(&url).await;
    let session = json!({"session": welcome["session"]});
    for text in ["one", "two"] {
        hub.api.publish(&session, text).await;
    }
    // Both say hello at the same time, with the same try, again and again.
    let mut winners = 0;
    for _ in 0..20 {
        let (mut a, mut b) = tokio::join!(
            RawClient::back(&url, &welcome["token"], 2, 0),
            RawClient::back(&url, &welcome["token"], 2, 0)
        );
        for client in [&mut a, &mut b] {
            if let tidegate_tests::Heard::Frame(frame) = client.next().await
                && frame["type"] == "welcome"
            {
                winners += 1;
                assert_eq!((client.expect_text().await, client.expect_text().await), ("one".into(), "two".into()));
            }
        }
    }
    assert_eq!(winners, 1, "a token and a try are good for one connection");
    assert_eq!(hub.in_phase("attached").await.len() + hub.in_phase("detached").await.len(), 1);
}

#[tokio::test]
async fn a_token_of_one_session_opens_no_other_and_a_changed_one_opens_none() {
    let hub = hub().await;
    let url = hub.url("/connect");
    let (_victim, welcome) = RawClient::welcomed(&url).await;
    let (_attacker, own) = RawClient::welcomed(&url).await;
    let token = welcome["token"].as_str().expect("a token is a text").to_owned();
    let own = own["token"].as_str().expect("a token is a text").to_owned();
    // Half of one and half of the other; each character changed; cut short; lengthened.
    let mut forged = vec![format!("{}{}", &token[..token.len() / 2], &own[own.len() / 2..])];
    forged.extend((0..token.len()).step_by(7).map(|at| {
        let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &token[..at], &token[at + 1..])
    }));
    forged.extend([token[..token.len() - 1].to_owned(), format!("{token}A"), String::new()]);
    for bad in forged {
        let mut thief = RawClient::back(&url, &json!(bad), 2, 0).await;
        let (code, reason) = thief.closed().await;
        let codes = [Close::BadToken.code(), Close::ProtocolError.code()];
        assert!(code.is_some_and(|code| codes.contains(&code)), "{bad}: {code:?} {reason}");
    }
    assert_eq!(hub.in_phase("attached").await.len(), 2, "both are where they were");
}
