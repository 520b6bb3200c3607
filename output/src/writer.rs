//! The one thread that may block.

use crate::{Shared, State, WAITING_BYTES_MAX, Writer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

/// Bytes that a pipe takes in one piece: lines of other processes on the same pipe do not come between.
const IN_ONE_PIECE: usize = 4096;
/// What a burst has left of the buffer is given back above this size.
const KEPT_BYTES: usize = 16 * 1024;

/// Writes what comes, until nothing will come any more.
pub(crate) fn run(shared: &Shared, descriptor: &OwnedFd) {
    let mut target = Target { descriptor, has_half_a_line: false };
    let mut batch = Vec::new();
    while take(shared, &mut batch) {
        let mut is_taken = true;
        for lines in pieces(&batch) {
            is_taken = target.write(lines).is_ok();
            if !is_taken {
                shared.drop_lines(lines);
            }
        }
        batch.clear();
        batch.shrink_to(KEPT_BYTES);
        if is_taken {
            tell_dropped(shared);
        }
    }
    // Whoever waits for us need not.
    shared.lock().writer = Writer::Gone;
    shared.idle.notify_all();
}

/// Waits for lines and takes all of them. False: there will be none.
fn take(shared: &Shared, batch: &mut Vec<u8>) -> bool {
    let mut state = shared.lock();
    if state.writer == Writer::Writing {
        state.writer = Writer::Waiting;
    }
    if state.waiting.is_empty() {
        shared.idle.notify_all();
    }
    let nothing = |state: &mut State| state.waiting.is_empty() && state.writer != Writer::Gone;
    let mut state = shared.work.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
    if state.waiting.is_empty() {
        return false;
    }
    if state.writer == Writer::Waiting {
        state.writer = Writer::Writing;
    }
    std::mem::swap(&mut state.waiting, batch);
    true
}

fn tell_dropped(shared: &Shared) {
    let Some(tell) = shared.flowing.get() else { return };
    let mut state = shared.lock();
    // Where so much waits the telling itself could be dropped; its turn comes.
    if state.untold == 0 || state.waiting.len() > WAITING_BYTES_MAX / 2 {
        return;
    }
    let untold = std::mem::take(&mut state.untold);
    drop(state);
    tell(untold);
}

/// Whole lines, as many as a pipe takes in one piece, and at least one.
fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end_of_line = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let fitting = end_of_line(&lines[..lines.len().min(IN_ONE_PIECE)]);
        let first = || lines.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let length = fitting.or_else(first).unwrap_or(lines.len());
        let (piece, rest) = lines.split_at(length);
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

struct Target<'a> {
    descriptor: &'a OwnedFd,
    /// A line broke off in the middle, on a disk that became full: the next one begins on a new line.
    has_half_a_line: bool,
}

impl Target<'_> {
    fn write(&mut self, lines: &[u8]) -> Result<(), Errno> {
        if self.has_half_a_line {
            self.write_all(b"\n")?;
            self.has_half_a_line = false;
        }
        self.write_all(lines)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::io::write(self.descriptor, bytes) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.has_half_a_line = !bytes.is_empty();
                }
                Err(Errno::INTR) => {}
                // Whoever shares the pipe has made it non-blocking.
                Err(Errno::AGAIN) => self.wait()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), Errno> {
        match poll(&mut [PollFd::new(self.descriptor, PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines_as_many_as_fit_and_a_long_one_goes_alone() {
        let long = format!("{}\n", "x".repeat(IN_ONE_PIECE));
        let text = format!("a\nb\n{long}{}c\n", "d\n".repeat(IN_ONE_PIECE / 2));
        let all: Vec<&[u8]> = pieces(text.as_bytes()).collect();
        let lengths: Vec<usize> = all.iter().map(|piece| piece.len()).collect();
        assert_eq!(lengths, [4, IN_ONE_PIECE + 1, IN_ONE_PIECE, 2]);
        assert_eq!(all.concat(), text.as_bytes());
        assert_eq!(pieces(b"").count(), 0);
    }
}
