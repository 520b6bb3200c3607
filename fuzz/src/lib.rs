//! Attacks on everything that reads bytes from outside.
//!
//! ```text
//!   corpus/TARGET/*, seeds in code ──► engine: mutate, within a budget ──► target(&[u8]) ──► real code
//!                  make fuzz: libFuzzer, with coverage ─────────────────────────┘
//! ```
//!
//! A target is a function of bytes. It panics where a promise is broken: a panic anywhere (tasks included), an
//! answer that should not be, a wait without an end, memory beyond its limit. The tests call each for some
//! seconds on stable Rust with mutations of their own; `make fuzz` gives the very same functions to libFuzzer.

pub mod bench;
pub mod engine;
pub mod meter;
pub mod targets;
pub mod world;
