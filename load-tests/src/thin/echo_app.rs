//! The app behind a relay: takes WebSockets on one thread and sends every message back as it came.

use super::codec::{self, Parsed};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;
/// Events of one turn, bytes of the shared read buffer, and what may wait for one connection.
const EVENTS: usize = 1_024;
const BUFFER: usize = 256 * 1024;
const UNSENT_MAX: usize = 4 * 1024 * 1024;
/// The longest request head.
const HEAD_MAX: usize = 64 * 1024;
/// The listener's place among the events.
const LISTENER: Token = Token(usize::MAX);

/// One connection of a client or of a hub.
struct Guest {
    stream: TcpStream,
    upgraded: bool,
    /// What came and is not whole yet.
    tail: Vec<u8>,
    /// What the socket does not take yet.
    unsent: Vec<u8>,
}

/// Listens on a free port of 127.0.0.1, prints its ready line, and serves until it is killed.
///
/// # Errors
/// In words: the system's refusal.
pub(crate) fn run() -> Result<(), String> {
    serve().map_err(|error| format!("echo app: {error}"))
}

fn serve() -> io::Result<()> {
    super::worker::raise_open_files()?;
    let mut listener = listen()?;
    let address = listener.local_addr()?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    crate::report::say(&serde_json::json!({ "event": "ready", "public": address.to_string() }));
    let mut guests: Vec<Option<Guest>> = Vec::new();
    let mut free = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut guests, &mut free)?;
                continue;
            }
            let slot = event.token().0;
            let Some(guest) = guests[slot].as_mut() else { continue };
            let stays = (!event.is_writable() || guest.flush()) && (!event.is_readable() || guest.read(&mut buffer));
            if !stays {
                guests[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    guests: &mut Vec<Option<Guest>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // One that left before it was accepted is no trouble of ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let slot = free.pop().unwrap_or_else(|| {
            guests.push(None);
            guests.len() - 1
        });
        poll.registry().register(&mut stream, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
        guests[slot] = Some(Guest { stream, upgraded: false, tail: Vec::new(), unsent: Vec::new() });
    }
}

impl Guest {
    /// Reads and answers what is whole. False if the connection is over.
    fn read(&mut self, buffer: &mut Vec<u8>) -> bool {
        loop {
            let kept = self.tail.len();
            if buffer.len() < kept * 2 {
                buffer.resize(kept * 2, 0);
            }
            buffer[..kept].copy_from_slice(&self.tail);
            let length = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return false,
                Ok(bytes) => kept + bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            let full = length == buffer.len();
            let mut answer = Vec::new();
            let Some(taken) = self.take_in(&mut buffer[..length], &mut answer) else {
                self.write(&answer);
                return false;
            };
            self.tail = if taken == length { Vec::new() } else { buffer[taken..length].to_vec() };
            if !self.write(&answer) {
                return false;
            }
            if !full {
                return true;
            }
        }
    }

    /// Puts the answers to what is whole into `answer`; how far it went, or nothing if this is the end.
    fn take_in(&mut self, bytes: &mut [u8], answer: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0;
        if !self.upgraded {
            let Some(end) = codec::head_end(bytes) else {
                return (bytes.len() < HEAD_MAX).then_some(0);
            };
            answer.extend_from_slice(upgrade(&bytes[..end])?.as_bytes());
            self.upgraded = true;
            at = end;
        }
        while at < bytes.len() {
            let Parsed::Frame(frame, length) = codec::parse(&mut bytes[at..]) else { break };
            match frame.head {
                codec::PING => codec::push_plain(answer, codec::PONG, frame.payload),
                codec::PONG => {}
                codec::CLOSE => {
                    codec::push_plain(answer, codec::CLOSE, frame.payload);
                    return None;
                }
                // Parts of a message go back as parts.
                head => codec::push_plain(answer, head, frame.payload),
            }
            at += length;
        }
        Some(at)
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        self.unsent.extend_from_slice(bytes);
        self.flush() && self.unsent.len() <= UNSENT_MAX
    }

    fn flush(&mut self) -> bool {
        let mut written = 0;
        while written < self.unsent.len() {
            match self.stream.write(&self.unsent[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.unsent.drain(..written);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        true
    }
}

/// The answer to an upgrade; nothing if it is none.
fn upgrade(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let accept = derive_accept_key(key.as_bytes());
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_answered_by_the_key_that_it_offers_and_anything_else_is_not() {
        let answer = upgrade(b"GET / HTTP/1.1\r\nsec-WebSocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "the RFC's own example");
        assert_eq!(upgrade(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
    }
}
