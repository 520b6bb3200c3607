//! A well-behaved client: the protocol's client machine over real sockets, with a ledger of what was
//! sent and what came.

use crate::seen::Seen;
use crate::wait::within;
use crate::wire::{Happening, Wire};
use http::Uri;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate_protocol::client::{Action, Backoff, Client as Machine, Conn, Event, Settings};
use tidegate_protocol::frame::{ServerFrame, Text, escape, sort};
use tidegate_protocol::position::Millis;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::Message;

/// Commands and happenings that may wait for a client.
const QUEUE: usize = 1024;

/// Where the next client's jitter begins.
static SEEDS: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
enum Command {
    Step(Event<String>),
    Cut,
}

/// A running client. Its connection breaks when it is dropped; its session waits at the hub then.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

impl Client {
    /// Connects to this URL and waits for its session. Comes back fast, as tests want it.
    ///
    /// # Panics
    /// When it does not get one in time.
    pub async fn connect(url: &str) -> Self {
        let client = Self::start(Self::settings(url));
        client.wait("a welcome", |seen| seen.session.is_some() && seen.connected).await;
        client
    }

    /// The settings that [`Client::connect`] uses, for tests that want others.
    pub fn settings(url: &str) -> Settings {
        let backoff = Backoff { floor_ms: 20, first_ms: 40, max_ms: 300, stable_ms: 1_000 };
        Settings { backoff, ..Settings::new(url) }
    }

    /// Starts a client without waiting for anything.
    pub fn start(settings: Settings) -> Self {
        let (commands, commanded) = mpsc::channel(QUEUE);
        let (tell, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(Driver::new(settings, tell).run(commanded)).abort_handle();
        Self { commands, seen, task }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Its session, as the API names it.
    ///
    /// # Panics
    /// When it has none yet.
    pub fn session(&self) -> String {
        self.seen().session.expect("a client that was welcomed has a session").to_string()
    }

    /// Waits until what it has seen is as expected, and gives it.
    ///
    /// # Panics
    /// When the time is over: with what was expected and what was seen.
    pub async fn wait(&self, what: &str, is: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        match tokio::time::timeout(crate::WAIT, seen.wait_for(is)).await {
            Ok(Ok(seen)) => seen.clone(),
            Ok(Err(_)) => panic!("the client's task is over; expected {what}; it saw {:#?}", self.seen()),
            Err(_) => panic!("expected within {:?}: {what}; the client saw {:#?}", crate::WAIT, self.seen()),
        }
    }

    /// The same for so long, without a failure when it does not come to be.
    pub async fn wait_for(&self, length: Duration, is: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(length, seen.wait_for(is)).await;
        waited.ok()?.ok().map(|seen| seen.clone())
    }

    /// How many of its messages no hub has acked.
    pub fn unacked(&self) -> usize {
        self.seen.borrow().unacked
    }

    /// Sends a text; it is kept until a hub acks it.
    pub async fn send(&self, text: impl Into<String>) {
        self.command(Command::Step(Event::Send(text.into()))).await;
    }

    /// Breaks its connection without a word. It comes back by itself.
    pub async fn cut(&self) {
        self.command(Command::Cut).await;
    }

    /// Says that it may be moved.
    pub async fn ready(&self) {
        self.command(Command::Step(Event::Ready)).await;
    }

    /// Asks not to be moved for so many milliseconds.
    pub async fn busy(&self, ms: u64) {
        self.command(Command::Step(Event::Busy { ms, why: Some("busy".to_owned()) })).await;
    }

    /// Ends its session, and waits until it is over.
    pub async fn end(&self) {
        self.command(Command::Step(Event::End { code: None, reason: None })).await;
        self.wait("the end of its session", |seen| seen.ended().is_some()).await;
    }

    async fn command(&self, command: Command) {
        let sent = within("the client takes a command", self.commands.send(command)).await;
        assert!(sent.is_ok(), "the client's task is over; it saw {:#?}", self.seen());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a wire tells, and which of them.
type Told = (Conn, Happening);

struct Driver {
    settings: Settings,
    start: Instant,
    machine: Machine<String>,
    wires: Vec<(Conn, Wire)>,
    happenings: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    seen: Seen,
    tell: watch::Sender<Seen>,
    chance: u64,
}

impl Driver {
    fn new(settings: Settings, tell: watch::Sender<Seen>) -> Self {
        Self {
            settings,
            start: Instant::now(),
            machine: Machine::new(),
            wires: Vec::new(),
            happenings: mpsc::channel(QUEUE),
            seen: Seen::default(),
            tell,
            // Clients that jittered alike would come back as one herd.
            chance: SEEDS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    async fn run(mut self, mut commanded: mpsc::Receiver<Command>) {
        self.step(Event::Timer);
        loop {
            let never = Instant::now() + Duration::from_secs(3600);
            let due = self.machine.poll_timeout().map_or(never, |at| self.start + Duration::from_millis(at.0));
            tokio::select! {
                command = commanded.recv() => match command {
                    Some(Command::Step(event)) => self.commanded(event),
                    Some(Command::Cut) => self.cut(),
                    None => return,
                },
                Some((conn, happening)) = self.happenings.1.recv() => self.happened(conn, happening),
                () = sleep_until(due) => self.step(Event::Timer),
            }
        }
    }

    fn commanded(&mut self, event: Event<String>) {
        if let Event::Send(text) = &event {
            self.seen.sent.push(text.clone());
        }
        self.step(event);
    }

    fn cut(&mut self) {
        for (conn, wire) in std::mem::take(&mut self.wires) {
            wire.cut();
            self.step(Event::Closed(conn, None));
        }
    }

    fn happened(&mut self, conn: Conn, happening: Happening) {
        if !self.wires.iter().any(|(known, _)| *known == conn) {
            return; // closed by ourselves
        }
        match happening {
            Happening::Opened => self.step(Event::Opened(conn)),
            Happening::Heard => self.step(Event::Heard(conn)),
            Happening::Closed(code, why) => {
                self.wires.retain(|(known, _)| *known != conn);
                self.seen.closes.push((code, why));
                self.step(Event::Closed(conn, code));
            }
            Happening::Text(text) => match sort(&text) {
                Text::App(message) => self.step(Event::App(conn, message.to_owned())),
                Text::Frame(json) => {
                    let frame =
                        ServerFrame::decode(json).unwrap_or_else(|error| panic!("the hub sent {json:?}: {error}"));
                    self.seen.frames.push(frame.clone());
                    self.step(Event::Frame(conn, frame));
                }
            },
        }
    }

    fn step(&mut self, event: Event<String>) {
        // Any evenly spread number will do for jitter.
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let now = Millis(self.start.elapsed().as_millis() as u64);
        for action in self.machine.step(&self.settings, now, self.chance >> 33, event) {
            self.carry_out(action);
        }
        self.seen.session = self.machine.session();
        self.seen.hub = self.machine.hub();
        self.seen.connected = self.machine.connection().is_some();
        self.seen.unacked = self.machine.unacked().iter().count();
        self.tell.send_replace(self.seen.clone());
    }

    fn carry_out(&mut self, action: Action<String>) {
        match action {
            Action::Dial { conn, url } => {
                let url = url.unwrap_or_else(|| self.settings.home.clone());
                let url: Uri = url.parse().unwrap_or_else(|error| panic!("told to dial {url:?}: {error}"));
                self.seen.dials += 1;
                self.wires.push((conn, Wire::dial(conn, url, self.happenings.0.clone())));
            }
            Action::Send(conn, frame) => self.write(conn, frame.encode()),
            Action::Message(conn, text) => self.write(conn, escape(&text).into_owned()),
            Action::Close(conn, code, reason) => {
                if let Some(at) = self.wires.iter().position(|(known, _)| *known == conn) {
                    self.wires.swap_remove(at).1.close(code, &reason);
                }
            }
            Action::Deliver(text) => self.seen.received.push(text),
            Action::Report(report) => self.seen.reports.push(report),
        }
    }

    fn write(&self, conn: Conn, text: String) {
        if let Some((_, wire)) = self.wires.iter().find(|(known, _)| *known == conn) {
            wire.send(Message::text(text));
        }
    }
}
