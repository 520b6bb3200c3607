//! One thin connection: a socket, where it is in its life, and next to nothing else.
//!
//! ```text
//!   Connecting ── writable ──► Upgrading ── 101 ──► Greeting ── welcome ──► Open ── close ordered ──► Closing
//!                                            └──── 101, plain ─────────────► Open                        │
//!   any ── end of stream, error, close by the other side ──► gone (the slot is free) ◄──────────────────┘
//! ```

use super::codec::push_masked;
use super::orders::Setup;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections from one source address: with more, the kernel's search for a free port costs more
/// than the connection.
const PER_SOURCE: usize = 1_000;

/// Source addresses that one generator may use: enough for its 19,000 connections.
const SOURCES: usize = 20;

/// What may wait for a socket that takes nothing, in bytes.
const UNSENT_MAX: usize = 256 * 1024;

/// The key that every client of ours offers. It protects nobody from anything here, and a constant
/// one lets the answer be compared with a constant.
pub(super) const KEY: &str = "dGlkZWdhdGUtbG9hZC4uLg==";

/// The life of a connection; the picture stands at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Dialled.
    Connecting,
    /// Asked for the upgrade.
    Upgrading,
    /// Upgraded, waits for `welcome`.
    Greeting,
    /// In use.
    Open,
    /// Said goodbye.
    Closing,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes lie in the buffer, those kept from before included.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The other side has ended the stream.
    End,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    /// Which user of the slot this is; events of earlier ones are not for it.
    pub(super) generation: u32,
    /// Where it is in its life.
    pub(super) phase: Phase,
    /// When this attempt was due.
    pub(super) due_ns: u64,
    /// App messages received; the offset that an ack names.
    pub(super) received: u64,
    /// Those of them that were not acked.
    pub(super) unacked: u16,
    /// Whether an ack is due already.
    pub(super) ack_queued: bool,
    /// The stamp of the last published message: each later one has a later stamp.
    pub(super) published_ns: u64,
    /// The stamp of the last message that was sent to come back, and of the last that did.
    pub(super) sent_ns: u64,
    pub(super) echoed_ns: u64,
    /// The beginning of a frame or head whose rest has not come.
    tail: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

impl Conn {
    /// Begins to dial.
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn dial(setup: &Setup, slot: usize, generation: u32, due_ns: u64) -> io::Result<Self> {
        let target = setup.target;
        let socket =
            Socket::new(Domain::for_address(target), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = setup.receive_buffer {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        if let Some(source) = source(target, setup.number, slot) {
            socket.bind(&source.into())?;
        }
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            generation,
            phase: Phase::Connecting,
            due_ns,
            received: 0,
            unacked: 0,
            ack_queued: false,
            published_ns: 0,
            sent_ns: 0,
            echoed_ns: 0,
            tail: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// The socket, to be watched.
    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The error of a dial that failed.
    ///
    /// # Errors
    /// That error.
    pub(super) fn dialled(&self) -> io::Result<()> {
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads into the shared buffer, behind what was kept.
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Got> {
        let kept = self.tail.len();
        if buffer.len() < kept * 2 {
            buffer.resize(kept * 2, 0);
        }
        loop {
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Ok(Got::End),
                Ok(bytes) => {
                    buffer[..kept].copy_from_slice(&self.tail);
                    self.tail = Vec::new();
                    return Ok(Got::Bytes(kept + bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Got::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what could not be read yet.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.tail = rest.to_vec();
    }

    /// Writes now, or when the socket takes it. False if too much waits already.
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            if self.unsent.len() + bytes.len() > UNSENT_MAX {
                return Ok(false);
            }
            self.unsent.extend_from_slice(bytes);
            return Ok(true);
        }
        let written = self.try_write(bytes)?;
        if written < bytes.len() {
            self.unsent = bytes[written..].to_vec();
        }
        Ok(true)
    }

    /// The socket takes more again.
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.unsent);
        let written = self.try_write(&bytes)?;
        self.unsent = bytes[written..].to_vec();
        Ok(())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

/// The source address of a slot. Only loopback has more than one.
fn source(target: SocketAddr, number: u8, slot: usize) -> Option<SocketAddr> {
    let IpAddr::V4(address) = target.ip() else { return None };
    let nth = usize::from(number) * SOURCES + (slot / PER_SOURCE) % SOURCES;
    let source = Ipv4Addr::new(127, 1 + (nth / 250) as u8, 1 + (nth % 250) as u8, 1);
    address.is_loopback().then(|| SocketAddr::from((source, 0)))
}

/// The request that opens a WebSocket, with the first frame behind it if the dialect has one.
pub(super) fn opening(setup: &Setup, subprotocol: Option<&str>, first: Option<&[u8]>) -> Vec<u8> {
    let offered = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    let Setup { host, path, .. } = setup;
    let mut bytes = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offered}\r\n"
    )
    .into_bytes();
    if let Some(first) = first {
        push_masked(&mut bytes, super::codec::TEXT, first, *b"load");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_of_one_generator_share_few_addresses_and_two_generators_share_none() {
        let target = SocketAddr::from(([127, 0, 0, 1], 80));
        let address = |number, slot| source(target, number, slot).unwrap().ip().to_string();
        assert_eq!((address(0, 0), address(0, 999), address(0, 1_000)), three("127.1.1.1", "127.1.1.1", "127.1.2.1"));
        assert_eq!((address(1, 0), address(12, 0), address(13, 0)), three("127.1.21.1", "127.1.241.1", "127.2.11.1"));
        let far = SocketAddr::from(([10, 0, 0, 1], 80));
        assert_eq!(source(far, 0, 0), None, "only loopback has addresses to choose from");
    }

    #[test]
    fn a_connection_is_a_socket_and_next_to_nothing_else() {
        assert!(size_of::<Option<Conn>>() <= 128, "{} bytes", size_of::<Option<Conn>>());
    }

    fn three(a: &str, b: &str, c: &str) -> (String, String, String) {
        (a.to_owned(), b.to_owned(), c.to_owned())
    }
}
