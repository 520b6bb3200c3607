//! What can go wrong in the store.

use std::io;
use std::sync::Arc;
use tidegate_protocol::id::SessionId;

/// Why the store did not do what it was asked. Cheap to clone: calls that shared one write share its error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused; nothing of the call counts as done.
    #[error("the disk refused to {doing}: {error}{}", if *may_resurface { "; undoing that failed too, so a crash now could bring the record back" } else { "" })]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the disk said.
        error: Arc<io::Error>,
        /// The record could not be taken back from the file, and would be found again if the process crashed before the next write.
        may_resurface: bool,
    },
    /// One session is larger than a record may be.
    #[error("session {session} takes {bytes} bytes to park, at most {bytes_max} are allowed")]
    RecordTooLarge {
        /// Whose record.
        session: SessionId,
        /// Its length.
        bytes: usize,
        /// [`super::Limits::record_bytes_max`].
        bytes_max: u32,
    },
    /// The log is as large as it may be, with nothing dead left to drop.
    #[error("the log would grow to {bytes} bytes, at most {bytes_max} are allowed")]
    LogFull {
        /// What it would grow to.
        bytes: u64,
        /// [`super::Limits::log_bytes_max`].
        bytes_max: u64,
    },
    /// As many sessions are parked as may be.
    #[error("{sessions_max} sessions are in the log already, which is the limit")]
    TooManySessions {
        /// [`super::Limits::sessions_max`].
        sessions_max: usize,
    },
    /// A session that is not in the log cannot be taken up: it was never parked, or it moved or ended.
    #[error("session {session} is not parked here")]
    NotParked {
        /// Which.
        session: SessionId,
    },
    /// The record was whole once and is no more.
    #[error("the parked record of session {session} is damaged on disk")]
    Damaged {
        /// Whose.
        session: SessionId,
    },
    /// The log was written by a release that knows a newer format.
    #[error(
        "the log has format {found}, this release reads format {known}; start the release that wrote it, or give another --data-dir"
    )]
    Version {
        /// In the file.
        found: u16,
        /// What this release writes.
        known: u16,
    },
    /// There are parked sessions, and not one of them opens. Nothing was changed.
    #[error(
        "the parked sessions were sealed with another key; give the --cluster-key-file (or the generated key) they were sealed with"
    )]
    WrongKey,
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// For `map_err`: the disk refused, and the file is as it was.
    pub(super) fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Disk { doing, error: Arc::new(error), may_resurface: false }
    }

    /// The same error, with the word that the file could not be put back.
    pub(super) fn unrepaired(self) -> Self {
        match self {
            Self::Disk { doing, error, .. } => Self::Disk { doing, error, may_resurface: true },
            other => other,
        }
    }
}
