//! A table: everything the kitchen knows of one session, and how it is packed to travel. Pure.

use serde::{Deserialize, Serialize};

use crate::board::{Board, PackedBoard};
use crate::ledger::Ledger;

/// How many bytes a hub takes as the state of a session.
pub const STATE_MAX_BYTES: usize = 64 * 1024;

/// The version of the packed form that this kitchen writes; it reads this one only.
const VERSION: u32 = 1;

/// One session's tickets and counters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Table {
    /// The tickets.
    pub board: Board,
    /// The load tool's numbers.
    pub ledger: Ledger,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    version: u32,
    board: PackedBoard,
    ledger: Ledger,
}

/// Why a state cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not what a kitchen writes.
    #[error("the state of {bytes} bytes is not a packed table: {why}")]
    Damaged {
        /// Its length.
        bytes: usize,
        /// What does not fit.
        why: serde_json::Error,
    },
    /// Another release wrote it.
    #[error("the state has version {version}; this kitchen reads version {VERSION}")]
    Version {
        /// The version it names.
        version: u32,
    },
}

impl Table {
    /// The table as bytes, at most [`STATE_MAX_BYTES`]. From now on no time passes for what cooks on it.
    pub fn pack(&self, now_ms: u64) -> Vec<u8> {
        let packed = Packed { version: VERSION, board: self.board.pack(now_ms), ledger: self.ledger.clone() };
        serde_json::to_vec(&packed).expect("numbers, strings and maps of numbers are always JSON")
    }

    /// Sets the table again from what [`pack`](Self::pack) gave, here or in another process.
    ///
    /// # Errors
    /// [`UnpackError`] when the bytes are not a packed table of this version.
    pub fn unpack(state: &[u8], now_ms: u64) -> Result<Self, UnpackError> {
        let packed: Packed =
            serde_json::from_slice(state).map_err(|why| UnpackError::Damaged { bytes: state.len(), why })?;
        if packed.version != VERSION {
            return Err(UnpackError::Version { version: packed.version });
        }
        Ok(Self { board: packed.board.unpack(now_ms), ledger: packed.ledger })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{ORDER_MAX_CHARS, TICKETS_MAX};
    use crate::ledger::STRETCHES_MAX;

    #[test]
    fn what_is_packed_here_is_the_same_there() {
        let mut table = Table::default();
        for dish in ["soup", "pasta", "bread"] {
            table.board.order(dish, 50).expect("the board has room");
        }
        [1, 2, 4].into_iter().for_each(|n| table.ledger.note(n));
        table.ledger.next_sent();
        let there = Table::unpack(&table.pack(1_050), 77_000).expect("our own bytes");
        assert_eq!(there.board.pack(77_000), table.board.pack(1_050));
        assert_eq!(there.ledger, table.ledger);
    }

    #[test]
    fn the_largest_table_fits_into_what_a_hub_takes() {
        let mut table = Table::default();
        for _ in 0..TICKETS_MAX {
            table.board.order(&"\u{1F35C}".repeat(ORDER_MAX_CHARS), 0).expect("the board has room");
        }
        (1..=STRETCHES_MAX as u64).for_each(|n| table.ledger.note(u64::MAX / 2 + n * 2));
        let bytes = table.pack(0).len();
        assert!(bytes < STATE_MAX_BYTES, "{bytes} bytes do not fit into {STATE_MAX_BYTES}");
    }

    #[test]
    fn bytes_of_another_make_or_version_are_refused_with_the_reason() {
        let damaged = Table::unpack(b"{\"version\":1", 0).expect_err("cut short").to_string();
        assert!(damaged.starts_with("the state of 12 bytes is not a packed table"), "said: {damaged}");
        let packed = String::from_utf8(Table::default().pack(0)).expect("JSON is text");
        let newer = packed.replace("\"version\":1", "\"version\":2");
        let refused = Table::unpack(newer.as_bytes(), 0).expect_err("a newer version").to_string();
        assert_eq!(refused, "the state has version 2; this kitchen reads version 1");
    }
}
