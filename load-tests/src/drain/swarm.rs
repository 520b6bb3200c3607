//! All clients of one run: started with care for the listener, told together what to do, counted.

use super::client::{self, Outcome};
use super::timeline::Course;
use http::Uri;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tidegate_protocol::client::Settings;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What stands behind the hub, and so who keeps the other side of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum App {
    /// The demo's app: `/ledger` keeps an account of its own and tells it at the end.
    Kitchen,
    /// An app that sends back every text as it came.
    Echo,
    /// No app: messages go up only, and the hub's acks are the account.
    None,
}

/// What all clients have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Of the client machines.
    pub(crate) settings: Settings,
    /// Where to connect first.
    pub(crate) home: Uri,
    /// What answers.
    pub(crate) app: App,
    /// So many of 100 clients send messages; the others only receive.
    pub(crate) talking: usize,
    /// Between two messages of one client.
    pub(crate) interval: Duration,
    /// How many clients.
    pub(crate) clients: usize,
    /// At most so many clients are being connected at a time.
    pub(crate) connecting_max: usize,
    /// All clients' clocks count from here.
    pub(crate) start: Instant,
    /// For jitter.
    pub(crate) seed: u64,
}

/// Clients per source address. Each has two connections while it moves, and the old one stays a minute in TIME_WAIT;
/// with thousands on one address the kernel's search for a free port takes more than the move that is measured.
const CLIENTS_PER_SOURCE: usize = 250;

/// The source address of one of many clients: on loopback there are more than one.
pub(crate) fn loopback_source(target: &Uri, index: usize) -> Option<Ipv4Addr> {
    let target: Ipv4Addr = target.host()?.parse().ok()?;
    let last = u8::try_from(2 + index / CLIENTS_PER_SOURCE).unwrap_or(u8::MAX - 1);
    target.is_loopback().then(|| Ipv4Addr::new(127, 0, 0, last))
}

impl Plan {
    /// Where to dial. A `move` that names a hub without a path keeps the path of the first URL.
    pub(crate) fn target(&self, url: Option<&str>) -> Uri {
        let Some(Ok(url)) = url.map(str::parse::<Uri>) else { return self.home.clone() };
        let bare = url.path().is_empty() || url.path() == "/";
        let mut parts = url.into_parts();
        if bare {
            parts.path_and_query = self.home.path_and_query().cloned();
        }
        Uri::from_parts(parts).unwrap_or_else(|_| self.home.clone())
    }

    /// The source address of this client, where it matters.
    pub(crate) fn source(&self, index: usize) -> Option<Ipv4Addr> {
        loopback_source(&self.home, index)
    }
}

/// What the swarm is doing; every client follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Getting sessions.
    Joining,
    /// Messages flow.
    Traffic,
    /// No new messages; accounts are settled.
    Settling,
    /// Whatever is not settled now never will be.
    Stop,
}

/// Live figures, for people to look at; the verdict comes from the outcomes.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// When the clients' clock began.
    pub(crate) start: Instant,
    /// Orders to move, as they were received.
    pub(crate) released: Course,
    /// Hellos on a second connection, as they were sent.
    pub(crate) arrived: Course,
    /// Welcomes on another connection than the first, as they were received.
    pub(crate) welcomed: Course,
    /// Numbered messages from the API that went to everybody.
    pub(crate) pushed: AtomicU64,
    /// Clients with a session.
    pub(crate) joined: AtomicUsize,
    /// Clients that have received something.
    pub(crate) flowing: AtomicUsize,
    /// Clients that ended before their time.
    pub(crate) ended: AtomicUsize,
    /// Changes of connection without loss.
    pub(crate) changed: AtomicUsize,
    /// Sessions that lost continuity.
    pub(crate) resets: AtomicUsize,
    /// Messages sent.
    pub(crate) up: AtomicU64,
    /// Messages received.
    pub(crate) down: AtomicU64,
}

impl Pulse {
    fn new(start: Instant) -> Self {
        Self {
            start,
            released: Course::default(),
            arrived: Course::default(),
            welcomed: Course::default(),
            pushed: AtomicU64::new(0),
            joined: AtomicUsize::new(0),
            flowing: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            changed: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        }
    }

    /// One line of figures.
    pub(crate) fn line(&self) -> String {
        let joined = self.joined.load(Relaxed);
        let (up, down) = (self.up.load(Relaxed), self.down.load(Relaxed));
        let (changed, resets) = (self.changed.load(Relaxed), self.resets.load(Relaxed));
        format!("{joined} clients · {up} up · {down} down · {changed} moved or resumed · {resets} reset")
    }
}

/// The running clients.
pub(crate) struct Swarm {
    plan: Arc<Plan>,
    /// Live figures.
    pub(crate) pulse: Arc<Pulse>,
    stage: watch::Sender<Stage>,
    tasks: JoinSet<Outcome>,
}

/// How often a waiting swarm looks at its figures.
const LOOK: Duration = Duration::from_millis(20);

impl Swarm {
    /// A swarm without clients yet.
    pub(crate) fn new(plan: Plan) -> Self {
        let (stage, _) = watch::channel(Stage::Joining);
        let pulse = Arc::new(Pulse::new(plan.start));
        Self { plan: Arc::new(plan), pulse, stage, tasks: JoinSet::new() }
    }

    /// Starts all clients, never too many at once, and waits until each has a session.
    ///
    /// # Errors
    /// A client was turned away for good.
    pub(crate) async fn join(&mut self) -> Result<(), String> {
        for index in 0..self.plan.clients {
            while index >= self.settled_in() + self.plan.connecting_max {
                self.check_turned_away().await?;
                sleep(LOOK).await;
            }
            let (plan, pulse) = (Arc::clone(&self.plan), Arc::clone(&self.pulse));
            self.tasks.spawn(client::run(index, plan, pulse, self.stage.subscribe()));
        }
        while self.settled_in() < self.plan.clients {
            self.check_turned_away().await?;
            sleep(LOOK).await;
        }
        self.check_turned_away().await
    }

    fn settled_in(&self) -> usize {
        self.pulse.joined.load(Relaxed) + self.pulse.ended.load(Relaxed)
    }

    async fn check_turned_away(&mut self) -> Result<(), String> {
        if self.pulse.ended.load(Relaxed) == 0 {
            return Ok(());
        }
        match self.tasks.join_next().await {
            Some(Ok(outcome)) => Err(format!(
                "client {} could not stay: {}; is --hub right, and does it allow anonymous sessions?",
                outcome.index,
                outcome.ended.unwrap_or_default()
            )),
            Some(Err(error)) => Err(format!("a client failed: {error}")),
            None => Err("no client is left".to_owned()),
        }
    }

    /// Lets messages flow and waits until every client has seen something come back.
    ///
    /// # Errors
    /// A client was turned away for good.
    pub(crate) async fn start_traffic(&mut self) -> Result<(), String> {
        self.stage.send_replace(Stage::Traffic);
        let comes_back = self.plan.app != App::None;
        while comes_back && self.pulse.flowing.load(Relaxed) < self.plan.clients {
            self.check_turned_away().await?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends the traffic, settles every account within `wait`, and brings in the outcomes.
    pub(crate) async fn settle(mut self, wait: Duration) -> Vec<Outcome> {
        let _ = self.stage.send_replace(Stage::Settling);
        let mut outcomes = Vec::with_capacity(self.plan.clients);
        let deadline = Instant::now() + wait;
        loop {
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(outcome)) => outcomes.push(named(outcome)),
                Ok(None) => break,
                Err(_) => {
                    self.stage.send_replace(Stage::Stop);
                    while let Some(outcome) = self.tasks.join_next().await {
                        outcomes.push(named(outcome));
                    }
                }
            }
        }
        outcomes.sort_by_key(|outcome| outcome.index);
        outcomes
    }
}

/// A client whose task failed is an outcome too: nothing it did is proved.
fn named(outcome: Result<Outcome, tokio::task::JoinError>) -> Outcome {
    outcome.unwrap_or_else(|error| {
        let mut lost = Outcome { index: usize::MAX, ..Outcome::default() };
        lost.account.faults.push(format!("the client's task failed: {error}"));
        lost
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            settings: Settings::new("ws://127.0.0.1:8080/ledger?a=1"),
            home: Uri::from_static("ws://127.0.0.1:8080/ledger?a=1"),
            app: App::Kitchen,
            talking: 100,
            interval: Duration::from_secs(1),
            clients: 1,
            connecting_max: 1,
            start: Instant::now(),
            seed: 1,
        }
    }

    #[test]
    fn a_move_to_a_bare_hub_keeps_path_and_query_and_one_with_a_path_is_taken_as_it_is() {
        assert_eq!(plan().target(None), "ws://127.0.0.1:8080/ledger?a=1");
        assert_eq!(plan().target(Some("ws://127.0.0.1:9090")), "ws://127.0.0.1:9090/ledger?a=1");
        assert_eq!(plan().target(Some("ws://127.0.0.1:9090/connect")), "ws://127.0.0.1:9090/connect");
    }

    #[test]
    fn only_clients_of_a_loopback_hub_get_addresses_of_their_own() {
        assert_eq!(plan().source(0), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(plan().source(18_999), Some(Ipv4Addr::new(127, 0, 0, 77)));
        assert_eq!(loopback_source(&Uri::from_static("ws://10.0.0.1:80/"), 0), None);
        assert_eq!(loopback_source(&Uri::from_static("ws://hub.example/"), 0), None);
    }
}
