//! An ordinary client that must not notice anything.

use tidegate_tests::{Client, FakeApp, Hub, Setup};

/// A hub in front of an app that echoes, with an ordinary client at work.
pub(crate) struct Scene {
    pub(crate) hub: Hub,
    client: Client,
    sent: std::cell::Cell<usize>,
    _app: FakeApp,
}

impl Scene {
    /// Sets the scene; `with` adds what the test needs to the hub.
    pub(crate) async fn set(with: impl FnOnce(Setup) -> Setup) -> Self {
        let app = FakeApp::echo().await;
        let hub = with(Setup::new("A").app(&app.address)).start().await;
        let client = Client::connect(&hub.url("/echo")).await;
        Self { hub, client, sent: std::cell::Cell::new(0), _app: app }
    }

    /// The URL of bad clients.
    pub(crate) fn url(&self) -> String {
        self.hub.url("/bad")
    }

    /// The ordinary client's next message comes back, over its first connection.
    pub(crate) async fn nobody_noticed(&self, after: &str) {
        let n = self.sent.get() + 1;
        self.sent.set(n);
        self.client.send(n.to_string()).await;
        let seen = self
            .client
            .wait(&format!("the echo of message {n}, after: {after}"), |seen| seen.received.len() >= n)
            .await;
        assert_eq!(seen.received, seen.sent, "every message came back once and in order, after: {after}");
        assert_eq!((seen.dials, &seen.closes[..]), (1, &[][..]), "its connection was never touched, after: {after}");
    }
}
