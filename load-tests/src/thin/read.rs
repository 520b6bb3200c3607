//! What comes in, and what follows from it at once.

use super::clock::now_ns;
use super::codec::{self, Frame, Parsed};
use super::conn::{Got, KEY, Phase};
use super::engine::Engine;
use super::orders::{Dialect, Kind};
use tidegate_protocol::frame::{ClientFrame, ServerFrame, Text, sort};
use tidegate_protocol::position::Offset;

/// Messages after which a client acks at once, and the longest that an ack waits: as the wire asks.
const ACK_MESSAGES: u16 = 32;
const ACK_WAIT_NS: u64 = 250_000_000;

/// No head and no frame is longer than this, in bytes.
const UNIT_MAX: usize = 2 * 1024 * 1024;

/// Begins a message whose time is told: `s <ns> …` was published, `e <ns> …` is to be sent back.
pub(crate) const PUBLISHED: &str = "s ";
pub(super) const ECHO: &str = "e ";

/// What a frame means for the connection that it came on.
enum Then {
    Go,
    Gone(String),
}

impl Engine {
    pub(super) fn readable(&mut self, slot: usize) {
        // Out of the way, so that the connection and the rest of the engine can both be used.
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(conn) = self.conns[slot].as_mut() {
            match conn.read(&mut buffer) {
                Ok(Got::Bytes(length)) => {
                    let full = length == buffer.len();
                    let mut at = 0;
                    let then = self.take_in(slot, &mut buffer[..length], &mut at);
                    if let Then::Gone(why) = then {
                        self.gone(slot, &why);
                        break;
                    }
                    if at < length
                        && let Some(conn) = self.conns[slot].as_mut()
                    {
                        conn.keep(&buffer[at..length]);
                    }
                    // Less than there was room for: the socket is empty, and its next byte is an event.
                    if !full {
                        break;
                    }
                }
                Ok(Got::Nothing) => break,
                Ok(Got::End) => {
                    self.gone(slot, "the other side ended the connection");
                    break;
                }
                Err(error) => {
                    self.gone(slot, &error.to_string());
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes in what lies in the buffer, as far as it is whole; `at` is how far that was.
    fn take_in(&mut self, slot: usize, bytes: &mut [u8], at: &mut usize) -> Then {
        while *at < bytes.len() {
            let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
            if matches!(conn.phase, Phase::Connecting | Phase::Upgrading) {
                let Some(end) = codec::head_end(&bytes[*at..]) else { return short(bytes.len() - *at) };
                if let Then::Gone(why) = self.upgraded(slot, &bytes[*at..*at + end]) {
                    return Then::Gone(why);
                }
                *at += end;
                continue;
            }
            match codec::parse(&mut bytes[*at..]) {
                Parsed::Short(needed) => return short(needed),
                Parsed::Frame(frame, length) => {
                    if let Then::Gone(why) = self.frame(slot, frame) {
                        return Then::Gone(why);
                    }
                    *at += length;
                }
            }
        }
        Then::Go
    }

    fn upgraded(&mut self, slot: usize, head: &[u8]) -> Then {
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if !head.starts_with(b"HTTP/1.1 101") {
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
            return Then::Gone(format!("upgrade answered {}", String::from_utf8_lossy(line)));
        }
        let accept = self.accept.as_bytes();
        if !head.windows(accept.len()).any(|window| window == accept) {
            return Then::Gone("upgrade with a wrong Sec-WebSocket-Accept".to_owned());
        }
        match self.setup.dialect {
            Dialect::Tidegate => conn.phase = Phase::Greeting,
            Dialect::Plain => self.opened(slot),
        }
        Then::Go
    }

    fn opened(&mut self, slot: usize) {
        let Some(conn) = self.conns[slot].as_mut() else { return };
        conn.phase = Phase::Open;
        let now = now_ns();
        self.active = true;
        self.figures.opening.note(now.saturating_sub(conn.due_ns));
        self.figures.last_open_ns = now;
        *self.figures.opened_by_10ms.entry(now / 10_000_000).or_default() += 1;
        self.figures.progress.opening -= 1;
        self.figures.progress.open += 1;
        self.schedule.oldest.push_back((slot as u32, conn.generation));
    }

    fn frame(&mut self, slot: usize, frame: Frame<'_>) -> Then {
        match frame.head {
            codec::PING => self.send(slot, codec::PONG, frame.payload),
            codec::PONG => {
                if let Ok(stamp) = <[u8; 8]>::try_from(frame.payload) {
                    self.came_back(slot, u64::from_be_bytes(stamp), Kind::Ping);
                }
                Then::Go
            }
            codec::CLOSE => {
                let code = frame.payload.first_chunk().map_or(1005, |two| u16::from_be_bytes(*two));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                let _ = self.send(slot, codec::CLOSE, &frame.payload[..frame.payload.len().min(2)]);
                Then::Gone(format!("closed with {code} {reason}").trim_end().to_owned())
            }
            codec::TEXT if self.setup.dialect == Dialect::Tidegate && frame.payload.first() == Some(&1) => {
                self.sorted(slot, frame.payload)
            }
            _ if frame.ends_message() => self.message(slot, frame.payload),
            _ => Then::Go,
        }
    }

    /// A text that may be a frame of the protocol.
    fn sorted(&mut self, slot: usize, payload: &[u8]) -> Then {
        let Ok(text) = std::str::from_utf8(payload) else { return Then::Gone("text that is not UTF-8".to_owned()) };
        let json = match sort(text) {
            Text::App(message) => return self.message(slot, message.as_bytes()),
            Text::Frame(json) => json,
        };
        match ServerFrame::decode(json) {
            Ok(ServerFrame::Welcome(welcome)) => {
                if let Some(conn) = self.conns[slot].as_mut() {
                    conn.received = welcome.from.0;
                }
                self.opened(slot);
                Then::Go
            }
            Ok(ServerFrame::Ping {}) => self.send(slot, codec::TEXT, ClientFrame::Pong {}.encode().as_bytes()),
            Ok(ServerFrame::Retry { after_ms, .. }) => {
                self.retried(slot, after_ms);
                Then::Go
            }
            Ok(ServerFrame::Gap { to, .. }) => {
                self.figures.error("a declared gap");
                if let Some(conn) = self.conns[slot].as_mut() {
                    conn.received = to.0;
                }
                Then::Go
            }
            Ok(_) => Then::Go,
            Err(error) => Then::Gone(format!("a frame that cannot be read: {error}")),
        }
    }

    /// Turned away for now: the same attempt goes on later, from wherever it is sent then.
    fn retried(&mut self, slot: usize, after_ms: u64) {
        let Some(conn) = self.conns[slot].take() else { return };
        self.free.push(slot as u32);
        self.figures.retried += 1;
        self.figures.progress.opening -= 1;
        self.schedule.again(now_ns() + after_ms * 1_000_000, conn.due_ns);
    }

    fn message(&mut self, slot: usize, payload: &[u8]) -> Then {
        let now = now_ns();
        self.active = true;
        self.figures.progress.received += 1;
        self.figures.last_receipt_ns = now;
        if let Some(stamp) = stamp(payload, PUBLISHED) {
            self.figures.delivery.note(now.saturating_sub(stamp));
        }
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if self.setup.dialect == Dialect::Tidegate {
            conn.received += 1;
            conn.unacked += 1;
            if conn.unacked >= ACK_MESSAGES {
                if let Then::Gone(why) = self.ack(slot) {
                    return Then::Gone(why);
                }
            } else if !conn.ack_queued {
                conn.ack_queued = true;
                self.schedule.acks.push_back((now + ACK_WAIT_NS, slot as u32, conn.generation));
            }
        }
        if let Some(stamp) = stamp(payload, ECHO) {
            self.came_back(slot, stamp, Kind::Echo);
        }
        Then::Go
    }

    fn ack(&mut self, slot: usize) -> Then {
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if conn.unacked == 0 || conn.phase != Phase::Open {
            return Then::Go;
        }
        conn.unacked = 0;
        let ack = ClientFrame::Ack { received: Offset(conn.received) }.encode();
        self.send(slot, codec::TEXT, ack.as_bytes())
    }

    /// Acks whose time has come.
    pub(super) fn send_due_acks(&mut self, now: u64) {
        while let Some((at, slot, generation)) = self.schedule.acks.front().copied().filter(|(at, ..)| *at <= now) {
            self.schedule.acks.pop_front();
            let slot = slot as usize;
            let Some(conn) = self.conns[slot].as_mut().filter(|conn| conn.generation == generation) else { continue };
            conn.ack_queued = false;
            if let Then::Gone(why) = self.ack(slot) {
                self.gone(slot, &why);
            }
            debug_assert!(at <= now);
        }
    }

    /// Writes one frame.
    fn send(&mut self, slot: usize, head: u8, payload: &[u8]) -> Then {
        let key = self.next_key();
        self.out.clear();
        codec::push_masked(&mut self.out, head, payload, key);
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        match conn.write(&self.out) {
            Ok(true) => Then::Go,
            Ok(false) => {
                self.figures.error("not sent: the socket takes nothing");
                Then::Go
            }
            Err(error) => Then::Gone(error.to_string()),
        }
    }

    /// Writes one frame from outside of reading.
    pub(super) fn say(&mut self, slot: usize, head: u8, payload: &[u8]) {
        if let Then::Gone(why) = self.send(slot, head, payload) {
            self.gone(slot, &why);
        }
    }
}

fn short(needed: usize) -> Then {
    if needed > UNIT_MAX { Then::Gone(format!("a head or frame of {needed} bytes or more")) } else { Then::Go }
}

/// The time in a message that begins with these words.
fn stamp(payload: &[u8], begins: &str) -> Option<u64> {
    let rest = payload.strip_prefix(begins.as_bytes())?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let mut ns = 0_u64;
    for digit in digits {
        ns = ns.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(ns).filter(|ns| *ns > 0)
}

/// A message with a time in it, filled up to a length.
pub(crate) fn stamped(begins: &str, ns: u64, bytes: usize) -> String {
    let mut text = format!("{begins}{ns} ");
    while text.len() < bytes {
        text.push('.');
    }
    text
}

/// What the server must answer to our key.
pub(super) fn accept() -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(KEY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_from_where_it_was_put_and_from_nowhere_else() {
        let text = stamped(PUBLISHED, 123_456, 80);
        assert_eq!(text.len(), 80);
        assert_eq!((stamp(text.as_bytes(), PUBLISHED), stamp(text.as_bytes(), ECHO)), (Some(123_456), None));
        for wrong in ["s", "s ", "s x", "s 99999999999999999999999", "hello"] {
            assert_eq!(stamp(wrong.as_bytes(), PUBLISHED), None, "{wrong}");
        }
    }

    #[test]
    fn a_stamp_longer_than_the_message_asked_for_is_kept_whole() {
        assert_eq!(stamped(ECHO, 7, 0), "e 7 ");
    }
}
