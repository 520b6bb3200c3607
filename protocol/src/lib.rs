//! What hubs, clients, the trigger and the load tool agree on, and the machines that decide.
//!
//! Nothing here waits, reads a clock, rolls a dice or touches a socket: events and time come in
//! as values, actions go out as values, and the server crate carries them out. So every drain bug
//! can be reproduced in a unit test, and the machines themselves (not a second model of them) are
//! what the model checker explores.
//!
//! ```text
//!        hook ──────────┐                 ┌────────── load-tests
//!                       ▼                 ▼
//!                    protocol  ◄──────  server  ◄──── tests
//!                       │ vectors/*.json
//!                       └──────────────► client-sdk-js (reads the same files in its tests)
//! ```

pub mod app;
pub mod claim;
pub mod client;
pub mod close;
pub mod control;
pub mod drain;
pub mod frame;
pub mod id;
mod number;
pub mod parked;
pub mod peer;
pub mod position;
pub mod replay;
pub mod session;
pub mod stopping;
