//! The cluster key of a running fleet is changed, hub by hub, as `deploy/README.md` says: whichever key stands first in
//! the file, hubs that have only one of the two and hubs that have both talk to each other all the time, and every
//! client's token is good at every hub.

use super::{anywhere, hub_at};
use serde_json::json;
use tidegate_tests::{Client, Hub, Relay, Seen, acquainted, cluster_key, free_address};

const NEW: &str = "wBv0mYk3Jd8RZ5sX1qLhT7uNfCe9GiPa2oKxQy4rVlE=";

/// The clients lose their connections and come back by the balancer, which leads to this hub only.
async fn all_come_to(hub: &Hub, balancer: &Relay, clients: &[Client]) {
    balancer.retarget(&[hub.public]);
    let id = hub.id().await;
    for client in clients {
        client.cut().await;
        let here = |seen: &Seen| seen.connected && seen.hub.is_some_and(|hub| hub.to_string() == id);
        client.wait("its session at the hub that it came to", here).await;
    }
}

/// Restarts a hub with another key file; its sessions wait at the other one.
async fn restarted(hub: Hub, other: &Hub, balancer: &Relay, keys: &str) -> Hub {
    balancer.retarget(&[other.public]);
    let setup = hub.successor_setup();
    setup.file("cluster.key", keys);
    hub.stop().await;
    let next = setup.start().await;
    acquainted(&[&next, other]).await;
    next
}

async fn change_the_key(both: &str) {
    let [at_a, at_b] = [free_address(), free_address()];
    let old = format!("{}\n", cluster_key());
    let started = async |name: &str, own, other| {
        let setup = hub_at(name, own).peer(&other).at(anywhere(), own);
        setup.file("cluster.key", &old);
        setup.start().await
    };
    let (mut a, mut b) = tokio::join!(started("A", at_a, at_b), started("B", at_b, at_a));
    acquainted(&[&a, &b]).await;
    let balancer = Relay::to(a.public).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(&balancer.url("/connect")).await);
    }
    let sessions: Vec<String> = clients.iter().map(Client::session).collect();
    let mut published = Vec::new();
    for keys in [both, NEW] {
        for hub in ["A", "B"] {
            match hub {
                "A" => a = restarted(a, &b, &balancer, keys).await,
                _ => b = restarted(b, &a, &balancer, keys).await,
            }
            for target in [&a, &b] {
                all_come_to(target, &balancer, &clients).await;
                let text = format!("{hub} has {} keys, said at {}", keys.lines().count(), target.public);
                assert_eq!(target.api.publish(&json!({"all": true}), &text).await, 3, "{text}");
                published.push(text);
            }
        }
    }
    for (client, session) in clients.iter().zip(&sessions) {
        let seen = client.wait("everything that was published", |seen| seen.received.len() >= published.len()).await;
        assert_eq!(seen.received, published, "each once, in order");
        assert_eq!((seen.resets(), &client.session()), (0, session), "it is the same session: {:?}", seen.closes);
        let refused = seen.closes.iter().find(|(code, _)| code.is_some_and(|code| (4500..5000).contains(&code)));
        assert_eq!(refused, None, "no token was refused");
    }
    for hub in [&a, &b] {
        let said = hub.stderr().join("\n");
        assert!(!said.contains("not believed") && !said.contains("its key differs"), "{said}");
    }
}

#[tokio::test]
async fn the_cluster_key_can_be_changed_with_the_new_one_in_front() {
    change_the_key(&format!("{NEW}\n{}\n", cluster_key())).await;
}

#[tokio::test]
async fn the_cluster_key_can_be_changed_with_the_old_one_in_front() {
    change_the_key(&format!("{}\n{NEW}\n", cluster_key())).await;
}
