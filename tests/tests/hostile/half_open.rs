//! Ten thousand connections that never become clients.

use crate::calm::Calm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_tests::{RawClient, within};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections of one attack.
const HALF_OPEN: usize = 10_000;
/// How soon a newcomer who was told to come back does so.
const COMES_BACK: Duration = Duration::from_millis(250);
/// Connections that are being opened at a time.
const AT_A_TIME: usize = 500;

/// Opens so many connections, each within a short time; those that the kernel does not take are not waited for.
async fn open_all<T: Send + 'static, F>(count: usize, open: impl Fn() -> F) -> Vec<T>
where
    F: Future<Output = Option<T>> + Send + 'static,
{
    let (mut opening, mut opened) = (JoinSet::new(), Vec::new());
    for _ in 0..count {
        if opening.len() == AT_A_TIME {
            opened.extend(opening.join_next().await.and_then(Result::ok).flatten());
        }
        let one = open();
        opening.spawn(async move { tokio::time::timeout(Duration::from_millis(1_500), one).await.ok().flatten() });
    }
    while let Some(one) = opening.join_next().await {
        opened.extend(one.ok().flatten());
    }
    opened
}

/// This process holds the other end of all of them.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
}

async fn connect(address: SocketAddr) -> Option<TcpStream> {
    TcpStream::connect(address).await.ok()
}

#[tokio::test]
async fn ten_thousand_connections_that_say_nothing_cost_a_bounded_memory_and_go_by_themselves() {
    allow_descriptors();
    let calm = Calm::start(|setup| setup).await;
    let (address, url) = (calm.hub.public, calm.hub.url("/connect"));
    // `--limit-half-open` of them at a time are the hub's; the kernel keeps 4,096 more, and turns the rest away.
    calm.under("TCP connections that say nothing", 40, move |going| async move {
        let opened = open_all(HALF_OPEN, || connect(address)).await;
        assert!(opened.len() >= 1_024, "{} were opened", opened.len());
        // They hold a newcomer up for as long as their time lasts, and not for ever.
        let newcomer = within("a newcomer is welcomed among them", RawClient::welcomed(&url)).await;
        going.hold((opened, newcomer)).await;
    })
    .await;
    calm.unharmed();
}

#[tokio::test]
async fn ten_thousand_upgraded_connections_without_a_hello_cost_a_bounded_memory_and_go_by_themselves() {
    allow_descriptors();
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    calm.under("upgrades without a hello", 40, move |going| async move {
        let opened = {
            let url = url.clone();
            open_all(HALF_OPEN, move || {
                let url = url.clone();
                async move { RawClient::try_open(&url, &[("sec-websocket-protocol", "tidegate.v1")]).await.ok() }
            })
            .await
        };
        assert!(opened.len() >= 1_024, "{} were opened", opened.len());
        // While they have every place a newcomer is told to come back; he does, and they go by themselves.
        let newcomer = within("a newcomer is welcomed among them", async {
            loop {
                match RawClient::try_open(&url, &[("sec-websocket-protocol", "tidegate.v1")]).await {
                    Ok(mut client) => {
                        client.frame(&json!({"type": "hello"})).await;
                        break (client.expect("welcome").await, client);
                    }
                    Err(refused) => assert_eq!(refused.status, 503, "{refused:?}"),
                }
                tokio::time::sleep(COMES_BACK).await;
            }
        })
        .await;
        going.hold((opened, newcomer)).await;
    })
    .await;
    calm.unharmed();
}
