//! Publishing: to whom, what, and once.

use super::sessions::park;
use super::*;
use serde_json::json;

fn text(text: &str) -> Message {
    Message::text(text)
}

#[tokio::test]
async fn a_message_reaches_a_session_a_user_a_channel_or_everybody_in_order() {
    let bench = bench(&[]).await;
    let (one, two) = (bench.session(1, Some("ann"), &["news"]), bench.session(2, None, &["news"]));
    for (to, sessions) in [
        (format!(r#"{{"session":"{}"}}"#, id(1)), 1),
        (r#"{"user":"ann"}"#.into(), 1),
        (r#"{"channel":"news"}"#.into(), 2),
        (r#"{"all":true}"#.into(), 2),
        (r#"{"user":"bob"}"#.into(), 0),
        (r#"{"channel":"none"}"#.into(), 0),
    ] {
        for scope in ["fleet", "hub"] {
            let answer =
                bench.publish(format!(r#"{{"to":{to},"text":"{scope}{sessions}","scope":"{scope}"}}"#)).await.ok(200);
            assert_eq!(answer, json!({"sessions": sessions, "hubs": 1, "unreachable": []}), "{to} {scope}");
        }
    }
    let all = ["fleet1", "hub1", "fleet1", "hub1", "fleet2", "hub2", "fleet2", "hub2"].map(text);
    assert_eq!(outbox(&one), all);
    assert_eq!(outbox(&two), all[4..]);
}

#[tokio::test]
async fn the_senders_bytes_are_kept() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, None, &[]);
    bench.publish(r#"{"to":{"all":true},"json":  {"b" : 1.10,"a":[ 1e2 ],"ü":"\u00fc"} }"#).await.ok(200);
    bench.publish(r#"{"to":{"all":true},"json":null}"#).await.ok(200);
    bench.publish(r#"{"to":{"all":true},"text":"\u0001ü"}"#).await.ok(200);
    bench.publish(r#"{"to":{"all":true},"base64":"AP8B"}"#).await.ok(200);
    let expected =
        [text(r#"{"b" : 1.10,"a":[ 1e2 ],"ü":"\u00fc"}"#), text("null"), text("\u{1}ü"), Message::binary(&[0, 255, 1])];
    assert_eq!(outbox(&cell), expected);
}

#[tokio::test]
async fn a_publish_to_a_session_whose_client_acks_nothing_is_refused_until_it_does() {
    let bench = bench(&["--limit-unacked-messages", "1"]).await;
    let (slow, other) = (bench.session(1, None, &[]), bench.session(2, None, &[]));
    let to = |session| format!(r#"{{"to":{{"session":"{}"}},"text":"a"}}"#, id(session));
    bench.publish(to(1)).await.ok(200);
    let refused = bench.publish(to(1)).await;
    refused.says(503, "slow_consumer");
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    bench.publish(to(2)).await.ok(200);
    assert_eq!((outbox(&slow), outbox(&other)), (vec![text("a")], vec![text("a")]));
}

#[tokio::test]
async fn a_repeat_with_the_same_key_is_answered_like_the_first_and_not_sent() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, None, &[]);
    let first = r#"{"to":{"all":true},"text":"a","idempotency_key":"k"}"#;
    // The same request, written in another way.
    let again = r#"{ "idempotency_key":"k", "scope":"fleet", "text":"a", "to":{"all":true} }"#;
    let (one, two, three) = tokio::join!(bench.publish(first), bench.publish(again), bench.publish(first));
    bench.session(2, None, &[]);
    let later = bench.publish(again).await;
    for answer in [one, two, three, later] {
        assert_eq!(answer.ok(200), json!({"sessions": 1, "hubs": 1, "unreachable": []}));
    }
    assert_eq!(outbox(&cell), [text("a")]);
    for other in [
        r#"{"to":{"all":true},"text":"b","idempotency_key":"k"}"#,
        r#"{"to":{"user":"x"},"text":"a","idempotency_key":"k"}"#,
        r#"{"to":{"all":true},"json":"a","idempotency_key":"k"}"#,
        r#"{"to":{"all":true},"text":"a","scope":"hub","idempotency_key":"k"}"#,
    ] {
        bench.publish(other).await.says(422, "\"k\" was used for another message");
    }
    bench.publish(r#"{"to":{"all":true},"text":"a","idempotency_key":"k2"}"#).await.ok(200);
    assert_eq!(outbox(&cell), [text("a"), text("a")]);
}

#[tokio::test]
async fn what_failed_for_sure_may_be_repeated_under_its_key() {
    let bench = bench(&[]).await;
    let request = format!(r#"{{"to":{{"session":"{}"}},"text":"a","idempotency_key":"k"}}"#, id(1));
    bench.publish(request.clone()).await.problem(404);
    let cell = bench.session(1, None, &[]);
    bench.publish(request.clone()).await.ok(200);
    bench.publish(request).await.ok(200);
    assert_eq!(outbox(&cell), [text("a")]);
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_leaves_one_message_and_its_repeat_the_answer() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, None, &[]);
    let request = r#"{"to":{"all":true},"text":"a","idempotency_key":"k"}"#;
    {
        // Asked once, and then dropped, as hyper does when a connection is gone.
        let mut asked = std::pin::pin!(bench.publish(request));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx))).await;
        assert!(first.is_pending(), "it should not have been done at once: {first:?}");
    }
    assert_eq!(bench.publish(request).await.ok(200)["sessions"], 1);
    assert_eq!(outbox(&cell), [text("a")]);
}

#[tokio::test]
async fn who_is_parked_counts_and_gets_it_when_he_is_taken_up_by_this_process_or_the_next() {
    let bench = bench(&[]).await;
    let targets = [r#"{"all":true}"#, r#"{"user":"ann"}"#, r#"{"channel":"news"}"#];
    let publish = async |bench: &Bench, word: &str| {
        for (n, to) in targets.iter().enumerate() {
            let answer = bench.publish(format!(r#"{{"to":{to},"text":"{word}{n}"}}"#)).await.ok(200);
            assert_eq!(answer, json!({"sessions": 1, "hubs": 1, "unreachable": []}), "{to} {word}");
        }
    };
    park(&bench, &bench.session(1, Some("ann"), &["news"])).await;
    publish(&bench, "a").await;
    bench.hub.take_up(SessionId(1)).await.expect("it lies there");
    let cell = bench.hub.cell(SessionId(1)).expect("it is here again");
    assert_eq!(outbox(&cell), ["a0", "a1", "a2"].map(text));
    park(&bench, &cell).await;
    publish(&bench, "b").await;
    bench.hub.leave_ledger().await;
    bench.publish(r#"{"to":{"all":true},"text":"too late"}"#).await.says(503, "stopping");
    let next = bench.again().await;
    next.hub.index_parked().await;
    publish(&next, "c").await;
    next.hub.take_up(SessionId(1)).await.expect("it lies there");
    let cell = next.hub.cell(SessionId(1)).expect("it is here again");
    assert_eq!(outbox(&cell), ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"].map(text));
    assert!(!cell.lock().session.record().expect("served").has_missed(), "nothing is missing");
}

#[tokio::test]
async fn who_was_parked_by_a_process_that_crashed_or_for_longer_than_the_ring_is_told_that_something_may_be_missing() {
    for crash in [false, true] {
        let bench = bench(&["--limit-ring-messages", "1"]).await;
        park(&bench, &bench.session(1, None, &[])).await;
        for word in ["a", "b"] {
            bench.publish(format!(r#"{{"to":{{"all":true}},"text":"{word}"}}"#)).await.ok(200);
        }
        if !crash {
            bench.hub.leave_ledger().await;
        }
        let next = bench.again().await;
        next.hub.take_up(SessionId(1)).await.expect("it lies there");
        let cell = next.hub.cell(SessionId(1)).expect("it is here again");
        assert_eq!(outbox(&cell), if crash { vec![] } else { vec![text("b")] });
        assert!(cell.lock().session.record().expect("served").has_missed(), "crash: {crash}");
    }
}
