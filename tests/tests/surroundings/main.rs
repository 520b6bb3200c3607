//! What is around a hub may be full, closed, unread or scarce: nothing of it ends the hub, holds it up, or costs
//! a session, and nobody who was not believed fills its memory.

mod descriptors;
mod health;
mod log_output;
mod memory;
mod signals;
mod sockets;
mod sums;
