//! Clients at work while something breaks: each sends and is published to without a pause, and everything is
//! noted in [`Books`].

use crate::books::{Books, Fate, Verdict};
use crate::client::Client;
use crate::hub::Hub;
use crate::private::Private;
use crate::seen::Seen;
use crate::wait::within;
use http::Method;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long one publish is waited for; a hub that is stopped gives none.
const ANSWER: Duration = Duration::from_secs(3);
/// How long the last messages of one round may take before the next round asks again.
const ROUND: Duration = Duration::from_secs(3);
/// Rounds until a client counts as not served. Each begins with a connection, whose wait has a limit of its own:
/// whoever had to wait for a hub that is lost has not been refused any service.
const ROUNDS_MAX: usize = 10;

/// Where publishes go: the first hub that can be reached.
type Doors = Arc<Mutex<Vec<Private>>>;

/// A running crowd. Its clients end when it is dropped.
#[derive(Debug)]
pub struct Traffic {
    workers: Vec<Worker>,
    books: Books,
    doors: Doors,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Worker {
    name: usize,
    client: Arc<Client>,
    /// Gives the number of the last message sent, and of the last one published.
    sending: JoinHandle<u64>,
    publishing: JoinHandle<u64>,
}

/// What one client came to in the end.
#[derive(Debug)]
pub struct Ended {
    /// The session that it began with.
    pub session: String,
    /// All that it saw.
    pub seen: Seen,
    /// What the books say.
    pub verdict: Verdict,
}

impl Traffic {
    /// Lets these clients work, numbered from `first` on: each sends and is published to every so often. The
    /// app behind the hubs must be one of [`Books::app`].
    pub fn start(clients: Vec<Client>, first: usize, every: Duration, books: &Books, hubs: &[&Hub]) -> Self {
        Self::start_at(clients, first, every, books, hubs.iter().map(|hub| hub.api.clone()).collect())
    }

    /// The same for hubs that are known by where they are asked.
    pub fn start_at(clients: Vec<Client>, first: usize, every: Duration, books: &Books, doors: Vec<Private>) -> Self {
        let doors: Doors = Arc::new(Mutex::new(doors));
        let stop = watch::Sender::new(false);
        let workers = clients.into_iter().enumerate().map(|(at, client)| {
            let (name, client) = (first + at, Arc::new(client));
            let sending = tokio::spawn(send(client.clone(), name, every, stop.subscribe()));
            let publishing =
                tokio::spawn(publish(client.clone(), name, every, books.clone(), doors.clone(), stop.subscribe()));
            Worker { name, client, sending, publishing }
        });
        Self { workers: workers.collect(), books: books.clone(), doors, stop }
    }

    /// Says which hubs are there now: the first one that answers gets the publishes.
    pub fn publish_at(&self, hubs: &[&Hub]) {
        *self.doors.lock().unwrap_or_else(PoisonError::into_inner) = hubs.iter().map(|hub| hub.api.clone()).collect();
    }

    /// The clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.workers.iter().map(|worker| &*worker.client)
    }

    /// Waits until each has got so many messages more than now.
    pub async fn at_work(&self, messages: usize) {
        for client in self.clients() {
            let before = client.seen().received.len();
            client.wait("messages while it works", |seen| seen.received.len() >= before + messages).await;
        }
    }

    /// Stops them, waits until all that is under way has arrived, and closes the books.
    ///
    /// # Panics
    /// When a client is not served in the end.
    pub async fn close(self) -> Vec<Ended> {
        self.close_and(false).await
    }

    /// The same; and the clients end their sessions when their books are closed, or just go.
    ///
    /// # Panics
    /// As [`Traffic::close`].
    pub async fn close_and(self, end_sessions: bool) -> Vec<Ended> {
        self.stop.send_replace(true);
        let mut ended = Vec::new();
        for worker in self.workers {
            let name = worker.name;
            let sent = within("a client stops sending", worker.sending).await.expect("sending never fails");
            let published = within("publishing stops", worker.publishing).await.expect("publishing never fails");
            let seen = last_words(&worker.client, name, sent, published, &self.books, &self.doors).await;
            let verdict = self.books.audit(name, &seen);
            let session = seen.first_session().unwrap_or_default();
            self.books.close(name);
            if end_sessions {
                worker.client.end().await;
            }
            ended.push(Ended { session, seen, verdict });
        }
        ended
    }
}

async fn send(client: Arc<Client>, name: usize, every: Duration, mut stop: watch::Receiver<bool>) -> u64 {
    let mut sent = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.changed() => return sent,
        }
        // What cannot be sent now is kept by the client, within its limit.
        if client.unacked() < 500 {
            sent += 1;
            client.send(format!("c {name} {sent}")).await;
        }
    }
}

async fn publish(
    client: Arc<Client>,
    name: usize,
    every: Duration,
    books: Books,
    doors: Doors,
    mut stop: watch::Receiver<bool>,
) -> u64 {
    let mut published = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.changed() => return published,
        }
        published += 1;
        publish_one(&client.session(), name, published, &books, &doors).await;
    }
}

/// Publishes one message, and notes what became of it.
async fn publish_one(session: &str, name: usize, n: u64, books: &Books, doors: &Doors) -> Fate {
    let body = json!({"to": {"session": session}, "text": format!("p {n}")}).to_string();
    let hubs = doors.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut fate = Fate::Refused;
    for hub in hubs {
        let asked = hub.try_send(Method::POST, "/v1/publish", &[("content-type", "application/json")], body.clone());
        fate = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(answer)) if answer.status == 200 && answer.json()["sessions"] == 1 => Fate::Numbered,
            Ok(Ok(answer)) if answer.status == 404 => Fate::Refused,
            // Nobody listens there: it cannot have been numbered, and the next hub is asked.
            Ok(Err(error)) if error.contains("ConnectionRefused") => continue,
            Ok(Ok(_) | Err(_)) | Err(_) => Fate::Unknown,
        };
        break;
    }
    books.published(name, session, n, fate);
    fate
}

/// One more message each way, until both came: everything before them has come, too.
async fn last_words(client: &Client, name: usize, sent: u64, published: u64, books: &Books, doors: &Doors) -> Seen {
    let (mut sent, mut published) = (sent, published);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS_MAX {
        client.wait("a connection, and all of its messages acked", |seen| seen.connected && seen.unacked == 0).await;
        sent += 1;
        client.send(format!("c {name} {sent}")).await;
        published += 1;
        let fate = publish_one(&client.session(), name, published, books, doors).await;
        let (answer, message) = (format!("a {sent}"), format!("p {published}"));
        let both = |seen: &Seen| {
            let came = |text| seen.received.contains(text);
            seen.connected && seen.unacked == 0 && came(&answer) && came(&message)
        };
        if let Some(seen) = client.wait_for(ROUND, both).await {
            return seen;
        }
        let seen = client.seen();
        let (echo, message) = (seen.received.contains(&answer), seen.received.contains(&message));
        rounds.push(format!(
            "{fate:?} publish came: {message}, echo came: {echo}, unacked {}, connected {}",
            seen.unacked, seen.connected
        ));
    }
    let seen = client.seen().without_messages();
    panic!("client {name} is not served in {ROUNDS_MAX} rounds with a connection: {rounds:#?} {seen:#?}");
}
