//! Clients that come, work for a while, close their books and go, one after the other.

use crate::chance::Chance;
use crate::fleet::Fleet;
use crate::tally::Tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate_tests::{Books, Client, Private, Traffic};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often each sends and is published to.
const EVERY: Duration = Duration::from_millis(100);

/// All places for clients; each place has one client at a time.
pub(crate) struct Lives {
    places: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// What every life needs.
#[derive(Clone)]
struct World {
    url: String,
    doors: Vec<Private>,
    books: Books,
    tally: Arc<Tally>,
    names: Arc<AtomicUsize>,
}

/// Fills so many places.
pub(crate) fn spawn(fleet: &Fleet, places: usize, seed: u64, tally: Arc<Tally>) -> Lives {
    let world = World {
        url: fleet.front.url("/connect"),
        doors: fleet.doors(),
        books: fleet.books.clone(),
        tally,
        names: Arc::default(),
    };
    let stop = watch::Sender::new(false);
    let mut lives = Lives { places: JoinSet::new(), stop };
    for place in 0..places {
        let chance = Chance::new(seed ^ ((place as u64) << 32));
        lives.places.spawn(one_after_the_other(world.clone(), chance, lives.stop.subscribe()));
    }
    lives
}

impl Lives {
    /// Lets all of them close their books.
    pub(crate) async fn close(mut self) {
        self.stop.send_replace(true);
        while self.places.join_next().await.is_some() {}
    }
}

async fn one_after_the_other(world: World, mut chance: Chance, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let life = tokio::spawn(life(world.clone(), chance.clone(), stop.clone()));
        chance.next();
        // A client that is not served in the end panics with what it saw; that is a finding, and the run goes on.
        if let Err(error) = life.await {
            world.tally.unserved(error.to_string());
        }
    }
}

async fn life(world: World, mut chance: Chance, mut stop: watch::Receiver<bool>) {
    let name = world.names.fetch_add(1, Ordering::Relaxed);
    let client = Client::connect(&world.url).await;
    // Which hub is asked first differs, so publishes are passed on between hubs, too.
    let mut doors = world.doors.clone();
    let first = chance.below(doors.len() as u64) as usize;
    doors.rotate_left(first);
    let traffic = Traffic::start_at(vec![client], name, EVERY, &world.books, doors);
    let cuts = chance.once_in(3);
    let mut left = chance.span(3_000, 40_000);
    while left > Duration::ZERO && !*stop.borrow() {
        let part = chance.span(500, 4_000).min(left);
        left -= part;
        tokio::select! {
            () = tokio::time::sleep(part) => {}
            _ = stop.changed() => {}
        }
        if cuts && let Some(client) = traffic.clients().next() {
            client.cut().await;
        }
    }
    // Half of them end their session; the others just go, and theirs expires.
    let ended = traffic.close_and(chance.once_in(2)).await;
    for one in ended {
        world.tally.closed(one.verdict);
    }
}
