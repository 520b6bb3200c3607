//! Two-way books: what clients sent, what their app saw, what was published and what came, held against
//! each other. Whatever is missing must have been told: a session that was replaced, a gap, or a message that
//! went back to its sender.

use crate::fake_app::{AppSocket, FakeApp};
use crate::seen::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::client::Report;
use tokio_tungstenite::tungstenite::protocol::Message;

/// What is known of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The hub said that it was numbered.
    Numbered,
    /// The hub refused it.
    Refused,
    /// No answer: nobody knows.
    Unknown,
}

/// One publish to one session.
#[derive(Clone, Debug)]
struct Published {
    session: String,
    n: u64,
    fate: Fate,
}

/// One message of a client, as an app saw it: over which socket of all, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Noted {
    socket: u64,
    n: u64,
}

#[derive(Debug, Default)]
struct Accounts {
    sockets: u64,
    noted: BTreeMap<usize, Vec<Noted>>,
    published: BTreeMap<usize, Vec<Published>>,
}

/// The books of one test; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Books(Arc<Mutex<Accounts>>);

/// What the books of one client come to. Empty lists are what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Missing, and nobody was told.
    pub lost: Vec<String>,
    /// Came more than once.
    pub doubled: Vec<String>,
    /// Came after one that was sent later.
    pub reordered: Vec<String>,
    /// Came although nobody sent it.
    pub invented: Vec<String>,
    /// Messages that were compared.
    pub compared: u64,
    /// Sessions that the client was told are no more.
    pub resets: u64,
    /// Missing, and the client was told.
    pub told: u64,
}

impl Verdict {
    /// Whether nothing is lost, doubled, out of order or invented.
    pub fn is_clean(&self) -> bool {
        [&self.lost, &self.doubled, &self.reordered, &self.invented].iter().all(|list| list.is_empty())
    }

    /// Adds another client's.
    pub fn add(&mut self, other: Self) {
        self.lost.extend(other.lost);
        self.doubled.extend(other.doubled);
        self.reordered.extend(other.reordered);
        self.invented.extend(other.invented);
        self.compared += other.compared;
        self.resets += other.resets;
        self.told += other.told;
    }
}

impl Books {
    /// An app that notes every message `c CLIENT N` of a client, answers it with `a N`, and gives a little
    /// state when a session moves.
    pub async fn app(&self) -> FakeApp {
        let books = self.clone();
        let serve = move |mut socket: AppSocket| {
            let books = books.clone();
            async move {
                let number = books.next_socket();
                while let Some(message) = socket.next().await {
                    // A close is answered by reading on.
                    let Message::Text(text) = message else { continue };
                    if let Some((client, n)) = client_message(text.as_str()) {
                        books.note(client, Noted { socket: number, n });
                        socket.send(Message::text(format!("a {n}"))).await;
                    }
                }
            }
        };
        let on_event = |event: &serde_json::Value| match event["event"].as_str() {
            Some("moving") => (200, b"state".to_vec()),
            _ => (200, Vec::new()),
        };
        FakeApp::start_with_events(serve, on_event).await
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_socket(&self) -> u64 {
        let mut accounts = self.accounts();
        accounts.sockets += 1;
        accounts.sockets
    }

    fn note(&self, client: usize, noted: Noted) {
        self.accounts().noted.entry(client).or_default().push(noted);
    }

    /// Notes what became of the publish of `p N` to this session of a client.
    pub fn published(&self, client: usize, session: &str, n: u64, fate: Fate) {
        let published = Published { session: session.to_owned(), n, fate };
        self.accounts().published.entry(client).or_default().push(published);
    }

    /// Forgets a client whose books are closed.
    pub fn close(&self, client: usize) {
        let mut accounts = self.accounts();
        accounts.noted.remove(&client);
        accounts.published.remove(&client);
    }

    /// Holds a client's own account against the others'. Call it when all that is under way has arrived.
    pub fn audit(&self, client: usize, seen: &Seen) -> Verdict {
        let accounts = self.accounts();
        let noted = accounts.noted.get(&client).map(Vec::as_slice).unwrap_or_default();
        let published = accounts.published.get(&client).map(Vec::as_slice).unwrap_or_default();
        let mut verdict = Verdict { resets: seen.resets() as u64, ..Verdict::default() };
        upstream(&mut verdict, client, seen, noted);
        answers(&mut verdict, client, seen, noted);
        downstream(&mut verdict, client, seen, published);
        verdict
    }
}

/// `c CLIENT N`, as a pair of numbers.
fn client_message(text: &str) -> Option<(usize, u64)> {
    let (client, n) = text.strip_prefix("c ")?.split_once(' ')?;
    Some((client.parse().ok()?, n.parse().ok()?))
}

fn numbers(seen: &Seen, prefix: &str) -> Vec<u64> {
    seen.received.iter().filter_map(|text| text.strip_prefix(prefix)?.parse().ok()).collect()
}

/// Whether the client was told that something of what it should have got is missing.
fn was_told(seen: &Seen) -> bool {
    seen.resets() > 0 || seen.reports.iter().any(|report| matches!(report, Report::Gap { .. }))
}

/// Notes what is in a list twice, and what stands after a higher one.
fn in_order(verdict: &mut Verdict, what: &str, list: &[u64], may_be_late: &BTreeSet<u64>) {
    let (mut known, mut highest) = (BTreeSet::new(), 0);
    for n in list {
        verdict.compared += 1;
        if !known.insert(*n) {
            verdict.doubled.push(format!("{what} {n}"));
        } else if *n < highest && !may_be_late.contains(n) {
            verdict.reordered.push(format!("{what} {n} after {highest}"));
        }
        if !may_be_late.contains(n) {
            highest = highest.max(*n);
        }
    }
}

/// What the client sent: each is at the app, or went back to the client.
fn upstream(verdict: &mut Verdict, client: usize, seen: &Seen, noted: &[Noted]) {
    let what = format!("client {client}, to the app:");
    let mut by_socket = noted.to_vec();
    by_socket.sort_by_key(|noted| noted.socket);
    let list: Vec<u64> = by_socket.iter().map(|noted| noted.n).collect();
    in_order(verdict, &what, &list, &BTreeSet::new());
    let at_app: BTreeSet<u64> = list.into_iter().collect();
    let sent: BTreeSet<u64> = seen.sent.iter().filter_map(|text| Some(client_message(text)?.1)).collect();
    let back: BTreeSet<u64> = seen.unsent().iter().filter_map(|text| Some(client_message(text)?.1)).collect();
    for n in sent.difference(&at_app) {
        if back.contains(n) {
            verdict.told += 1;
        } else {
            verdict.lost.push(format!("{what} {n}"));
        }
    }
    verdict.invented.extend(at_app.difference(&sent).map(|n| format!("{what} {n}")));
}

/// What the app answered: each answer came, unless the client was told.
fn answers(verdict: &mut Verdict, client: usize, seen: &Seen, noted: &[Noted]) {
    let what = format!("client {client}, answer of the app:");
    let list = numbers(seen, "a ");
    in_order(verdict, &what, &list, &BTreeSet::new());
    let (came, said): (BTreeSet<u64>, BTreeSet<u64>) =
        (list.into_iter().collect(), noted.iter().map(|noted| noted.n).collect());
    for n in said.difference(&came) {
        if was_told(seen) {
            verdict.told += 1;
        } else {
            verdict.lost.push(format!("{what} {n}"));
        }
    }
    verdict.invented.extend(came.difference(&said).map(|n| format!("{what} {n}")));
}

/// What was published: each that was numbered came, unless the client was told that its session is no more.
fn downstream(verdict: &mut Verdict, client: usize, seen: &Seen, published: &[Published]) {
    let what = format!("client {client}, published:");
    let replaced: BTreeSet<String> = seen.replaced().into_iter().collect();
    let gap = seen.reports.iter().any(|report| matches!(report, Report::Gap { .. }));
    let of = |fate: Fate| published.iter().filter(move |one| one.fate == fate);
    // Whoever got no answer does not know when it was numbered.
    let unknown: BTreeSet<u64> = of(Fate::Unknown).map(|one| one.n).collect();
    let list = numbers(seen, "p ");
    in_order(verdict, &what, &list, &unknown);
    let came: BTreeSet<u64> = list.into_iter().collect();
    for one in of(Fate::Numbered).filter(|one| !came.contains(&one.n)) {
        if gap || replaced.contains(&one.session) {
            verdict.told += 1;
        } else {
            verdict.lost.push(format!("{what} {} in session {}", one.n, one.session));
        }
    }
    let possible: BTreeSet<u64> = of(Fate::Numbered).chain(of(Fate::Unknown)).map(|one| one.n).collect();
    verdict.invented.extend(came.difference(&possible).map(|n| format!("{what} {n}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sent: &[u64], received: &[&str]) -> Seen {
        Seen {
            sent: sent.iter().map(|n| format!("c 1 {n}")).collect(),
            received: received.iter().map(|text| (*text).to_owned()).collect(),
            ..Seen::default()
        }
    }

    fn books(noted: &[u64], published: &[(u64, Fate)]) -> Books {
        let books = Books::default();
        for n in noted {
            books.note(1, Noted { socket: 1, n: *n });
        }
        for (n, fate) in published {
            books.published(1, "s", *n, *fate);
        }
        books
    }

    #[test]
    fn the_books_find_what_is_lost_doubled_reordered_and_invented() {
        let whole = books(&[1, 2], &[(1, Fate::Numbered), (2, Fate::Unknown), (3, Fate::Refused)]);
        assert!(whole.audit(1, &seen(&[1, 2], &["a 1", "p 1", "a 2"])).is_clean());
        let cases = [
            (seen(&[1, 2, 3], &["a 1", "a 2", "p 1"]), "lost"),
            (seen(&[1, 2], &["a 1", "a 2"]), "lost"),
            (seen(&[1, 2], &["a 1", "p 1"]), "lost"),
            (seen(&[1, 2], &["a 1", "a 2", "p 1", "p 1"]), "doubled"),
            (seen(&[1, 2], &["a 2", "a 1", "p 1"]), "reordered"),
            (seen(&[1, 2], &["a 1", "a 2", "p 1", "p 3"]), "invented"),
            (seen(&[1], &["a 1", "a 2", "p 1"]), "invented"),
        ];
        for (seen, wanted) in cases {
            let verdict = whole.audit(1, &seen);
            let found = [
                ("lost", &verdict.lost),
                ("doubled", &verdict.doubled),
                ("reordered", &verdict.reordered),
                ("invented", &verdict.invented),
            ];
            let kinds: Vec<&str> = found.iter().filter(|(_, list)| !list.is_empty()).map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, [wanted], "{verdict:?}");
        }
        assert_eq!(books(&[1, 1], &[]).audit(1, &seen(&[1], &["a 1"])).doubled.len(), 1, "twice at the app");
    }
}
