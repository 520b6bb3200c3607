//! A message that comes in several frames, as far as it has come.

use super::reader::ReadError;

/// What was collected of it.
#[derive(Debug)]
pub(super) struct Parts {
    is_text: bool,
    bytes: Vec<u8>,
    /// Up to where a text is known to be UTF-8; what follows may be the beginning of a character.
    valid: usize,
}

impl Parts {
    pub(super) fn new(is_text: bool) -> Self {
        Self { is_text, bytes: Vec::new(), valid: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a frame's payload. A text that cannot become valid any more is refused at once.
    pub(super) fn add(&mut self, payload: &[u8]) -> Result<(), ReadError> {
        self.bytes.extend_from_slice(payload);
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(ReadError::Utf8),
        }
        Ok(())
    }

    /// The whole message: a text, or bytes.
    pub(super) fn whole(&self) -> Result<Whole<'_>, ReadError> {
        if self.is_text {
            std::str::from_utf8(&self.bytes).map(Whole::Text).map_err(|_| ReadError::Utf8)
        } else {
            Ok(Whole::Binary(&self.bytes))
        }
    }
}

/// What the frames made together.
pub(super) enum Whole<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}
