//! Parked sessions on disk: written before their clients are told *safe*, taken up by the next process on the same directory.
//!
//! ```text
//!   session tasks ──► Store (async handle) ──bounded queue──► writer thread ──► Log ──► Disk
//!                        │                                                       │
//!                        └── read, state, list ◄──────── Index (memory) ◄────────┘ changed only after the sync
//! ```
//!
//! One append-only file, `sessions.log`. What the store says `Ok` to is synced. The order that the hub must keep is handover.md 18:
//! [`Store::park`] before the client sees 1012; [`Store::taken_up`] before the first welcome, publish or state change on a parked session;
//! [`Store::moved`] before `committed`. A session that was taken up, and of which nothing was said after that, was alive when the
//! process crashed: it is found as [`RecordState::TakenUp`] and yields a reset with user, channels and state.
//!
//! Damage is never passed over in silence and never a panic: see [`Recovered`].

mod dir;
mod disk;
mod error;
pub mod faulty;
mod group;
mod index;
mod log;
mod own_files;
mod record;
mod report_file;
mod scan;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests_crash;
#[cfg(test)]
mod tests_damage;
#[cfg(test)]
mod tests_links;
#[cfg(test)]
mod tests_records;
#[cfg(test)]
mod tests_store;

pub use dir::{DataDir, DataDirError, Random, next_incarnation};
pub use disk::{Disk, RealDisk};
pub use error::StoreError;
pub use index::{RecordState, Stats};
pub use report_file::ReportFile;
pub use scan::Recovered;
pub use writer::{ParkOutcome, Parked, Pause, Store, Writer};

/// Name of the log inside the data directory.
pub const LOG_NAME: &str = "sessions.log";
/// Name of the log's next version while it is being written.
pub const LOG_NEXT_NAME: &str = "sessions.log.next";

/// Name of what a process leaves for the next one beside the log.
const BESIDE_NAME: &str = "recent.messages";
/// Name of that while it is being written.
const BESIDE_NEXT_NAME: &str = "recent.messages.next";
/// More than that is not read back: the ring's largest size, as JSON and base64.
const BESIDE_BYTES_MAX: usize = 2 << 30;

/// Seals what goes to disk, so that nobody else reads or changes it.
pub trait Seal: Send + Sync + 'static {
    /// `plain`, sealed for `purpose`; at most 256 bytes longer.
    fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8>;
    /// What was sealed for `purpose`; `None` if it was changed, or sealed with a key that is not known, or for something else.
    fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>>;
}

/// Limits of the store. When one is reached: a record or log that would be too large is refused with an error for that session alone;
/// a full queue makes callers wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of one session.
    pub record_bytes_max: u32,
    /// Largest log. Only parking counts against it: what makes a session gone must always fit.
    pub log_bytes_max: u64,
    /// Most sessions in the log at a time.
    pub sessions_max: usize,
    /// Most calls that wait for the writer.
    pub queue_calls_max: usize,
    /// Most bytes of bodies that wait for the writer; one call that is larger than all of it waits until it is alone.
    pub queue_bytes_max: u32,
    /// About how many bytes share one sync; a larger batch is written and synced in pieces.
    pub group_bytes_max: usize,
    /// Most calls that share one sync.
    pub group_calls_max: usize,
    /// Most bodies read at the same time.
    pub reads_max: usize,
    /// The log is rewritten when this much of it is dead, and the dead part is larger than the living.
    pub compact_dead_bytes_min: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes_max: 16 << 20,
            log_bytes_max: 8 << 30,
            sessions_max: 1_000_000,
            queue_calls_max: 1024,
            queue_bytes_max: 64 << 20,
            group_bytes_max: 8 << 20,
            group_calls_max: 1024,
            reads_max: 16,
            compact_dead_bytes_min: 16 << 20,
        }
    }
}

impl Limits {
    /// Largest sealed part that a record can have.
    fn sealed_bytes_max(&self) -> usize {
        self.record_bytes_max as usize + record::SEAL_BYTES_MAX
    }
}
