//! WebSocket (RFC 6455) over a bare stream, for both roles: what stands between the bytes and the messages.
//!
//! tungstenite has the handshake and the form of a frame's header; what it would keep for every
//! connection (a read buffer, a write buffer of the longest message) is not kept here. An idle
//! connection has no buffer at all: bytes are read into a buffer of the thread, and what is written goes
//! straight to the stream. On the heap is only what is unfinished: half a frame, or what the kernel did
//! not take.
//!
//! | part | what |
//! |---|---|
//! | `frame` | messages as bytes |
//! | `masks` | the keys that clients mask with |
//! | `reader` | bytes as messages, with every check that the protocol asks for |
//! | `socket` | the stream, and what waits to be written |

pub mod frame;
mod masks;
mod parts;
mod reader;
mod socket;
#[cfg(test)]
mod tests;

pub use masks::fresh_mask;
pub use reader::{Event, ReadError, Reader};
pub use socket::{Socket, with_read_buffer, with_scratch};

/// Which end of a connection we are. A client masks what it sends, a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The other end is a client.
    Server,
    /// The other end is a server.
    Client,
}
