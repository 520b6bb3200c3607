//! Messages as bytes: a header and the payload, masked if we are the client.

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The longest header that we write, in bytes: two, eight of length, four of mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// Adds a whole text message.
pub fn text(batch: &mut Vec<u8>, text: &str) {
    header(batch, OpCode::Data(Data::Text), text.len(), None);
    batch.extend_from_slice(text.as_bytes());
}

/// Adds the header of a whole, unmasked message; its payload comes right behind it.
pub fn head(batch: &mut Vec<u8>, is_text: bool, payload_bytes: usize) {
    header(batch, data(is_text), payload_bytes, None);
}

/// Adds a whole message as a client sends it.
pub fn masked(batch: &mut Vec<u8>, is_text: bool, payload: &[u8], mask: [u8; 4]) {
    header(batch, data(is_text), payload.len(), Some(mask));
    add_masked(batch, payload, mask);
}

/// Adds an empty ping. Only servers of ours send one.
pub fn ping(batch: &mut Vec<u8>) {
    header(batch, OpCode::Control(Control::Ping), 0, None);
}

/// Adds a ping as a client sends it.
pub fn masked_ping(batch: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    header(batch, OpCode::Control(Control::Ping), payload.len(), Some(mask));
    add_masked(batch, payload, mask);
}

/// Adds the answer to a ping; with a mask if we are the client.
pub fn pong(batch: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    header(batch, OpCode::Control(Control::Pong), payload.len(), mask);
    add_masked(batch, payload, mask.unwrap_or_default());
}

/// Adds a close; without a code it is empty.
pub fn close(batch: &mut Vec<u8>, with: Option<(u16, &str)>, mask: Option<[u8; 4]>) {
    let Some((code, reason)) = with else { return header(batch, OpCode::Control(Control::Close), 0, mask) };
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    header(batch, OpCode::Control(Control::Close), payload.len(), mask);
    add_masked(batch, &payload, mask.unwrap_or_default());
}

/// Whether a close frame may carry this code.
pub fn may_travel(code: u16) -> bool {
    CloseCode::from(code).is_allowed()
}

/// Masks a payload, or takes the mask off.
pub fn mask(payload: &mut [u8], mask: [u8; 4]) {
    // Eight bytes at a time: the compiler makes wider ones of it where the machine has them.
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let masked = u64::from_ne_bytes((&*word).try_into().expect("chunks of eight")) ^ wide;
        word.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn add_masked(batch: &mut Vec<u8>, payload: &[u8], with: [u8; 4]) {
    let at = batch.len();
    batch.extend_from_slice(payload);
    mask(&mut batch[at..], with);
}

fn data(is_text: bool) -> OpCode {
    OpCode::Data(if is_text { Data::Text } else { Data::Binary })
}

fn header(batch: &mut Vec<u8>, opcode: OpCode, payload_bytes: usize, mask: Option<[u8; 4]>) {
    let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
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
        head(&mut batch, false, 300);
        assert_eq!(batch, [0x82, 126, 1, 44]);
        batch.clear();
        head(&mut batch, true, 70_000);
        assert_eq!(batch, [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn a_mask_is_taken_off_by_itself_at_any_length() {
        for bytes in 0..40u8 {
            let payload: Vec<u8> = (0..bytes).collect();
            let mut masked = payload.clone();
            mask(&mut masked, [1, 2, 3, 250]);
            let one_by_one: Vec<u8> = payload.iter().zip([1, 2, 3, 250].iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(masked, one_by_one);
            mask(&mut masked, [1, 2, 3, 250]);
            assert_eq!(masked, payload);
        }
    }

    #[test]
    fn a_close_carries_its_code_and_reason() {
        let mut batch = Vec::new();
        close(&mut batch, Some((1012, "x")), None);
        close(&mut batch, None, None);
        assert_eq!(batch, [0x88, 3, 0x03, 0xf4, b'x', 0x88, 0]);
    }
}
