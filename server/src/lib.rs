//! See the crate README.
pub mod config;
pub mod keys;
pub mod store;
pub mod auth;
pub mod telemetry;
pub mod peer_list;
pub mod tls;
