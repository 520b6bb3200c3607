//! What several tests of one hub do and check.

use serde_json::json;
use tidegate_tests::{Client, Hub, Relay, Seen};

/// Asks the kitchen for its account and gives its answer.
pub(crate) async fn settle(client: &Client) -> Vec<u64> {
    client.send("sum").await;
    let is_sum = |text: &String| text.starts_with("sum ");
    let seen = client.wait("the kitchen's account", |seen| seen.received.iter().any(is_sum)).await;
    let sum = seen.received.into_iter().find(is_sum).expect("just seen");
    sum.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect()
}

/// Both directions, by both sides: `sent` numbered messages reached the kitchen once and in order, and
/// its own reached the client so.
pub(crate) fn assert_ledger(seen: &Seen, sum: &[u64], sent: u64) {
    let [received, missing, doubled, reordered, told] = sum else { panic!("a sum has five numbers: {sum:?}") };
    assert_eq!(
        (*received, *missing, *doubled, *reordered),
        (sent, 0, 0, 0),
        "up: received, first missing, doubled, reordered of {sent} messages"
    );
    let down: Vec<u64> =
        seen.received.iter().filter_map(|text| text.strip_prefix("d ")?.split(' ').next()?.parse().ok()).collect();
    let end = down.iter().copied().max().unwrap_or(0);
    assert!(end >= *told, "the kitchen had sent {told} before its account; only {end} came");
    assert_eq!(down, (1..=end).collect::<Vec<u64>>(), "down: every message once and in order");
    assert_eq!(seen.resets(), 0, "no reset: {:?}", seen.reports);
}

/// So many clients, each of which was sent `first` and `second`.
pub(crate) async fn crowd(hub: &Hub, relay: &Relay, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut settings = Client::settings(&relay.url("/connect"));
        // They come back one after the other, so that there is a middle to be hit.
        settings.backoff.first_ms = 1_500;
        settings.backoff.max_ms = 1_500;
        clients.push(Client::start(settings));
    }
    for client in &clients {
        client.wait("a welcome", |seen| seen.connected).await;
        publish(hub, client, "first").await;
        publish(hub, client, "second").await;
    }
    clients
}

/// Publishes a text to the session of this client.
pub(crate) async fn publish(hub: &Hub, client: &Client, text: &str) {
    assert_eq!(hub.api.publish(&json!({"session": client.session()}), text).await, 1);
}
