//! The entrance: how many public connections there are, whatever they are at, and whose turn it is.

use crate::config::Capacity;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Of a hello that comes in parts everybody may have sent so much; for more there are places.
pub const HELLO_BYTES_FREE: usize = 4096;
/// Such places; 64 KiB each at most.
pub const HALF_HELLOS_MAX: u64 = 256;

/// Counts public connections, so that those who are no session yet never take a descriptor that something else
/// needs: the private listener above all.
#[derive(Debug)]
pub struct Entrance {
    open: AtomicU64,
    open_max: u64,
    left: Notify,
    half_open: Arc<Semaphore>,
    http: Arc<Semaphore>,
    http_max: u64,
    half_hellos: Arc<Semaphore>,
}

impl Entrance {
    /// As many as there is capacity for.
    pub fn new(capacity: &Capacity) -> Self {
        let semaphore = |count: u64| Arc::new(Semaphore::new((count as usize).min(Semaphore::MAX_PERMITS)));
        Self {
            open: AtomicU64::new(0),
            open_max: capacity.public,
            left: Notify::new(),
            half_open: semaphore(capacity.half_open),
            http: semaphore(capacity.http),
            http_max: capacity.http,
            half_hellos: semaphore(HALF_HELLOS_MAX),
        }
    }

    /// Waits until one more connection may be accepted; gives its turn among those that have not sent their
    /// request. Beyond it clients wait in the listen queue.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = self.half_open.clone().acquire_owned().await.ok()?;
        while self.open.load(Ordering::Acquire) >= self.open_max {
            self.left.notified().await;
        }
        Some(turn)
    }

    /// Whether somebody may be waiting for a turn.
    pub fn are_scarce(&self) -> bool {
        self.half_open.available_permits() == 0 || self.open.load(Ordering::Acquire) >= self.open_max
    }

    /// A place among connections that stay open for another plain HTTP request; none: close after the answer.
    pub fn keep_alive(&self) -> Option<OwnedSemaphorePermit> {
        self.http.clone().try_acquire_owned().ok()
    }

    /// Whether no such place is left.
    pub fn is_http_full(&self) -> bool {
        self.http.available_permits() == 0
    }

    /// How many connections stay open for another plain HTTP request.
    pub fn http_open(&self) -> u64 {
        self.http_max.saturating_sub(self.http.available_permits() as u64)
    }

    /// A place for a hello of which much has come and not all: such are held before anybody knows who says them.
    pub fn half_hello(&self) -> Option<OwnedSemaphorePermit> {
        self.half_hellos.clone().try_acquire_owned().ok()
    }

    /// A connection is here; to be given back by [`Entrance::go`].
    pub fn come(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// It is gone.
    pub fn go(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.left.notify_one();
    }
}
