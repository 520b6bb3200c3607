//! Two hubs over a link, one app behind both, clients at work on the first one; and how a case ends.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate::fault;
use tidegate_protocol::control::DrainReport;
use tidegate_tests::{
    Books, Client, Ended, FakeApp, Hub, Owners, Pair, Relay, Setup, Traffic, connect_all, report, wait_until,
};

/// Clients that stay connected.
const PRESENT: usize = 4;
/// Clients whose connection is lost when the drain begins: they are pushed, not moved.
const AWAY: usize = 2;
/// The state of a large session.
const STATE_BYTES: usize = 40_000;
/// How often each sends and is published to.
const EVERY: Duration = Duration::from_millis(25);

/// Which process of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is drained.
    Predecessor,
    /// It takes over.
    Successor,
}

/// A pair at work.
pub(crate) struct Scene {
    pub(crate) pair: Pair,
    pub(crate) traffic: Traffic,
    pub(crate) owners: Owners,
    /// Where the clients that stay come by.
    pub(crate) front: Relay,
    /// Where those come by that are away during the drain.
    pub(crate) side: Relay,
    _app: FakeApp,
}

/// Short waits, so that a hub that is gone is soon known to be.
pub(crate) fn quick(setup: Setup, orphan_after: &str) -> Setup {
    setup.flag("--orphan-after", orphan_after).flag("--limit-peer-call-time", "500ms")
}

/// A drain that is over soon.
pub(crate) fn soon(deadline_ms: u64) -> Value {
    json!({"notice_ms": 0, "window_ms": 300, "settle_ms": 500, "deadline_ms": deadline_ms, "stages": [100], "allow_park": true})
}

impl Scene {
    /// Starts it; the process of this role has this fault point armed.
    pub(crate) async fn start(role: Role, armed: &str, orphan_after: &str) -> Self {
        let books = Books::default();
        let app = books.app().await;
        let pair = Pair::start(|setup, own| {
            let setup = quick(setup, orphan_after).app_with_events(&app.address);
            let is = if own == 0 { Role::Predecessor } else { Role::Successor };
            if is == role { setup.env(fault::VARIABLE, armed) } else { setup }
        })
        .await;
        Self::around(pair, books, app).await
    }

    /// The same around two hubs that run.
    pub(crate) async fn around(pair: Pair, books: Books, app: FakeApp) -> Self {
        let (front, side) = (Relay::to(pair.a.public).await, Relay::to(pair.a.public).await);
        let mut clients = connect_all(&front.url("/connect"), PRESENT).await;
        clients.extend(connect_all(&side.url("/connect"), AWAY).await);
        Self::with(pair, books, app, front, side, clients).await
    }

    /// The same with clients that are there already.
    pub(crate) async fn with(
        pair: Pair,
        books: Books,
        app: FakeApp,
        front: Relay,
        side: Relay,
        clients: Vec<Client>,
    ) -> Self {
        // Every other session is a large one.
        for client in clients.iter().step_by(2) {
            let path = format!("/v1/sessions/{}/state", client.session());
            pair.a.api.put_bytes(&path, &[7; STATE_BYTES]).await.expect(204);
        }
        let owners = Owners::watch(&[&pair.a, &pair.b]);
        let traffic = Traffic::start(clients, 0, EVERY, &books, &[&pair.a, &pair.b]);
        traffic.at_work(4).await;
        Self { pair, traffic, owners, front, side, _app: app }
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> u64 {
        (PRESENT + AWAY) as u64
    }

    /// Some clients lose their connection, and the first hub is drained.
    pub(crate) async fn drain(&self, deadline_ms: u64) {
        self.side.refuse();
        wait_until("the clients that are away are detached", || async {
            let away = self.pair.a.in_phase("detached").await.len();
            if away == AWAY { Ok(()) } else { Err(format!("{away} are")) }
        })
        .await;
        // The hub may be killed before it answers.
        let policy = soon(deadline_ms).to_string();
        let asked =
            self.pair.a.api.try_send(http::Method::POST, "/v1/drain", &[("content-type", "application/json")], policy);
        drop(asked.await);
    }

    /// The process with this role.
    pub(crate) fn of(&self, role: Role) -> &Hub {
        match role {
            Role::Predecessor => &self.pair.a,
            Role::Successor => &self.pair.b,
        }
    }

    /// Lets clients come back to these hubs, and publishes there.
    pub(crate) fn serve_by(&self, hubs: &[&Hub]) {
        let addresses: Vec<_> = hubs.iter().map(|hub| hub.public).collect();
        self.front.retarget(&addresses);
        self.side.retarget(&addresses);
        self.side.heal();
        self.traffic.publish_at(hubs);
    }

    /// The sessions that this hub serves now: no death of the other one may cost any of them.
    pub(crate) async fn safe_at(hub: &Hub) -> BTreeSet<String> {
        let mut safe = hub.in_phase("attached").await;
        safe.extend(hub.in_phase("detached").await);
        safe
    }

    /// The end of the drain, whose report must add up and lose nothing, and the hub serves again.
    pub(crate) async fn drained(&self) -> DrainReport {
        let report = report(&self.pair.a).await;
        assert_eq!(report.messages.lost, 0, "{report:#?}");
        self.pair.a.api.delete("/v1/drain").await.expect(200);
        report
    }

    /// All are served in the end; nothing is lost, doubled or out of order without a word; never two owners.
    pub(crate) async fn close(self, case: &str) -> Vec<Ended> {
        let ended = self.traffic.close().await;
        for one in &ended {
            let seen = one.seen.without_messages();
            assert!(one.verdict.is_clean(), "{case}: {:#?}\n{seen:#?}", one.verdict);
            assert!(one.verdict.compared > 10, "{case}: there was traffic");
        }
        self.owners.verdict().await;
        ended
    }
}

/// Nobody in this set was reset.
pub(crate) fn none_of_these_were_reset(case: &str, ended: &[Ended], safe: &BTreeSet<String>) {
    for one in ended.iter().filter(|one| safe.contains(&one.session)) {
        let reports = &one.seen.reports;
        assert_eq!(
            one.verdict.resets, 0,
            "{case}: {} was served elsewhere when it happened: {reports:#?}",
            one.session
        );
    }
}

/// Everybody is in the set of those to whom nothing may happen.
pub(crate) fn nobody_was_reset(case: &str, ended: &[Ended]) {
    none_of_these_were_reset(case, ended, &ended.iter().map(|one| one.session.clone()).collect());
}

/// Waits until the process is gone by its own hand.
pub(crate) async fn killed(case: &str, hub: &Hub) {
    wait_until(&format!("{case}: the process reaches the step and kills itself"), || async {
        if hub.is_over() { Ok(()) } else { Err("it runs".to_owned()) }
    })
    .await;
}

/// Waits until the process stands still by its own hand.
pub(crate) async fn stopped(case: &str, hub: &Hub) {
    wait_until(&format!("{case}: the process reaches the step and stops itself"), || async {
        if hub.is_stopped() { Ok(()) } else { Err("it runs".to_owned()) }
    })
    .await;
}
