//! Two hubs behind a plain balancer that knows nothing of sessions: HAProxy and nginx, as Debian ships
//! them. No hub has a name of its own for clients, so all come back by the same URL.

use serde_json::json;
use tidegate_protocol::control::{DrainReport, DrainResult, Phase};
use tidegate_protocol::frame::ServerFrame;
use tidegate_tests::{
    Balancer, Client, Crowd, FakeApp, Fleet, HookEnd, Hub, Kind, Rule, Setup, WAIT, acquainted, connect_all, hook,
    wait_until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_back_by_turns_all_end_up_on_the_other_hub_and_lose_nothing() {
    tokio::join!(by_turns(Kind::Haproxy), by_turns(Kind::Nginx));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sticky_balancer_makes_sessions_unroutable_until_it_lets_go_and_then_they_are_handed_on() {
    tokio::join!(sticky(Kind::Haproxy), sticky(Kind::Nginx));
}

async fn by_turns(kind: Kind) {
    let fleet = Fleet::unnamed().await;
    let [from, to] = &fleet.hubs;
    let balancer = Balancer::start(kind, Rule::ByTurns, &[from.public, to.public]).await;
    let crowd = Crowd::connect(&balancer.url("/ledger"), 12).await;
    let at_start = crowd.on(&from.id().await);
    assert!((1..12).contains(&at_start), "{kind:?} spreads clients over both hubs, {at_start} of 12 are on the first");

    let policy = json!({"notice_ms": 300, "window_ms": 300, "settle_ms": 1500, "deadline_ms": 28_000});
    from.api.post("/v1/drain", &policy).await.expect(202);
    let drained = from.wait_drain("the drain to end", |status| status.phase == Phase::Drained).await;
    let report: DrainReport = from.api.get("/v1/drain/report").await.read();

    crowd.all_on(&to.id().await).await;
    let status = from.wait_drain("nobody to be left on the drained hub", |status| {
        status.sessions.is_some_and(|sessions| sessions.remaining == 0)
    });
    let moved = status.await.sessions.map(|sessions| sessions.moved);
    assert_eq!(moved, Some(at_start as u64), "{kind:?}: everybody moved, nobody arrived: {drained:?}");

    let came_back_here = |frame: &ServerFrame| matches!(frame, ServerFrame::Retry { why, .. } if why == "other_hub");
    let bounced = crowd.seen().iter().filter(|seen| seen.frames.iter().any(came_back_here)).count();
    assert!(bounced > 0, "{kind:?} brought some clients back to the draining hub");
    let counts = report.sessions.counts;
    assert_eq!(counts.at_start, at_start as u64, "{kind:?}: {report:?}");
    assert_eq!((counts.moved, report.unroutable), (at_start as u64, 0), "{kind:?}: chance explains it: {report:?}");
    assert_eq!(report.sessions.resumed, counts.moved, "{kind:?}: who moved was seen again: {report:?}");
    assert_eq!((report.messages.lost, report.messages.gaps), (0, 0), "{kind:?}: {report:?}");
    assert_eq!(report.result, DrainResult::Drained, "{kind:?}: {report:?}");
    crowd.all_at_work().await;
    crowd.audit().await;
}

async fn sticky(kind: Kind) {
    const USERS: usize = 5;
    let fleet = Fleet::unnamed().await;
    let addresses = fleet.hubs.each_ref().map(|hub| hub.public);
    let balancer = Balancer::start(kind, Rule::BySource, &addresses).await;
    let crowd = Crowd::connect(&balancer.url("/ledger"), USERS).await;
    let ids = [fleet.hubs[0].id().await, fleet.hubs[1].id().await];
    let stuck = if crowd.on(&ids[0]) > 0 { 0 } else { 1 };
    assert_eq!(crowd.on(&ids[stuck]), USERS, "{kind:?} brings all clients of one address to one hub");
    let hub = &fleet.hubs[stuck];

    let policy = json!({"notice_ms": 200, "window_ms": 200, "settle_ms": 2500, "deadline_ms": 28_000});
    hub.api.post("/v1/drain", &policy).await.expect(202);
    let status = hub.wait_drain("the drain to end", |status| status.phase == Phase::Drained).await;
    let report: DrainReport = hub.api.get("/v1/drain/report").await.read();
    assert_eq!(report.result, DrainResult::Unroutable, "{kind:?}: nobody was forced: {report:?}");
    assert_eq!(status.unroutable, Some(USERS as u64), "{kind:?}: the status says what is wrong: {status:?}");
    assert_eq!(report.unroutable, USERS as u64, "{kind:?}: and so does the report: {report:?}");
    assert_eq!(report.sessions.counts.remaining, USERS as u64, "{kind:?}: {report:?}");
    assert_eq!((report.sessions.counts.forced, report.cut), (0, 0), "{kind:?}: nobody was closed for it: {report:?}");
    assert_eq!(crowd.on(&ids[stuck]), USERS, "{kind:?} still brings them back here");
    crowd.all_at_work().await;

    balancer.let_go(stuck).await;
    crowd.all_on(&ids[1 - stuck]).await;
    wait_until(&format!("{kind:?}: everybody to be counted as moved, within {WAIT:?}"), || async {
        let status = hub.drain().await;
        let counts = status.sessions.unwrap_or_default();
        if (counts.moved, counts.remaining) == (USERS as u64, 0) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    crowd.all_at_work().await;
    crowd.audit().await;
}

/// Two hubs in front of one app that sends everything back, and a hundred clients behind the balancer, half of them
/// on each hub.
struct Hundred {
    hubs: [Hub; 2],
    clients: Vec<Client>,
    _balancer: Balancer,
    _app: FakeApp,
}

impl Hundred {
    async fn behind(kind: Kind, rule: Rule) -> Self {
        let app = FakeApp::echo().await;
        let setup =
            |name: &str| Setup::new(name).in_cluster().flag("--peer-url", "http://127.0.0.1:0").app(&app.address);
        let first = setup("A").start().await;
        let second = setup("B").peer(&first.private).start().await;
        acquainted(&[&first, &second]).await;
        let hubs = [first, second];
        let balancer = Balancer::start(kind, rule, &hubs.each_ref().map(|hub| hub.public)).await;
        let clients = connect_all(&balancer.url("/echo"), 100).await;
        Self { hubs, clients, _balancer: balancer, _app: app }
    }

    /// Drains the first hub with the real trigger: notice 1 s, window 5 s, settle 4 s, a deadline far off.
    async fn drain(&self) -> (HookEnd, DrainReport) {
        let policy = ["--notice", "1s", "--window", "5s", "--settle", "4s", "--deadline", "2m"];
        let end = hook(&[&["drain", "--strict"][..], &policy].concat()).to(&self.hubs[0]).run().await;
        let report: DrainReport = self.hubs[0].api.get("/v1/drain/report").await.read();
        println!("drain of {:?}: {} ms, {}", end.code, report.took_ms, end.stdout);
        (end, report)
    }

    /// Whoever it is, and wherever: what he says comes back.
    async fn everybody_gets_an_echo(&self) {
        for (n, client) in self.clients.iter().enumerate() {
            client.send(format!("hello {n}")).await;
        }
        for (n, client) in self.clients.iter().enumerate() {
            let echo = format!("hello {n}");
            let seen = client.wait("an echo", |seen| seen.received.contains(&echo)).await;
            assert_eq!(seen.resets(), 0, "client {n} kept its session");
        }
    }
}

async fn drains_cleanly(kind: Kind, rule: Rule) {
    let hundred = Hundred::behind(kind, rule).await;
    let (end, report) = hundred.drain().await;
    assert_eq!(end.code, Some(0), "{kind:?} {rule:?}: {end:#?}");
    let counts = report.sessions.counts;
    assert_eq!((report.result, counts.remaining, report.unroutable), (DrainResult::Drained, 0, 0), "{report:#?}");
    assert_eq!((counts.moved, report.cut), (counts.at_start, 0), "{kind:?} {rule:?}: {report:#?}");
    hundred.everybody_gets_an_echo().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_behind_haproxy_by_turns_drain_cleanly() {
    drains_cleanly(Kind::Haproxy, Rule::ByTurns).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_behind_nginx_by_turns_drain_cleanly() {
    drains_cleanly(Kind::Nginx, Rule::ByTurns).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_behind_haproxy_by_load_drain_cleanly_where_it_asks_who_is_ready() {
    drains_cleanly(Kind::Haproxy, Rule::ByLoadIfReady).await;
}

/// The hub that drains has the fewest connections, so all come back to it.
async fn names_the_balancer(kind: Kind) {
    let hundred = Hundred::behind(kind, Rule::ByLoad).await;
    let (end, report) = hundred.drain().await;
    assert_eq!(end.code, Some(3), "{kind:?}: {end:#?}");
    let counts = report.sessions.counts;
    assert_eq!(report.result, DrainResult::Unroutable, "{kind:?}: {report:#?}");
    assert!(report.unroutable_by.balancer > 0 && report.unroutable_by.client == 0, "{kind:?}: {report:#?}");
    assert_eq!(counts.remaining, report.unroutable, "{kind:?}: {report:#?}");
    assert_eq!((counts.forced, report.cut), (0, 0), "{kind:?}: nobody was closed for it: {report:#?}");
    let words = end.stdout.replace('\n', " ");
    assert!(words.contains("the balancer brought") && !words.contains("sticki"), "only what was found: {words}");
    hundred.everybody_gets_an_echo().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_by_load_that_asks_nobody_the_report_names_the_balancer_and_everybody_is_served() {
    names_the_balancer(Kind::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_by_load_the_report_names_the_balancer_and_everybody_is_served() {
    names_the_balancer(Kind::Nginx).await;
}
