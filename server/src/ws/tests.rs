//! The reader beside tungstenite: the same bytes, cut in the same places, give the same messages and the
//! same fault. And what a socket keeps.

use super::{Event, ReadError, Reader, Role, frame};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::{Role as WsRole, WebSocket, WebSocketConfig};

const BYTES_MAX: usize = 300;

/// What either of them says: messages in order, then how it ended.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Fault(String),
}

/// Gives what it has, then the end; takes what is written and forgets it.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tungstenite_says(bytes: &[u8], role: Role) -> Vec<Said> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(BYTES_MAX))
        .max_frame_size(Some(BYTES_MAX))
        .read_buffer_size(64);
    let role = if role == Role::Server { WsRole::Server } else { WsRole::Client };
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), role, Some(config));
    let mut said = Vec::new();
    loop {
        said.push(match socket.read() {
            Ok(WsMessage::Text(text)) => Said::Text(text.as_str().to_owned()),
            Ok(WsMessage::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(WsMessage::Ping(bytes)) => Said::Ping(bytes.to_vec()),
            Ok(WsMessage::Pong(bytes)) => Said::Pong(bytes.to_vec()),
            Ok(WsMessage::Close(close)) => {
                said.push(Said::Close(close.map(|close| (close.code.into(), close.reason.as_str().to_owned()))));
                return said;
            }
            Ok(WsMessage::Frame(_)) => continue,
            Err(WsError::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => {
                return said; // All was read.
            }
            Err(error) => {
                said.push(Said::Fault(fault(&error)));
                return said;
            }
        });
    }
}

fn fault(error: &WsError) -> String {
    match error {
        WsError::Protocol(error) => error.to_string(),
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            ReadError::TooLong { bytes: *size, bytes_max: *max_size }.to_string()
        }
        WsError::Utf8(_) => ReadError::Utf8.to_string(),
        other => panic!("{other}"),
    }
}

fn we_say(bytes: &[u8], role: Role, cut: usize) -> Vec<Said> {
    let mut reader = Reader::new(role, Vec::new());
    let mut said = Vec::new();
    for chunk in bytes.chunks(cut.max(1)) {
        let flow = reader.feed(&mut chunk.to_vec(), BYTES_MAX, &mut |event| {
            said.push(match event {
                Event::Text(text) => Said::Text(text.to_owned()),
                Event::Binary(bytes) => Said::Binary(bytes.to_vec()),
                Event::Ping(bytes) => Said::Ping(bytes.to_vec()),
                Event::Pong(bytes) => Said::Pong(bytes.to_vec()),
                Event::Close(close) => {
                    said.push(Said::Close(close.map(|(code, reason)| (code, reason.to_owned()))));
                    return ControlFlow::Break(());
                }
            });
            ControlFlow::Continue(())
        });
        match flow {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return said,
            Err(error) => {
                said.push(Said::Fault(error.to_string()));
                return said;
            }
        }
    }
    said
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// A payload: mostly text with wide characters, cut anywhere; now and then noise.
    fn payload(&mut self) -> Vec<u8> {
        let mut bytes = match self.below(8) {
            0 => (0..self.below(20)).map(|_| self.byte()).collect(),
            1 => Vec::new(),
            2 => vec![b'a'; self.below(BYTES_MAX as u64 + 40) as usize],
            _ => "žluťoučký 🦀 kůň \u{1} ".repeat(self.below(4) as usize + 1).into_bytes(),
        };
        if self.below(3) == 0 {
            bytes.truncate(self.below(bytes.len() as u64 + 1) as usize);
        }
        bytes
    }

    /// One frame, complete; most are right, in any role and order.
    fn frame(&mut self, role: Role) -> Vec<u8> {
        let kinds = if self.below(4) == 0 { 10 } else { 7 };
        let opcode = [1, 1, 2, 0, 0, 9, 10, 8, 3, 11][self.below(kinds) as usize];
        let is_final = self.below(3) != 0 || (opcode >= 8 && self.below(8) != 0);
        let mut payload = self.payload();
        if opcode >= 8 && self.below(8) != 0 {
            payload.truncate(125);
        }
        if opcode == 8 && self.below(4) != 0 {
            let code = [1000u16, 1005, 1012, 4000, 999, 5000][self.below(6) as usize];
            payload.splice(0..0, code.to_be_bytes());
            payload.truncate(125);
        }
        let masked = (role == Role::Server) == (self.below(40) != 0);
        let rsv = if self.below(60) == 0 { 0x40 } else { 0 };
        let mut bytes = vec![opcode | rsv | if is_final { 0x80 } else { 0 }];
        let mask_bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            len @ 0..126 => bytes.push(len as u8 | mask_bit),
            len => {
                bytes.push(126 | mask_bit);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        if masked {
            let mask = [self.byte(), self.byte(), self.byte(), self.byte()];
            bytes.extend_from_slice(&mask);
            frame::mask(&mut payload, mask);
        }
        bytes.extend_from_slice(&payload);
        bytes
    }
}

#[test]
fn any_frames_cut_anywhere_say_what_they_say_to_tungstenite() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut faults, mut messages) = (0, 0);
    for round in 0..20_000 {
        let role = if round % 2 == 0 { Role::Server } else { Role::Client };
        let bytes: Vec<u8> = (0..=dice.below(6)).flat_map(|_| dice.frame(role)).collect();
        let theirs = tungstenite_says(&bytes, role);
        faults += usize::from(matches!(theirs.last(), Some(Said::Fault(_))));
        messages += theirs.len();
        for cut in [bytes.len(), 1, 1 + dice.below(40) as usize] {
            assert_eq!(we_say(&bytes, role, cut), theirs, "round {round}, cut every {cut} bytes: {bytes:?}");
        }
    }
    assert!(faults > 2_000 && messages > 20_000, "{faults} faults and {messages} messages: too few to tell anything");
}

#[test]
fn a_header_that_is_wrong_is_refused_before_its_payload_comes() {
    let told = |bytes: &[u8]| we_say(bytes, Role::Server, bytes.len());
    assert_eq!(told(&[0x81, 0x05]), [Said::Fault("Received an unmasked frame from client".into())]);
    assert_eq!(
        told(&[0x82, 0xfe, 0x01, 0x2d, 0, 0, 0, 0]),
        [Said::Fault("a message of 301 bytes; at most 300".into())]
    );
    assert_eq!(told(&[0x82, 0xfe, 0x01, 0x2c, 0, 0, 0, 0]), [], "300 bytes may come");
}

#[test]
fn what_nobody_wanted_to_see_yet_is_seen_later() {
    let mut bytes = Vec::new();
    for text in ["one", "two", "three"] {
        frame::masked(&mut bytes, true, text.as_bytes(), [1, 2, 3, 4]);
    }
    let mut reader = Reader::new(Role::Server, Vec::new());
    let mut seen = Vec::new();
    let mut see = |event: Event<'_>| {
        let Event::Text(text) = event else { panic!("{event:?}") };
        seen.push(text.to_owned());
        ControlFlow::Break(())
    };
    for left in [true, true, false] {
        assert_eq!(reader.feed(&mut bytes, BYTES_MAX, &mut see), Ok(ControlFlow::Break(())));
        bytes.clear();
        assert_eq!(reader.was_stopped(), left);
    }
    assert_eq!(reader.feed(&mut [], BYTES_MAX, &mut see), Ok(ControlFlow::Continue(())));
    assert_eq!(seen, ["one", "two", "three"]);
}

#[test]
fn half_a_frame_is_kept_and_nothing_after_it() {
    let mut bytes = Vec::new();
    frame::masked(&mut bytes, false, &[7; 250], [1, 2, 3, 4]);
    let mut reader = Reader::new(Role::Server, Vec::new());
    let mut count = 0;
    for part in bytes.chunks(100) {
        let flow = reader.feed(&mut part.to_vec(), BYTES_MAX, &mut |event| {
            count += usize::from(event == Event::Binary(&[7; 250]));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(flow, Ok(ControlFlow::Continue(())));
    }
    assert_eq!(count, 1);
    assert_eq!(reader.kept_bytes(), 0, "between messages nothing is on the heap");
}

#[test]
fn of_a_message_that_cannot_be_read_nothing_is_kept_and_nothing_after_it_is_read() {
    let mut reader = Reader::new(Role::Server, Vec::new());
    let mut first = Vec::new();
    frame::masked(&mut first, false, &[7; 200], [1, 2, 3, 4]);
    // Not the last frame of its message.
    first[0] &= 0x7f;
    let mut feed = |bytes: &[u8]| reader.feed(&mut bytes.to_vec(), BYTES_MAX, &mut |_| ControlFlow::<()>::Continue(()));
    assert_eq!(feed(&first), Ok(ControlFlow::Continue(())));
    first[0] &= 0xf0;
    assert_eq!(feed(&first), Err(ReadError::TooLong { bytes: 400, bytes_max: BYTES_MAX }));
    let mut whole = Vec::new();
    frame::masked(&mut whole, false, &[7; 5], [1, 2, 3, 4]);
    assert!(feed(&whole).is_err(), "it may stand in the middle of a frame");
    assert!(feed(&[]).is_err());
    assert_eq!(reader.kept_bytes(), 0, "its connection may stay open for seconds");
}
