//! Two hubs that know each other, with a kitchen behind each, and the users in front of them, whose
//! every message is counted at both ends.

use crate::client::Client;
use crate::hub::{Hub, Setup};
use crate::kitchen::Kitchen;
use crate::seen::Seen;
use crate::wait::{wait_until, within};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often each user sends a message.
const SEND_EVERY: Duration = Duration::from_millis(100);
/// How often each kitchen pushes one to each user, in milliseconds.
const PUSH_EVERY_MS: &str = "100";

/// Two hubs, each with its own kitchen.
#[derive(Debug)]
pub struct Fleet {
    /// The hubs. They end before the kitchens behind them.
    pub hubs: [Hub; 2],
    _kitchens: [Kitchen; 2],
}

impl Fleet {
    /// Hubs that send their clients to each other by name.
    ///
    /// # Panics
    /// When they do not get ready and to know each other.
    pub async fn named() -> Self {
        Self::start(|setup| setup.flag("--public-url", "ws://127.0.0.1:0")).await
    }

    /// Hubs that no client can reach by name: all come back by the URL that they used.
    ///
    /// # Panics
    /// As [`Fleet::named`].
    pub async fn unnamed() -> Self {
        Self::start(|setup| setup).await
    }

    /// Hubs that are set up further by this function.
    ///
    /// # Panics
    /// As [`Fleet::named`].
    pub async fn start(further: impl Fn(Setup) -> Setup) -> Self {
        let kitchens = [kitchen("A").await, kitchen("B").await];
        let setup = |name: &str, at: usize| {
            let setup = Setup::new(name).in_cluster().flag("--peer-url", "http://127.0.0.1:0");
            further(setup.app_with_events(&kitchens[at].address))
        };
        let first = setup("A", 0).start().await;
        let second = setup("B", 1).peer(&first.private).start().await;
        let fleet = Self { hubs: [first, second], _kitchens: kitchens };
        fleet.know_each_other().await;
        fleet
    }

    async fn know_each_other(&self) {
        for hub in &self.hubs {
            wait_until("both hubs see each other serving", || async {
                let said = hub.api.get("/v1/hub").await.json();
                let peers = said["peers"].as_array().cloned().unwrap_or_default();
                let ready = |peer: &Value| peer["state"] == "serving" && peer["reachable"] == true;
                if peers.iter().any(ready) { Ok(()) } else { Err(said.to_string()) }
            })
            .await;
        }
    }
}

async fn kitchen(name: &str) -> Kitchen {
    Kitchen::start_with(name, &["--ledger-push-ms", PUSH_EVERY_MS]).await
}

/// Users at work: each sends a numbered message now and then, and gets answers and pushes.
#[derive(Debug)]
pub struct Crowd {
    users: Vec<User>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct User {
    client: Arc<Client>,
    sending: JoinHandle<u64>,
}

impl Crowd {
    /// Connects so many users to the `/ledger` of a kitchen by this URL, and lets them work.
    ///
    /// # Panics
    /// When one is not welcomed.
    pub async fn connect(url: &str, users: usize) -> Self {
        let stop = watch::Sender::new(false);
        let mut crowd = Self { users: Vec::new(), stop };
        for _ in 0..users {
            let client = Arc::new(Client::connect(url).await);
            let sending = tokio::spawn(send(client.clone(), crowd.stop.subscribe()));
            crowd.users.push(User { client, sending });
        }
        crowd
    }

    /// What each has seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.users.iter().map(|user| user.client.seen()).collect()
    }

    /// The users' clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.users.iter().map(|user| &*user.client)
    }

    /// How many were welcomed last by the hub with this id.
    pub fn on(&self, hub: &str) -> usize {
        self.seen().iter().filter(|seen| is_on(seen, hub)).count()
    }

    /// Waits until all of them are connected to the hub with this id.
    ///
    /// # Panics
    /// When the time is over for one of them: with what it saw.
    pub async fn all_on(&self, hub: &str) {
        for client in self.clients() {
            client.wait(&format!("to be served by hub {hub}"), |seen| is_on(seen, hub) && seen.connected).await;
        }
    }

    /// Waits until each has got one more message than now: all are served.
    ///
    /// # Panics
    /// When the time is over for one of them: with what it saw.
    pub async fn all_at_work(&self) {
        for client in self.clients() {
            let before = client.seen().received.len();
            client.wait("a further message of the app", |seen| seen.received.len() > before).await;
        }
    }

    /// Lets them stop, and checks the account of each at both ends: nothing lost, doubled or out of
    /// order in either direction, and no reset.
    ///
    /// # Panics
    /// When an account is not clean: with what was sent and seen.
    pub async fn audit(self) {
        self.stop.send_replace(true);
        for user in self.users {
            let sent =
                within("a user stops", user.sending).await.unwrap_or_else(|error| panic!("a user failed: {error}"));
            user.client.send("sum").await;
            let is_sum = |text: &String| text.starts_with("sum ");
            let seen = user.client.wait("the app's account", |seen| seen.received.iter().any(is_sum)).await;
            check(&seen, sent);
        }
    }
}

async fn send(client: Arc<Client>, mut stop: watch::Receiver<bool>) -> u64 {
    let mut sent = 0;
    let mut every = tokio::time::interval(SEND_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            // Also when the crowd is gone.
            _ = stop.changed() => return sent,
        }
        sent += 1;
        client.send(format!("u {sent}")).await;
    }
}

fn is_on(seen: &Seen, hub: &str) -> bool {
    seen.hub.is_some_and(|at| at.to_string() == hub)
}

/// Compares what a user sent and got with the account of its kitchen.
fn check(seen: &Seen, sent: u64) {
    let session = seen.session;
    let end = seen.received.iter().position(|text| text.starts_with("sum ")).unwrap_or(seen.received.len());
    let numbers = |text: &String| -> (u64, u64) {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse().ok();
        match (
            text.starts_with("d "),
            {
                number();
                number()
            },
            number(),
        ) {
            (true, Some(m), Some(n)) => (m, n),
            _ => panic!("session {session:?} got {text:?} among its messages"),
        }
    };
    let got: Vec<(u64, u64)> = seen.received[..end].iter().map(numbers).collect();
    let pushed: Vec<u64> = got.iter().map(|(m, _)| *m).collect();
    let expected: Vec<u64> = (1..=got.len() as u64).collect();
    assert_eq!(pushed, expected, "session {session:?} got every message of its app once and in order");
    let answered: Vec<u64> = got.iter().map(|(_, n)| *n).filter(|n| *n > 0).collect();
    let expected: Vec<u64> = (1..=sent).collect();
    assert_eq!(answered, expected, "session {session:?} got an answer to each of its messages");
    let sum = &seen.received[end];
    let clean = format!("sum {sent} 0 0 0 {}", got.len());
    assert_eq!(
        *sum, clean,
        "the app's account of session {session:?}: received, first missing, doubled, reordered, sent"
    );
    assert_eq!(seen.resets(), 0, "session {session:?} kept its continuity: {:?}", seen.reports);
}
