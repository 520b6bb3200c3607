//! The load itself: thin clients, thousands per process, steered from outside.
//!
//! ```text
//! crew (coordinator) ── orders, one JSON line each ──► worker (a process per 19,000 connections)
//!        ▲                                               └─ engine ─ schedule   what is due when
//!        └───────────── progress, figures ───────────────       ├── due         attempts, messages, goodbyes
//!                                                               ├── read        what comes in
//!                                                               └── conn ─ codec
//! ```

mod clock;
pub(crate) mod codec;
mod conn;
mod crew;
mod due;
mod echo_app;
mod engine;
mod orders;
mod read;
mod schedule;
mod tally;
mod worker;

pub(crate) use clock::now_ns;
pub(crate) use crew::{Crew, Target, check_open_files};
pub(crate) use echo_app::run as run_echo_app;
pub(crate) use orders::{Dialect, Kind, Progress, Traffic};
pub(crate) use read::{PUBLISHED, stamped};
pub(crate) use tally::{Figures, Times};
pub(crate) use worker::{raise_open_files, run as run_worker};
