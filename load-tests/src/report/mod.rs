//! What a run found, and the three forms in which it is told: a table, JSON, a page.
//!
//! ```text
//! scenario ──► Findings ── judged by the gates ──► Report ──┬── table   people at a terminal
//!                                                           ├── JSON    scripts (schema.json)
//!                                                           └── html    people who were not there
//! ```

mod html;
mod model;
mod output;
mod svg;
mod table;

pub(crate) use model::{Chart, Distribution, Figure, Findings, Series};
pub(crate) use output::{OutputArgs, complain, finish, keep, last_words, say};
