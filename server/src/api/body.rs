//! A body that must arrive within a time, whoever reads it.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// A body of a request that ends with an error when its time is over.
pub(super) struct InTime<B = Incoming> {
    body: B,
    within: Duration,
    /// Only while something is waited for: most bodies are there at once.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> InTime<B> {
    /// All of it must be here so long after it is first waited for.
    pub(super) fn new(body: B, within: Duration) -> Self {
        Self { body, within, alarm: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for InTime<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let within = self.within;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        match alarm.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
