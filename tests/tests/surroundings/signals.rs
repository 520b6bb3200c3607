//! Signals that somebody sends by mistake.

use serde_json::json;
use tidegate_tests::{RawClient, Setup, Signal, wait_until};

#[tokio::test]
async fn a_signal_that_means_nothing_to_a_hub_ends_nothing_and_the_log_says_so() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    for (signal, says) in [
        (Signal::Usr1, "SIGUSR1 does nothing here"),
        (Signal::Usr2, "SIGUSR2 is kept for later use"),
        (Signal::Alrm, "SIGALRM does nothing here"),
        (Signal::Hup, "SIGHUP: there is nothing to read again"),
    ] {
        hub.signal(signal);
        wait_until(&format!("{signal:?} is heard, and the log says {says:?}"), || async {
            assert!(!hub.is_over(), "{signal:?} ended the hub");
            let said = hub.stderr();
            if said.iter().any(|line| line.contains(says)) { Ok(()) } else { Err(said.join("\n")) }
        })
        .await;
    }
    hub.signal(Signal::Pipe);
    assert_eq!(hub.api.publish(&json!({"session": welcome["session"]}), "still here").await, 1);
    assert_eq!(client.expect_text().await, "still here");
    // Whoever means the end by Ctrl-\ gets an orderly one.
    hub.signal(Signal::Quit);
    assert_eq!(hub.exit().await.code, Some(0));
    assert_eq!(client.closed().await.0, Some(1012), "its session is parked");
}
