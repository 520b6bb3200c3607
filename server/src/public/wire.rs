//! Frames towards a client, as bytes: a server's frames are not masked, so a message is its header and itself.

use crate::message::Message;
use tidegate_protocol::frame::MARK;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Adds a text message that is ready to travel (a frame of ours).
pub(super) fn text(batch: &mut Vec<u8>, text: &str) {
    header(batch, OpCode::Data(Data::Text), text.len());
    batch.extend_from_slice(text.as_bytes());
}

/// Adds an empty ping.
pub(super) fn ping(batch: &mut Vec<u8>) {
    header(batch, OpCode::Control(Control::Ping), 0);
}

/// Adds an app message, byte for byte; a text that begins with the mark gets one more.
pub(super) fn message(batch: &mut Vec<u8>, message: &Message) {
    let bytes = message.bytes();
    match message {
        Message::Binary(_) => header(batch, OpCode::Data(Data::Binary), bytes.len()),
        Message::Text(text) if text.as_str().starts_with(MARK) => {
            header(batch, OpCode::Data(Data::Text), bytes.len() + MARK.len_utf8());
            batch.push(MARK as u8);
        }
        Message::Text(_) => header(batch, OpCode::Data(Data::Text), bytes.len()),
    }
    batch.extend_from_slice(bytes);
}

fn header(batch: &mut Vec<u8>, opcode: OpCode, payload_bytes: usize) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(payload_bytes as u64, batch).expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_final_unmasked_frame() {
        let mut batch = Vec::new();
        text(&mut batch, "hi");
        ping(&mut batch);
        assert_eq!(batch, [0x81, 2, b'h', b'i', 0x89, 0]);
    }

    #[test]
    fn longer_messages_have_longer_lengths() {
        let mut batch = Vec::new();
        message(&mut batch, &Message::copied_binary(&[7; 300]));
        assert_eq!(batch[..4], [0x82, 126, 1, 44]);
        assert_eq!(batch.len(), 304);
    }

    #[test]
    fn a_text_that_begins_with_the_mark_travels_with_one_more() {
        let mut batch = Vec::new();
        message(&mut batch, &Message::copied_text("\u{1}x"));
        assert_eq!(batch, [0x81, 3, 1, 1, b'x']);
    }
}
