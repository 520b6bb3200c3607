//! The stream, and what waits to be written: the one type that owns a connection's socket.

use crate::public::stream::Stream;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at a time, into a buffer that a thread's connections share.
const READ_BYTES: usize = 16 * 1024;

/// What a long message may leave behind in a thread's scratch, in bytes.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's buffer for reading.
pub fn with_read_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out while it is used: whoever reads inside of a read gets another.
    let mut buffer = BUFFER.take();
    buffer.resize(READ_BYTES, 0);
    let done = work(&mut buffer);
    BUFFER.set(buffer);
    done
}

/// Lends the thread's scratch, empty, for putting frames together.
pub fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let done = work(&mut scratch);
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES);
    SCRATCH.set(scratch);
    done
}

/// What is still to be done for what was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// Nothing: the kernel has all of it.
    Clean,
    /// It waits in the tail, or in the stream.
    Dirty,
    /// It cannot be written any more.
    Broken(io::ErrorKind),
}

/// A connection's stream. Frames go straight to it; what it does not take waits in the tail.
#[derive(Debug)]
pub struct Socket {
    /// None once it was shut.
    stream: Option<Stream>,
    tail: Vec<u8>,
    out: Out,
}

impl Socket {
    /// Around a stream whose handshake is done.
    pub fn new(stream: Stream) -> Self {
        Self { stream: Some(stream), tail: Vec::new(), out: Out::Clean }
    }

    /// Whether everything that was put is with the kernel, so that more may be put at once.
    pub fn is_clean(&self) -> bool {
        self.out == Out::Clean
    }

    /// Whether something waits for [`Socket::poll_flush`].
    pub fn is_dirty(&self) -> bool {
        self.out == Out::Dirty
    }

    /// How much the kernel has not taken yet, in bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.tail.len()
    }

    /// Whether frames can go to the kernel right here, without the task that drives the stream.
    pub fn is_direct(&self) -> bool {
        matches!(self.stream, Some(Stream::Tcp(_))) && self.is_clean()
    }

    /// Puts whole frames. Nothing is waited for: what the kernel does not take at once waits for
    /// [`Socket::poll_flush`]. Put no more messages until it is clean again, so that the tail stays small.
    pub fn put(&mut self, frames: &[u8]) {
        let mut left = frames;
        if left.is_empty() {
            return;
        }
        if let (Some(Stream::Tcp(tcp)), Out::Clean) = (&self.stream, self.out) {
            match tcp.try_write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.out = Out::Broken(error.kind()),
            }
        }
        if !left.is_empty() && !matches!(self.out, Out::Broken(_)) {
            self.tail.extend_from_slice(left);
            self.out = Out::Dirty;
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The stream broke, now or when something was put.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.out {
            Out::Clean => return Poll::Ready(Ok(())),
            Out::Broken(kind) => return Poll::Ready(Err(kind.into())),
            Out::Dirty => {}
        }
        let flushed = ready!(self.poll_tail(cx));
        self.out = match &flushed {
            Ok(()) => Out::Clean,
            Err(error) => Out::Broken(error.kind()),
        };
        self.tail = Vec::new();
        Poll::Ready(flushed)
    }

    fn poll_tail(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let mut written = 0;
        while written < self.tail.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.tail[written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => written += bytes,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.tail.drain(..written);
                    return Poll::Pending;
                }
            }
        }
        self.tail.clear();
        Pin::new(stream).poll_flush(cx)
    }

    /// Reads what has come; 0 bytes mean the end.
    ///
    /// # Errors
    /// The stream broke.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Gives the stream away; nothing more is read or written here.
    pub fn take(&mut self) -> Option<Stream> {
        let stream = self.stream.take();
        self.shut();
        stream
    }

    /// Lets go of the stream, whoever still holds the socket; nothing more is read or written.
    pub fn shut(&mut self) {
        self.stream = None;
        self.tail = Vec::new();
        self.out = Out::Broken(io::ErrorKind::NotConnected);
    }
}
