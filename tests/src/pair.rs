//! Several hubs that know each other, and what must hold for all of them together.

use crate::client::Client;
use crate::hub::{Hub, Setup};
use crate::peer_link::PeerLink;
use crate::private::Private;
use crate::relay::Relay;
use crate::wait::wait_until;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate_protocol::control::{DrainReport, HubInfo, HubState, Phase, SessionPhase, SessionsPage};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How often owners are counted.
const COUNT_EVERY: Duration = Duration::from_millis(25);

/// Two hubs over a [`PeerLink`]; clients that are sent to the second by name go through `door`.
#[derive(Debug)]
pub struct Pair {
    /// The hub that is drained.
    pub a: Hub,
    /// Its successor.
    pub b: Hub,
    /// What they talk over.
    pub link: PeerLink,
    /// The public address of the second hub.
    pub door: Relay,
}

impl Pair {
    /// Starts both, each with what `add` adds to its setup (0: the first hub's), and waits until they have met.
    pub async fn start(add: impl Fn(Setup, usize) -> Setup) -> Self {
        let (link, door) = (PeerLink::new().await, Relay::to_all(&[]).await);
        let setup = |name: &str, own: usize| {
            let url = format!("http://{}", link.ends[own]);
            add(Setup::new(name).in_cluster().flag("--peer-url", url).peer(&link.ends[1 - own]), own)
        };
        let b = setup("B", 1).flag("--public-url", door.url("/connect"));
        let a = setup("A", 0);
        let (a, b) = tokio::join!(a.start(), b.start());
        link.lead(a.private, b.private);
        door.retarget(&[b.public]);
        acquainted(&[&a, &b]).await;
        Self { a, b, link, door }
    }

    /// Clients of the first hub, with a session each.
    pub async fn clients(&self, count: usize) -> Vec<Client> {
        connect_all(&self.a.url("/connect"), count).await
    }
}

/// So many clients with a session each.
pub async fn connect_all(url: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::connect(url).await);
    }
    clients
}

/// Waits until each of these hubs hears, and is answered by, every other one, which serves.
pub async fn acquainted(hubs: &[&Hub]) {
    for hub in hubs {
        wait_until("a hub has met the others", || async {
            let info: HubInfo = hub.api.get("/v1/hub").await.read();
            let met = info.peers.iter().filter(|peer| peer.reachable && peer.state == Some(HubState::Serving)).count();
            if met + 1 == hubs.len() { Ok(()) } else { Err(format!("{:?}", info.peers)) }
        })
        .await;
    }
}

/// Waits until a hub counts another one as silent, gone or unreachable.
pub async fn unheard(hub: &Hub, other: &str) {
    wait_until("a hub misses another one", || async {
        let info: HubInfo = hub.api.get("/v1/hub").await.read();
        let is = |peer: &&tidegate_protocol::control::PeerInfo| {
            peer.reachable && peer.hub.is_some_and(|id| id.to_string() == other)
        };
        if info.peers.iter().any(|peer| is(&peer)) { Err(format!("{:?}", info.peers)) } else { Ok(()) }
    })
    .await;
}

/// Starts a drain.
pub async fn drain(hub: &Hub, policy: Value) {
    hub.api.post("/v1/drain", &policy).await.expect(202);
}

/// A drain of all at once, without a notice, that ends at this deadline and may park.
pub fn at_once(deadline_ms: u64) -> Value {
    json!({"notice_ms": 0, "window_ms": 0, "settle_ms": 1000, "deadline_ms": deadline_ms, "stages": [100], "allow_park": true})
}

/// Waits for the end of the drain, and gives its report, which must add up.
///
/// # Panics
/// When it does not end, or its report does not add up.
pub async fn report(hub: &Hub) -> DrainReport {
    hub.wait_drain("the end of the drain", |status| status.phase == Phase::Drained).await;
    let report: DrainReport = wait_until("the report of the drain", || async {
        let answer = hub.api.get("/v1/drain/report").await;
        if answer.status == 200 { Ok(answer.read()) } else { Err(answer.to_string()) }
    })
    .await;
    let counts = report.sessions.counts;
    let outcomes = counts.moved + counts.parked + counts.left + counts.forced + counts.unconfirmed + counts.remaining;
    assert_eq!(counts.at_start + counts.arrived, outcomes, "a report adds up: {report:#?}");
    report
}

/// Who owns which session, by the hub's own word, with the generation.
async fn owned(hub: &Private) -> BTreeMap<String, u32> {
    // A hub that was killed owns nothing.
    let Ok(answer) = hub.try_send(Method::GET, "/v1/sessions?limit=1000", &[], "").await else {
        return BTreeMap::new();
    };
    if answer.status != 200 {
        return BTreeMap::new();
    }
    let page: SessionsPage = answer.read();
    let serves = |phase| matches!(phase, SessionPhase::Attached | SessionPhase::Detached);
    let lines = page.sessions.into_iter().filter(|line| serves(line.phase));
    lines.map(|line| (line.session.to_string(), line.generation.0)).collect()
}

/// Asks hubs over and over whom they serve, for as long as it lives.
#[derive(Debug)]
pub struct Owners {
    stop: oneshot::Sender<()>,
    counting: JoinHandle<(u64, Vec<String>)>,
}

impl Owners {
    /// Begins to ask.
    pub fn watch(hubs: &[&Hub]) -> Self {
        Self::watch_every(hubs, COUNT_EVERY)
    }

    /// Begins to ask every so often, also those who come after these hubs at their addresses.
    pub fn watch_every(hubs: &[&Hub], every: Duration) -> Self {
        let hubs: Vec<Private> = hubs.iter().map(|hub| hub.api.clone()).collect();
        let (stop, mut stopped) = oneshot::channel();
        let counting = tokio::spawn(async move {
            let (mut rounds, mut doubles) = (0, Vec::new());
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                rounds += 1;
                for (first, second) in
                    (0..hubs.len()).flat_map(|first| (0..hubs.len()).map(move |second| (first, second)))
                {
                    if first != second {
                        doubles.extend(shared_by(&hubs[first], &hubs[second]).await);
                    }
                }
                tokio::time::sleep(every).await;
            }
            (rounds, doubles)
        });
        Self { stop, counting }
    }

    /// Stops asking.
    ///
    /// # Panics
    /// When a session ever had two owners, or nobody was asked.
    pub async fn verdict(self) {
        let doubles = self.doubles().await;
        assert!(doubles.is_empty(), "at most one owner at any time, but {doubles:?}");
    }

    /// Stops asking, and gives every case in which a session had two owners.
    ///
    /// # Panics
    /// When nobody was asked.
    pub async fn doubles(self) -> Vec<String> {
        drop(self.stop);
        let (rounds, doubles) =
            self.counting.await.unwrap_or_else(|error| panic!("the owners were not counted: {error}"));
        assert!(rounds > 0, "the owners were never counted");
        doubles
    }
}

/// Sessions that both serve at one moment: `first` says so before and after `second` does, under one
/// generation, and a hub that gives a session away and gets it back has a higher one.
async fn shared_by(first: &Private, second: &Private) -> Vec<String> {
    let before = owned(first).await;
    if before.is_empty() {
        return Vec::new();
    }
    let there = owned(second).await;
    let both: Vec<_> = before.iter().filter(|(session, _)| there.contains_key(*session)).collect();
    if both.is_empty() {
        return Vec::new();
    }
    let after = owned(first).await;
    let still = both.into_iter().filter(|(session, generation)| after.get(*session) == Some(generation));
    still.map(|(session, generation)| format!("{session} (generations {generation} and {})", there[session])).collect()
}
