//! Names that change, files that break, and what the list says meanwhile.

use super::*;
use crate::config::Config;
use std::sync::Mutex;

/// Names that a test may change under the list, and how often each was asked for.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    found: BTreeMap<String, Vec<SocketAddr>>,
    asked: u32,
}

impl Names {
    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        self.0.lock().unwrap().found.insert(name.into(), addresses);
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap().found.remove(name);
    }

    fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }

    fn lookup(&self) -> Lookup {
        let names = self.clone();
        Arc::new(move |host, port| {
            let mut table = names.0.lock().unwrap();
            table.asked += 1;
            let answer = table.found.get(&host).cloned().ok_or_else(|| io::Error::other("no such name"));
            let answer = answer.map(|found| found.into_iter().map(|at| SocketAddr::new(at.ip(), port)).collect());
            Box::pin(async move { answer })
        })
    }
}

fn config(flags: &[&str]) -> Config {
    let common = ["tidegate", "serve", "--cluster-key-file=k", "--peer-url=http://127.0.0.1:0"];
    let argv: Vec<_> = common.iter().chain(flags).map(Into::into).collect();
    Config::read(&argv, &|_| None).expect("settings")
}

async fn refreshed(list: &mut PeerList, at_ms: u64) -> Vec<String> {
    list.refresh(Millis(at_ms)).await.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn addresses_stand_for_themselves_sorted_and_once() {
    let flags = [
        "--peer=http://10.0.0.2:8081",
        "--peer=http://10.0.0.1:8081/",
        "--peer=http://10.0.0.2:8081",
        "--peer=https://[::1]",
    ];
    let mut list = PeerList::new(&config(&flags), Names::default().lookup());
    let expected = ["http://10.0.0.1:8081/", "http://10.0.0.2:8081/", "https://[::1]:443/"];
    assert_eq!(refreshed(&mut list, 0).await, expected);
}

#[tokio::test]
async fn a_name_stands_for_all_its_addresses_and_is_looked_up_again_after_ten_seconds() {
    let names = Names::default();
    names.set("hubs", &["10.0.0.1:0", "10.0.0.2:0"]);
    let mut list = PeerList::new(&config(&["--peer=https://hubs:8081"]), names.lookup());
    assert_eq!(refreshed(&mut list, 0).await, ["https://10.0.0.1:8081/", "https://10.0.0.2:8081/"]);
    names.set("hubs", &["10.0.0.3:0"]);
    assert_eq!(refreshed(&mut list, 9_999).await.len(), 2, "not looked up yet");
    assert_eq!(names.asked(), 1);
    assert_eq!(refreshed(&mut list, 10_000).await, ["https://10.0.0.3:8081/"]);
    let uri = "https://10.0.0.3:8081/".parse().expect("a URL");
    assert_eq!(list.names().name_of(&uri).as_deref(), Some("hubs"));
    let gone = "https://10.0.0.1:8081/".parse().expect("a URL");
    assert_eq!(list.names().name_of(&gone), None);
}

#[tokio::test]
async fn a_name_that_fails_keeps_its_last_addresses_and_is_told_once() {
    let names = Names::default();
    names.set("hubs", &["10.0.0.1:0"]);
    let mut list = PeerList::new(&config(&["--peer=http://hubs:8081"]), names.lookup());
    refreshed(&mut list, 0).await;
    names.forget("hubs");
    for at_ms in [10_000, 20_000] {
        assert_eq!(refreshed(&mut list, at_ms).await, ["http://10.0.0.1:8081/"]);
        assert_eq!(list.told.len(), 1, "{:?}", list.told);
    }
    names.set("hubs", &[]);
    assert_eq!(refreshed(&mut list, 30_000).await, ["http://10.0.0.1:8081/"]);
    assert!(list.told["peer hubs:8081"].contains("no address"), "{:?}", list.told);
    names.set("hubs", &["10.0.0.2:0"]);
    assert_eq!(refreshed(&mut list, 40_000).await, ["http://10.0.0.2:8081/"]);
    assert!(list.told.is_empty(), "{:?}", list.told);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_never_answers_does_not_hold_the_list_up() {
    let never: Lookup = Arc::new(|_, _| Box::pin(std::future::pending()));
    let mut list = PeerList::new(&config(&["--peer=http://hubs:8081", "--peer=http://10.0.0.1:8081"]), never);
    assert_eq!(refreshed(&mut list, 0).await, ["http://10.0.0.1:8081/"]);
}

#[tokio::test]
async fn the_file_is_followed_and_a_broken_one_keeps_the_last_good_list() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("peers");
    let flag = format!("--peers-file={}", path.display());
    let mut list = PeerList::new(&config(&[&flag]), Names::default().lookup());
    assert!(refreshed(&mut list, 0).await.is_empty(), "a file that is not there yet");
    let write = |text: &str| std::fs::write(&path, text).expect("a file to write");
    write("# the blue ones\n\n  http://10.0.0.1:8081\nhttp://10.0.0.2:8081\n");
    assert_eq!(refreshed(&mut list, 1_000).await, ["http://10.0.0.1:8081/", "http://10.0.0.2:8081/"]);
    assert!(list.told.is_empty(), "{:?}", list.told);
    write("http://10.0.0.3:8081\n10.0.0.4:8081\n");
    assert_eq!(refreshed(&mut list, 2_000).await.len(), 2);
    let told = list.told.values().next().expect("a complaint").clone();
    assert!(told.contains("line 2: \"10.0.0.4:8081\"") && told.contains("2 peers from it stay"), "{told}");
    write("http://10.0.0.3:8081\n");
    assert_eq!(refreshed(&mut list, 3_000).await, ["http://10.0.0.3:8081/"]);
    write("");
    assert!(refreshed(&mut list, 4_000).await.is_empty(), "an empty list is a list");
}

#[tokio::test]
async fn the_list_has_a_limit() {
    let names = Names::default();
    names.set("hubs", &["10.0.0.1:0", "10.0.0.2:0", "10.0.0.3:0"]);
    let mut list = PeerList::new(&config(&["--peer=http://hubs:8081", "--limit-peers=2"]), names.lookup());
    assert_eq!(refreshed(&mut list, 0).await, ["http://10.0.0.1:8081/", "http://10.0.0.2:8081/"]);
    assert!(list.told["--peer"].contains("1 peers beyond --limit-peers 2"), "{:?}", list.told);
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let found = world_lookup(crate::world::system())("localhost".into(), 7).await.expect("localhost");
    assert!(found.iter().all(|at| at.ip().is_loopback() && at.port() == 7), "{found:?}");
}

#[tokio::test]
async fn this_hub_is_reached_by_its_peer_url_or_by_its_private_address() {
    let bound: SocketAddr = "10.0.0.1:4000".parse().expect("an address");
    let url = async |flags: &[&str], bound, towards| {
        let argv: Vec<_> = ["tidegate", "serve"].iter().chain(flags).map(Into::into).collect();
        let config = Config::read(&argv, &|_| None).expect("settings");
        own_peer_url(&config, bound, towards).await.map(|url| url.to_string())
    };
    assert_eq!(url(&["--peer-url=http://hub-a:0"], bound, None).await.as_deref(), Some("http://hub-a:4000/"));
    assert_eq!(url(&["--peer-url=http://hub-a:9"], bound, None).await.as_deref(), Some("http://hub-a:9/"));
    assert_eq!(url(&[], bound, None).await.as_deref(), Some("http://10.0.0.1:4000/"));
    let tls = ["--private-tls-cert=c", "--private-tls-key=k"];
    assert_eq!(url(&tls, bound, None).await.as_deref(), Some("https://10.0.0.1:4000/"));
    let loopback = "127.0.0.1:4000".parse().expect("an address");
    assert_eq!(url(&[], loopback, None).await, None);
    let any = "0.0.0.0:4000".parse().expect("an address");
    assert_eq!(url(&[], any, None).await, None, "nobody to look towards");
    assert_eq!(url(&[], any, Some(loopback)).await, None, "loopback is no way for a peer");
}

#[test]
fn the_public_url_takes_the_bound_port_for_port_0_and_keeps_its_path() {
    let argv = ["tidegate", "serve", "--public-url=ws://127.0.0.1:0/a?b=1"].map(Into::into);
    let config = Config::read(&argv, &|_| None).expect("settings");
    let bound = "127.0.0.1:4000".parse().expect("an address");
    assert_eq!(own_public_url(&config, bound).map(|url| url.to_string()).as_deref(), Some("ws://127.0.0.1:4000/a?b=1"));
}
