//! See the crate README.
pub mod config;
pub mod store;
