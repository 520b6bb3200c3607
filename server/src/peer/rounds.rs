//! Once a second: who is there? And what follows when a hub is met, silent, back, anew, or gone.

use super::Peers;
use super::post::{Failed, base_url, json};
use super::standing::{By, Fate, Heard, News};
use super::wire::{HELLO, Hello};
use crate::hub::Hub;
use crate::hub::fan::Lack;
use crate::peer_list::{PeerList, REFRESH_EVERY_MS, own_peer_url};
use http::{StatusCode, Uri};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_protocol::control::HubState;
use tidegate_protocol::id::{HubId, Incarnation};

/// Between two rounds, in milliseconds.
const ROUND_MS: u64 = 1_000;
/// Rounds are moved by so much either way, so that hubs that start together do not stay in step.
const JITTER_MS: u64 = 100;
/// Between two rounds that were asked for; several reasons at once make one round.
const NUDGED_MS: u64 = 20;

/// Reads the peers file and looks up names, once a second, for as long as the hub runs.
pub(super) async fn look_up(hub: Arc<Hub>, mut list: PeerList) {
    let peers = &hub.peers;
    let mut tick = tokio::time::interval(Duration::from_millis(REFRESH_EVERY_MS));
    loop {
        tick.tick().await;
        let urls = list.refresh(peers.now()).await;
        if peers.url.get().is_none() {
            let towards = urls.first().and_then(|url| url.authority()?.as_str().parse::<SocketAddr>().ok());
            if let Some(url) = own_peer_url(&hub.config, peers.private, towards).await {
                // Set once; nobody else does.
                drop(peers.url.set(url));
            }
        }
        let complete = list.is_complete();
        if peers.book().seeds.update(peers.now(), urls, complete) {
            peers.nudge.notify_one();
        }
    }
}

/// Says hello to everybody, again and again.
pub(super) async fn rounds(hub: Arc<Hub>) {
    let peers = &hub.peers;
    // A hub that does not answer is not asked a second time meanwhile.
    let asking: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    for round in 0.. {
        {
            let _in_turn = peers.hearing.lock().await;
            let fates = peers.book().table.tick(peers.now());
            for fate in fates {
                meet_fate(&hub, fate);
            }
        }
        let targets = targets(peers, round);
        let keep =
            |about: &str| !about.starts_with("http") || targets.iter().any(|(url, _)| super::seeds::key(url) == about);
        peers.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|about, _| keep(about));
        peers.troubles.retain(|about| keep(about));
        for (url, to) in targets {
            let key = super::seeds::key(&url);
            if asking.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
                let (hub, asking) = (hub.clone(), asking.clone());
                tokio::spawn(async move {
                    ask(&hub, &url, to).await;
                    asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                });
            }
        }
        let heard = peers.book().table.present().filter(|(_, peer)| peer.is_heard()).count();
        hub.metrics.peers.set(heard as f64);
        for (why, count) in peers.troubles.counts() {
            hub.metrics.peers_failing.of(why).set(count as f64);
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_millis(ROUND_MS - JITTER_MS + random_below(&hub, 2 * JITTER_MS))) => {}
            () = peers.nudge.notified() => tokio::time::sleep(Duration::from_millis(NUDGED_MS)).await,
        }
    }
}

fn random_below(hub: &Hub, bound: u64) -> u64 {
    (hub.random() % u128::from(bound)) as u64
}

fn targets(peers: &Peers, round: u64) -> Vec<(Uri, Option<HubId>)> {
    let book = peers.book();
    let reached: BTreeMap<String, HubId> =
        book.table.present().map(|(hub, peer)| (super::seeds::key(&peer.url), hub)).collect();
    let hubs = book.table.present().map(|(hub, peer)| (peer.url.clone(), Some(hub)));
    // Addresses first: where two say the same, the question goes to whoever is there.
    book.seeds.to_ask(round, &reached).into_iter().map(|url| (url, None)).chain(hubs).collect()
}

async fn ask(hub: &Arc<Hub>, url: &Uri, to: Option<HubId>) {
    let peers = &hub.peers;
    let body = json(&peers.hello(hub));
    match peers.post.send::<Hello>(url, HELLO, to, body, peers.call_time).await {
        Ok(hello) => {
            peers.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&super::seeds::key(url));
            peers.troubles.over(&super::seeds::key(url));
            hear(hub, &hello, By::Asking(url.clone())).await;
        }
        Err(error) => {
            if let Failed::Refused { status: StatusCode::MISDIRECTED_REQUEST, .. } = error {
                peers.book().seeds.misled(url);
            }
            if peers.is_news(&super::seeds::key(url), error.kind()) {
                tracing::warn!(%url, peer = to.map(|to| to.to_string()), "the peer {error}");
            }
            peers.troubles.note(super::seeds::key(url), error);
        }
    }
}

/// Takes what a hub said of itself, and does what follows before anything else that it says is taken.
pub(super) async fn hear(hub: &Arc<Hub>, hello: &Hello, by: By) -> Heard {
    let peers = &hub.peers;
    let _in_turn = peers.hearing.lock().await;
    let asked = match &by {
        By::Asking(url) => Some(url.clone()),
        By::Coming(_) => None,
    };
    if hello.from == peers.own {
        if let Some(url) = asked {
            peers.book().seeds.answered(&url, None);
        }
        if hello.incarnation != peers.run && peers.is_news("own id", 0) {
            tracing::error!(hub = %peers.own, "another process has this hub's id: expected a --data-dir for each hub, not a copy of one");
        }
        return Heard::Taken(News::default());
    }
    let told: Vec<(HubId, Incarnation, Uri)> =
        (hello.known.iter()).filter_map(|known| Some((known.hub, known.incarnation, base_url(&known.url)?))).collect();
    let (heard, url, met_others) = {
        let (now, mut book) = (peers.now(), peers.book());
        let heard = book.table.hear(now, hello, by);
        if let (Heard::Taken(_), Some(url)) = (&heard, &asked) {
            book.seeds.answered(url, Some(hello.from));
        }
        let met_others = matches!(heard, Heard::Taken(_)) && book.table.hearsay(now, peers.own, &told);
        (heard, book.table.get(hello.from).map(|peer| peer.url.clone()), met_others)
    };
    if met_others {
        peers.nudge.notify_one();
    }
    match heard {
        Heard::Taken(news) => follow(hub, hello, url, news, asked.is_none()),
        Heard::Full if peers.is_news("limit", 0) => {
            tracing::warn!(peer = %hello.from, limit = hub.config.limits.peers, "more hubs than --limit-peers: this one is ignored");
        }
        Heard::Full | Heard::Over | Heard::NoWay => {}
    }
    heard
}

fn follow(hub: &Arc<Hub>, hello: &Hello, url: Option<Uri>, news: News, came: bool) {
    let (peer, run, url) = (hello.from, hello.incarnation, url.map(|url| url.to_string()).unwrap_or_default());
    if news.met || news.replaced.is_some() || hello.state == HubState::Serving {
        hub.elsewhere.back(peer);
    }
    if let Some(before) = news.replaced {
        tracing::info!(%peer, %run, url, "a peer was started anew; what it knew before is gone");
        hub.fan.lock().forget(before);
        hub.peer_gone(peer);
    }
    if news.met || news.replaced.is_some() {
        let mut fan = hub.fan.lock();
        if fan.baseline(run, hello.fan_last) {
            fan.hole(hub, run, hello.fan_last, true);
        }
    }
    compare_ledgers(hub, hello);
    if news.met {
        tracing::info!(%peer, %run, url, version = hello.version, state = hello.state.as_str(), "met a peer");
    }
    if let Some(silent_ms) = news.back_after_ms {
        tracing::info!(%peer, url, silent_ms, "a peer is back");
    }
    if news.changed {
        hub.peers.changed.notify_one();
    }
    if came && (news.met || news.replaced.is_some()) {
        // It reached us; whether we reach it shows when we ask, and that need not wait.
        hub.peers.nudge.notify_one();
    }
}

/// What the other one lacks of this hub's messages is sent after; what this one lacks of runs that are no more nobody
/// sends any more, so whom it may concern is told.
fn compare_ledgers(hub: &Arc<Hub>, hello: &Hello) {
    let peers = &hub.peers;
    if let Some(had) = hello.fan_had.get(&peers.run.to_string())
        && let Some(link) = peers.link(hub, hello.from)
    {
        link.progress.learn(hello.incarnation, *had);
        if hub.fan.lock().own_last() > *had {
            link.progress.lagging.notify_one();
        }
    }
    let present: BTreeSet<Incarnation> = {
        let book = peers.book();
        book.table.present().filter_map(|(_, peer)| Some(peer.said()?.hello.incarnation)).collect()
    };
    for (run, n) in &hello.fan_had {
        let Ok(run) = run.parse::<Incarnation>() else { continue };
        if run == peers.run || present.contains(&run) {
            continue;
        }
        let mut fan = hub.fan.lock();
        if let Some(lack) = fan.lacks_of(run, *n) {
            fan.hole(hub, run, *n, lack == Lack::WhileAway);
        }
    }
}

fn meet_fate(hub: &Arc<Hub>, fate: Fate) {
    match fate {
        Fate::Silent(peer, url) => {
            tracing::warn!(%peer, %url, "a peer is silent");
            hub.peers.changed.notify_one();
        }
        Fate::Forgotten(peer, run, parked) => {
            tracing::info!(%peer, "a peer was silent for --peer-forget-after and is forgotten");
            if parked > 0 {
                tracing::warn!(%peer, parked, "sessions are parked in the data directory of a hub that did not come back");
            }
            forget(hub, peer, run);
        }
    }
}

/// A hub said goodbye.
pub(super) async fn goodbye(hub: &Arc<Hub>, peer: HubId, run: Incarnation, parked: u64) {
    let _in_turn = hub.peers.hearing.lock().await;
    let is_new = hub.peers.book().table.goodbye(hub.peers.now(), peer, run, parked);
    if is_new {
        tracing::info!(%peer, %run, "a peer said goodbye");
        if parked > 0 {
            tracing::warn!(%peer, parked, "a peer ended and left sessions parked in its data directory; their clients wait until a process comes back there");
        }
        forget(hub, peer, Some(run));
    }
}

fn forget(hub: &Arc<Hub>, peer: HubId, run: Option<Incarnation>) {
    hub.peers.prune_links();
    if let Some(run) = run {
        hub.fan.lock().forget(run);
    }
    hub.peer_gone(peer);
    hub.peers.changed.notify_one();
}
