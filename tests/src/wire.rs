//! One WebSocket of a well-behaved client: a task that dials, reads and writes, and tells what happens.

use futures_util::{SinkExt, StreamExt};
use http::Uri;
use std::time::Duration;
use tidegate_protocol::client::Conn;
use tidegate_protocol::frame::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long a socket that we close may take for its goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What may wait to be written; tests that overflow it are wrong.
const WRITES_MAX: usize = 8192;

/// A connected socket.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// What a wire tells its client.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The upgrade succeeded.
    Opened,
    /// A text message.
    Text(String),
    /// A sign of life.
    Heard,
    /// It is over, or never came to be.
    Closed(Option<u16>, String),
}

/// A connection from its dialling to its end.
#[derive(Debug)]
pub(crate) struct Wire {
    writes: mpsc::Sender<Message>,
    task: AbortHandle,
}

/// Opens a WebSocket that speaks `tidegate.v1`.
pub(crate) async fn dial(request: ClientRequestBuilder, url: &Uri) -> Result<Socket, Error> {
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    client_async(request, stream).await.map(|(socket, _)| socket)
}

impl Wire {
    /// Begins to dial; everything is told with the number `conn`.
    pub(crate) fn dial(conn: Conn, url: Uri, tell: mpsc::Sender<(Conn, Happening)>) -> Self {
        let (writes, written) = mpsc::channel(WRITES_MAX);
        let task = tokio::spawn(async move {
            let request = ClientRequestBuilder::new(url.clone()).with_sub_protocol(SUBPROTOCOL);
            let (code, why) = match dial(request, &url).await {
                Ok(socket) => {
                    // Nobody listens any more when the client was dropped, here and below.
                    drop(tell.send((conn, Happening::Opened)).await);
                    carry(socket, conn, written, &tell).await
                }
                Err(error) => (None, error.to_string()),
            };
            drop(tell.send((conn, Happening::Closed(code, why))).await);
        });
        Self { writes, task: task.abort_handle() }
    }

    /// Queues a message.
    ///
    /// # Panics
    /// When far more is queued than any test should.
    pub(crate) fn send(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.writes.try_send(message) {
            panic!("more than {WRITES_MAX} messages wait to be written");
        }
    }

    /// Says goodbye in the background.
    pub(crate) fn close(self, code: u16, reason: &str) {
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })));
    }

    /// Lets go of the socket without a word, as a network that breaks.
    pub(crate) fn cut(self) {
        self.task.abort();
    }
}

/// Reads and writes until the socket ends, or, once the client let go of it, for [`GOODBYE`] at most.
async fn carry(
    mut socket: Socket,
    conn: Conn,
    mut written: mpsc::Receiver<Message>,
    tell: &mpsc::Sender<(Conn, Happening)>,
) -> (Option<u16>, String) {
    loop {
        let heard = tokio::select! {
            write = written.recv() => match write {
                Some(message) => match socket.send(message).await {
                    Ok(()) => continue,
                    // What came in before is still to be read.
                    Err(_) => socket.next().await,
                },
                None => return goodbye(socket).await,
            },
            heard = socket.next() => heard,
        };
        let happening = match heard {
            Some(Ok(Message::Text(text))) => Happening::Text(text.as_str().to_owned()),
            Some(Ok(Message::Binary(_))) => {
                Happening::Closed(None, "a binary message, which no app of these tests sends".into())
            }
            Some(Ok(Message::Close(frame))) => {
                let code = frame.as_ref().map(|frame| frame.code.into());
                let why =
                    frame.map_or_else(|| "closed without a code".to_owned(), |frame| frame.reason.as_str().to_owned());
                // The answer to the close waits in the socket.
                drop(goodbye(socket).await);
                return (code, why);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Happening::Heard,
            Some(Err(error)) => return (None, error.to_string()),
            None => return (None, "the connection ended".to_owned()),
        };
        if tell.send((conn, happening)).await.is_err() {
            return (None, "the client is gone".to_owned());
        }
    }
}

async fn goodbye(mut socket: Socket) -> (Option<u16>, String) {
    let read_to_end = async { while let Some(Ok(_)) = socket.next().await {} };
    // Whoever does not answer a close in time is simply left.
    drop(tokio::time::timeout(GOODBYE, read_to_end).await);
    (None, "left".to_owned())
}
