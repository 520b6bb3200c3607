//! A TCP relay between a client and a hub, or between hubs: the place where a network breaks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What the relay does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Carries bytes both ways.
    Pass,
    /// Holds new connections and carries nothing on them; existing ones were cut.
    Silent,
    /// Ends new connections at once; existing ones were cut.
    Refuse,
}

/// Listens on a loopback port and carries what comes to its targets, by turns when there are several.
/// Everything through it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    cuts: watch::Sender<u64>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    targets: Vec<SocketAddr>,
    turn: usize,
    mode: Mode,
    accepted: u64,
}

impl Relay {
    /// Starts to carry to this address.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn to(target: SocketAddr) -> Self {
        Self::to_all(&[target]).await
    }

    /// Starts to carry to these addresses, each connection to the next one, as a plain balancer.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn to_all(targets: &[SocketAddr]) -> Self {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port for a relay: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State { targets: targets.to_vec(), turn: 0, mode: Mode::Pass, accepted: 0 };
        let state = Arc::new(Mutex::new(state));
        let cuts = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, state.clone(), cuts.clone())).abort_handle();
        Self { address, state, cuts, task }
    }

    /// The URL of a path, for clients.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Cuts all connections now; new ones pass.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts all connections, and ends new ones at once.
    pub fn refuse(&self) {
        self.set(|state| state.mode = Mode::Refuse);
        self.cut();
    }

    /// Cuts all connections; new ones open, and nothing ever comes through.
    pub fn silence(&self) {
        self.set(|state| state.mode = Mode::Silent);
        self.cut();
    }

    /// Lets new connections pass again; those held in silence are cut.
    pub fn heal(&self) {
        self.set(|state| state.mode = Mode::Pass);
        self.cut();
    }

    /// Carries new connections to these addresses instead.
    pub fn retarget(&self, targets: &[SocketAddr]) {
        self.set(|state| state.targets = targets.to_vec());
    }

    /// How many connections came so far.
    pub fn accepted(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).accepted
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, cuts: watch::Sender<u64>) {
    // All connections end with this set, and it with the relay.
    let mut carried = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = carried.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        let cut = cuts.subscribe();
        let (mode, target) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.accepted += 1;
            state.turn += 1;
            let target = state.targets.get(state.turn % state.targets.len().max(1)).copied();
            (state.mode, target)
        };
        match (mode, target) {
            (Mode::Refuse, _) | (_, None) => drop(client),
            (mode, Some(target)) => {
                carried.spawn(carry(client, target, mode, cut));
            }
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mode: Mode, mut cut: watch::Receiver<u64>) {
    let carrying = async {
        if mode == Mode::Silent {
            return std::future::pending().await;
        }
        // A target that is not there ends the connection, as a balancer would.
        let Ok(mut hub) = TcpStream::connect(target).await else { return };
        drop((client.set_nodelay(true), hub.set_nodelay(true)));
        drop(copy_bidirectional(&mut client, &mut hub).await);
    };
    tokio::select! {
        () = carrying => {}
        _ = cut.changed() => {}
    }
}
