//! The apps behind the hubs: real WebSocket and HTTP servers over the simulated network. They write down
//! what they were given and number what they say, for the ledger.

use crate::book::{Book, Read};
use crate::trace::Trace;
use crate::wire::small;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::SessionId;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server as handshake;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use turmoil::net::{TcpListener, TcpStream};

/// Where the apps run.
pub(crate) const HOST: &str = "apps";
const SOCKETS_FROM: u16 = 9000;
const EVENTS_FROM: u16 = 9100;

/// What all apps share.
#[derive(Clone)]
pub(crate) struct Apps {
    pub(crate) book: Arc<Book>,
    pub(crate) trace: Trace,
    pub(crate) push_every: Duration,
}

pub(crate) fn socket_url(hub: usize) -> String {
    format!("ws://{HOST}:{}", SOCKETS_FROM + hub as u16)
}

pub(crate) fn events_url(hub: usize) -> String {
    format!("http://{HOST}:{}/events", EVENTS_FROM + hub as u16)
}

impl Apps {
    /// Serves for as long as the simulation goes on; one app for each hub.
    pub(crate) async fn run(self, hubs: usize) -> turmoil::Result {
        for hub in 0..hubs {
            let sockets = TcpListener::bind(("0.0.0.0", SOCKETS_FROM + hub as u16)).await?;
            let events = TcpListener::bind(("0.0.0.0", EVENTS_FROM + hub as u16)).await?;
            tokio::spawn(self.clone().sockets(hub, sockets));
            tokio::spawn(self.clone().events(events));
        }
        std::future::pending().await
    }

    async fn sockets(self, hub: usize, listener: TcpListener) {
        while let Ok((tcp, _)) = listener.accept().await {
            let apps = self.clone();
            tokio::spawn(async move { apps.socket(hub, tcp).await });
        }
    }

    #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
    async fn socket(self, hub: usize, tcp: TcpStream) {
        let (mut asked, mut path) = (None, String::new());
        let answer = |request: &handshake::Request, response: handshake::Response| {
            let text =
                |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            request.uri().path().clone_into(&mut path);
            asked = text("tidegate-session").zip(text("tidegate-offset")).zip(text("tidegate-epoch"));
            Ok(response)
        };
        let Ok(socket) = accept_hdr_async_with_config(tcp, answer, Some(small())).await else { return };
        let told = asked.and_then(|((session, offset), epoch)| {
            Some((session.parse::<SessionId>().ok()?, offset.parse::<u64>().ok()?, epoch.parse::<u64>().ok()?))
        });
        if path != "/room" {
            self.trace.fault(format_args!("the app was dialled at {path:?}, and every client came by /room"));
        }
        match told {
            Some((session, offset, epoch)) => {
                self.trace.note(
                    format_args!("app-{hub}"),
                    format_args!("socket for {session} from {offset} (epoch {epoch})"),
                );
                self.relay(hub, session, offset, socket).await;
            }
            None => self.trace.fault("the app was dialled without session, epoch and offset"),
        }
    }

    async fn relay(self, hub: usize, session: SessionId, mut offset: u64, mut socket: WebSocketStream<TcpStream>) {
        let line = self.book.socket_opened(session, offset);
        let mut next = Instant::now() + self.push_every;
        let mut closed = false;
        loop {
            tokio::select! {
                biased;
                read = socket.next() => match read {
                    Some(Ok(Message::Text(text))) => {
                        offset += 1;
                        match self.book.taken(session, offset, text.as_str()) {
                            Read::New if !closed => {
                                let echo = self.book.say(session, line, Some(text.as_str()));
                                if socket.send(Message::text(echo)).await.is_err() {
                                    break;
                                }
                            }
                            Read::New | Read::Again => {}
                            Read::Wrong(why) => self.trace.fault(why),
                        }
                    }
                    Some(Ok(Message::Close(frame))) => {
                        closed = true;
                        let code = frame.map(|frame| u16::from(frame.code));
                        self.trace.note(format_args!("app-{hub}"), format_args!("{session} closed with {code:?}"));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
                () = sleep_until(next), if !closed => {
                    next += self.push_every;
                    if self.book.is_hushed() {
                        continue;
                    }
                    let text = self.book.say(session, line, None);
                    if socket.send(Message::text(text)).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.book.socket_over(session, line, closed);
    }

    async fn events(self, listener: TcpListener) {
        while let Ok((tcp, _)) = listener.accept().await {
            let apps = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| apps.clone().event(request));
                // A hub that goes away in the middle is its own trouble.
                drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await);
            });
        }
    }

    async fn event(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Ok(answer(StatusCode::BAD_REQUEST, Vec::new())),
        };
        Ok(match self.book.event(&body) {
            Ok(state) => answer(StatusCode::OK, state),
            Err(why) => {
                self.trace.fault(why);
                answer(StatusCode::BAD_REQUEST, Vec::new())
            }
        })
    }
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
