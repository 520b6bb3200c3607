//! The Tidegate hub.
//!
//! `protocol` decides, this crate does: listeners, sockets, timers, disk and peers on this side, the
//! machines on the other. Where to look:
//!
//! | module | what |
//! |---|---|
//! | [`run`](run()) | the story of a process, from settings to exit |
//! | [`hub`] | sessions in their cells, claims, calls, fan-out, parking |
//! | [`public`] | the clients' listener, the first exchange, one task per connection |
//! | [`ws`] | WebSocket over a bare stream |
//! | [`app`] | the app behind: a socket per session, and its events |
//! | [`peer`] | other hubs |
//! | [`drain`] | runs the drain machine |
//! | [`api`] | the private API |
//! | [`store`] | parked sessions on disk |
//! | [`world`] | clock, chance and network, the system's or simulated ones |
//! | [`fault`] | steps at which debug builds kill themselves for tests |
//! | [`config`], [`keys`], [`auth`], [`tls`], [`telemetry`] | what its name says |

pub mod api;
pub mod app;
pub mod auth;
pub mod config;
pub mod drain;
pub mod fault;
#[cfg(test)]
mod footprint;
pub mod hub;
pub mod keys;
mod memory;
pub mod message;
pub mod peer;
pub mod peer_list;
pub mod public;
pub mod run;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod world;
pub mod ws;

pub use run::run;
