//! See the crate README.
pub mod config;
pub mod keys;
pub mod store;
pub mod auth;
pub mod telemetry;
