//! The link against a real WebSocket server and a real HTTP server on loopback.

mod events;
pub(crate) mod harness;
mod relay;
mod settle;
