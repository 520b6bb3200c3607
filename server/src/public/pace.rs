//! A stream under plain HTTP that keeps its times: a head must come within a time once it has begun, a client
//! must take its answer, and between two requests it may rest for long, unless others need its place.

use super::stream::Stream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long the other side may take none of an answer.
const STALL: Duration = Duration::from_secs(30);
/// What nobody is asked to give up before, however many wait for a place.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// How often whoever is beyond that looks whether somebody waits.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The times of one connection.
pub(crate) struct Times {
    pub(crate) header_ms: u64,
    pub(crate) idle_ms: u64,
    /// Whether others wait for the place of a connection that rests.
    pub(crate) is_wanted: Box<dyn Fn() -> bool + Send>,
}

/// What a connection is at. Set by both: reading begins a head, the service a request and the rest after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head = 0,
    Request = 1,
    Rest = 2,
}

impl At {
    fn of(beat: u64) -> Self {
        match beat % 4 {
            0 => Self::Head,
            1 => Self::Request,
            _ => Self::Rest,
        }
    }
}

/// Tells the stream what its connection is at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    /// All of a head is here.
    pub(crate) fn request(&self) {
        self.set(At::Request);
    }

    /// The request was answered.
    pub(crate) fn answered(&self) {
        self.set(At::Rest);
    }

    /// Counts each change, so that one rest is told from the next. One task does all of this.
    fn set(&self, at: At) {
        let next = (self.count() / 4 + 1) * 4 + at as u64;
        self.0.store(next, Ordering::Release);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn at(&self) -> At {
        At::of(self.count())
    }
}

/// The stream.
pub(crate) struct Paced {
    stream: Stream,
    times: Times,
    beat: Beat,
    /// What was waited for last, and since when.
    waits: (u64, Instant),
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// A stream whose first head is awaited from now on.
    pub(crate) fn new(stream: Stream, times: Times) -> (Self, Beat) {
        let beat = Beat::default();
        let waits = (beat.count(), Instant::now());
        (Self { stream, times, beat: beat.clone(), waits, reading: None, writing: None }, beat)
    }

    /// The stream itself, for what comes after HTTP.
    pub(crate) fn into_inner(self) -> Stream {
        self.stream
    }

    /// Nothing came. Ready: nothing is waited for any more.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (now, beat) = (Instant::now(), self.beat.count());
            if self.waits.0 != beat {
                self.waits = (beat, now);
            }
            let since = self.waits.1;
            let end = since
                + match At::of(beat) {
                    At::Request => {
                        self.reading = None;
                        return Poll::Pending;
                    }
                    At::Head => Duration::from_millis(self.times.header_ms),
                    At::Rest if now >= since + GRACE && (self.times.is_wanted)() => return Poll::Ready(()),
                    At::Rest => Duration::from_millis(self.times.idle_ms),
                };
            if now >= end {
                return Poll::Ready(());
            }
            let look = match At::of(beat) {
                At::Rest => end.min((since + GRACE).max(now + LOOK_EVERY)),
                At::Head | At::Request => end,
            };
            let alarm = self.reading.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(look)));
            if alarm.deadline() != look {
                alarm.as_mut().reset(look);
            }
            ready!(alarm.as_mut().poll(cx));
        }
    }

    fn stalled<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let alarm = self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        match alarm.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, into) {
            Poll::Ready(read) => {
                if into.filled().len() > before && self.beat.at() == At::Rest {
                    self.beat.set(At::Head);
                }
                Poll::Ready(read)
            }
            Poll::Pending => match self.poll_patience(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.stalled(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.stalled(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.stalled(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn paced(room: usize) -> (Paced, Beat, DuplexStream, Arc<AtomicBool>) {
        let (near, far) = tokio::io::duplex(room);
        let wanted = Arc::new(AtomicBool::new(false));
        let asked = wanted.clone();
        let is_wanted = Box::new(move || asked.load(Ordering::Relaxed));
        let times = Times { header_ms: 5_000, idle_ms: 75_000, is_wanted };
        let (paced, beat) = Paced::new(Stream::Other(Box::new(near)), times);
        (paced, beat, far, wanted)
    }

    /// How long nothing is waited for, in seconds.
    async fn patience_s(paced: &mut Paced) -> u64 {
        let began = Instant::now();
        let error = paced.read_u8().await.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_and_every_drop_of_it_counts_from_the_first() {
        let (mut paced, beat, mut far, _) = paced(64);
        assert_eq!(patience_s(&mut paced).await, 5);
        beat.request();
        beat.answered();
        far.write_all(b"G").await.expect("room");
        assert_eq!(paced.read_u8().await.expect("it came"), b'G');
        let began = Instant::now();
        let drips = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if far.write_all(b"E").await.is_err() {
                    return;
                }
            }
        });
        while paced.read_u8().await.is_ok() {}
        assert_eq!(began.elapsed().as_secs(), 5, "dripping stretches nothing");
        drips.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_long_and_short_when_somebody_waits_for_the_place() {
        let (mut paced, beat, _far, wanted) = paced(64);
        beat.request();
        beat.answered();
        assert_eq!(patience_s(&mut paced).await, 75);
        beat.request();
        assert!(
            tokio::time::timeout(Duration::from_secs(300), paced.read_u8()).await.is_err(),
            "an answer takes its time"
        );
        beat.answered();
        wanted.store(true, Ordering::Relaxed);
        assert_eq!(patience_s(&mut paced).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_of_an_answer_is_let_go() {
        let (mut paced, _beat, _far, _) = paced(16);
        let began = Instant::now();
        let error = paced.write_all(&[7; 64]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, STALL));
    }
}
