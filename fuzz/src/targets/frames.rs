//! The hub's own reader of WebSocket frames beside tungstenite's, and beside itself with the bytes cut elsewhere.

use super::connection;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use tidegate::ws::{Event, ReadError, Reader, Role};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::{Role as WsRole, WebSocket, WebSocketConfig};

/// The longest message that both take.
const BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close,
    /// The protocol is broken, and so is the connection.
    Protocol,
    TooLong,
    Utf8,
}

/// Bytes that come once, and then nothing.
struct Once<'a>(&'a [u8]);

impl Read for Once<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            bytes => Ok(bytes),
        }
    }
}

impl Write for Once<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tungstenite_says(bytes: &[u8], role: WsRole) -> Vec<Said> {
    let config = WebSocketConfig::default().max_message_size(Some(BYTES_MAX)).max_frame_size(Some(BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Once(bytes), role, Some(config));
    let mut said = Vec::new();
    loop {
        said.push(match socket.read() {
            Ok(Message::Text(text)) => Said::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Said::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Said::Pong(bytes.to_vec()),
            Ok(Message::Close(_)) => Said::Close,
            Ok(Message::Frame(_)) => continue,
            Err(WsError::Protocol(_)) => Said::Protocol,
            Err(WsError::Capacity(CapacityError::MessageTooLong { .. })) => Said::TooLong,
            Err(WsError::Utf8(_)) => Said::Utf8,
            Err(_) => return said,
        });
        if matches!(said.last(), Some(Said::Close | Said::Protocol | Said::TooLong | Said::Utf8)) {
            return said;
        }
    }
}

fn we_say(bytes: &[u8], role: Role, piece: usize) -> Vec<Said> {
    let mut reader = Reader::new(role, Vec::new());
    let mut said = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        let mut see = |event: Event<'_>| {
            said.push(match event {
                Event::Text(text) => Said::Text(text.to_owned()),
                Event::Binary(bytes) => Said::Binary(bytes.to_vec()),
                Event::Ping(bytes) => Said::Ping(bytes.to_vec()),
                Event::Pong(bytes) => Said::Pong(bytes.to_vec()),
                Event::Close(_) => {
                    said.push(Said::Close);
                    return ControlFlow::Break(());
                }
            });
            ControlFlow::Continue(())
        };
        match reader.feed(&mut piece.to_vec(), BYTES_MAX, &mut see) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return said,
            Err(error) => {
                said.push(match error {
                    ReadError::Protocol(_) => Said::Protocol,
                    ReadError::TooLong { .. } => Said::TooLong,
                    ReadError::Utf8 => Said::Utf8,
                });
                return said;
            }
        }
    }
    said
}

/// The first byte says which end we are; the rest are frames as in `connection`, or raw bytes.
pub(super) fn frames(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let (role, their_role) =
        if first & 1 == 0 { (Role::Server, WsRole::Server) } else { (Role::Client, WsRole::Client) };
    let mut bytes = Vec::new();
    if first & 2 == 0 {
        connection::frames(rest, &mut bytes);
    } else {
        bytes.extend_from_slice(rest);
    }
    let whole = we_say(&bytes, role, usize::MAX);
    for piece in [1, 2, 3, 7, 64, 1021] {
        assert_eq!(we_say(&bytes, role, piece), whole, "cut into pieces of {piece}");
    }
    let theirs = tungstenite_says(&bytes, their_role);
    let same = whole == theirs;
    // What a header shows to be wrong is told at the header; tungstenite waits for the payload first.
    let earlier = whole.len() == theirs.len() + 1
        && whole.starts_with(&theirs)
        && matches!(whole.last(), Some(Said::Protocol | Said::TooLong));
    assert!(same || earlier, "we say {whole:?}, tungstenite {theirs:?}");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = connection::seeds();
    seeds.extend(super::inputs([
        &b"\x03\x81\x05hello\x82\x7e\x00\x01x\x88\x02\x03\xe8"[..],
        b"\x02\x81\x85\x01\x02\x03\x04iggh|",
        b"\x02\x01\x80\0\0\0\0\x80\x80\0\0\0\0\x89\xfe\x01\0",
        b"\x03\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ]));
    seeds
}
