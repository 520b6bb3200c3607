//! An app inside the test, for behaviour that no good app has: sockets and events by a script.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

/// How many events are kept for looking at; beyond it the oldest go.
const EVENTS_KEPT: usize = 4096;

type Serve = dyn Fn(AppSocket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;
type OnEvent = dyn Fn(&Value) -> (u16, Vec<u8>) + Send + Sync;

/// A socket that the hub dialled for one session.
#[derive(Debug)]
pub struct AppSocket {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// The headers of the upgrade.
    pub headers: HeaderMap,
    /// Path and query of the upgrade.
    pub target: String,
}

struct Shared {
    serve: Box<Serve>,
    on_event: Box<OnEvent>,
    events: Mutex<Vec<Value>>,
    upgrades: Mutex<Vec<(String, HeaderMap)>>,
    refuses: Mutex<Option<u16>>,
}

/// An app that listens until it is dropped. Events are taken on any path.
pub struct FakeApp {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl FakeApp {
    /// An app that serves each socket so, and answers every event with 200 and nothing.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(AppSocket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_with_events(serve, |_| (200, Vec::new())).await
    }

    /// An app that also answers events so: with a status and a body.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn start_with_events<F, Fut>(
        serve: F,
        on_event: impl Fn(&Value) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> Self
    where
        F: Fn(AppSocket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port for an app: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            serve: Box::new(move |socket| Box::pin(serve(socket))),
            on_event: Box::new(on_event),
            events: Mutex::default(),
            upgrades: Mutex::default(),
            refuses: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, task }
    }

    /// An app that sends every message back.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn echo() -> Self {
        Self::start(|mut socket: AppSocket| async move {
            while let Some(message @ (Message::Text(_) | Message::Binary(_))) = socket.next().await {
                socket.send(message).await;
            }
        })
        .await
    }

    /// The events that were posted so far, in order of arrival.
    pub fn events(&self) -> Vec<Value> {
        lock(&self.shared.events).clone()
    }

    /// Answers upgrades with this status from now on, 0: not at all; none: takes them again.
    pub fn refuse_with(&self, status: Option<u16>) {
        *lock(&self.shared.refuses) = status;
    }

    /// Path with query, and headers, of each socket that was dialled so far.
    pub fn upgrades(&self) -> Vec<(String, HeaderMap)> {
        lock(&self.shared.upgrades).clone()
    }
}

impl Drop for FakeApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AppSocket {
    /// The next message; nothing when the socket is over. A close is given too, and answered by the
    /// next call.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Sends a message; a socket that is over takes it nowhere.
    pub async fn send(&mut self, message: Message) {
        drop(self.socket.send(message).await);
    }

    /// Writes bytes past the WebSocket, all at once; a socket that is over takes them nowhere.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let socket = self.socket.get_mut();
        if socket.write_all(bytes).await.is_ok() {
            drop(socket.flush().await);
        }
    }

    /// Closes with a code and reads to the end.
    pub async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.send(Message::Close(Some(frame))).await;
        while self.next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the app.
    let mut served = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = served.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let shared = shared.clone();
        served.spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // The hub may go away in the middle; tests look at what came before.
            drop(connection.with_upgrades().await);
        });
    }
}

async fn answer(shared: Arc<Shared>, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::POST {
        return Ok(event(&shared, request).await);
    }
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return Ok(with_status(StatusCode::BAD_REQUEST, Vec::new()));
    };
    let headers = request.headers().clone();
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    lock(&shared.upgrades).push((target.clone(), headers.clone()));
    let refuses = *lock(&shared.refuses);
    match refuses {
        Some(0) => return std::future::pending().await,
        Some(status) => return Ok(with_status(StatusCode::from_u16(status).expect("a status"), Vec::new())),
        None => {}
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            (shared.serve)(AppSocket { socket, headers, target }).await;
        }
    });
    let mut response = with_status(StatusCode::SWITCHING_PROTOCOLS, Vec::new());
    let accept = derive_accept_key(key.as_bytes()).parse().expect("an accept key is a header value");
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    Ok(response)
}

async fn event(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Ok(body) = request.into_body().collect().await else {
        return with_status(StatusCode::BAD_REQUEST, Vec::new());
    };
    let Ok(event) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return with_status(StatusCode::BAD_REQUEST, b"not JSON".to_vec());
    };
    let (status, body) = (shared.on_event)(&event);
    let mut events = lock(&shared.events);
    if events.len() == EVENTS_KEPT {
        events.remove(0);
    }
    events.push(event);
    with_status(StatusCode::from_u16(status).expect("a test answers with a status"), body)
}

fn with_status(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for FakeApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeApp({})", self.address)
    }
}
