//! One upgraded WebSocket in simulated time and over a simulated network: hyper does the upgrade, the
//! bare stream is taken back out of it, tungstenite speaks on it, on both sides. One seed replays
//! identically, so whole hubs can be tested this way.

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use turmoil::net::{TcpListener, TcpStream};

const PORT: u16 = 8080;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MESSAGES: usize = 12;
/// The network is cut after so many echoes, and mended after `CUT`.
const CUT_AFTER: usize = 4;
const CUT: Duration = Duration::from_secs(3);

/// What happened, and when in simulated time.
#[derive(Clone, Debug, Default)]
struct Trace(Arc<Mutex<Vec<(u128, String)>>>);

impl Trace {
    fn note(&self, what: impl Into<String>) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        self.0.lock().expect("nobody panics while noting").push((at, what.into()));
    }

    fn take(self) -> Vec<(u128, String)> {
        self.0.lock().expect("nobody panics while noting").clone()
    }
}

async fn upgrade(mut request: Request<Incoming>, trace: Trace) -> Result<Response<Empty<Bytes>>, Infallible> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).expect("the client sends a key");
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = upgrade.await.expect("the client takes the upgrade");
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("it is the accepted stream");
        assert!(parts.read_buf.is_empty(), "the client sends nothing before the answer");
        trace.note("hub: bare stream");
        let mut socket = WebSocketStream::from_raw_socket(parts.io.into_inner(), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                trace.note(format!("hub: {message}"));
                socket.send(message).await.expect("the client is there");
            }
        }
        trace.note("hub: closed");
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .body(Empty::new());
    Ok(answer.expect("the headers are well formed"))
}

async fn hub(trace: Trace) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let trace = trace.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| upgrade(request, trace.clone()));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.with_upgrades().await.expect("the exchange is well formed");
        });
    }
}

async fn client(trace: Trace) -> turmoil::Result {
    let stream = TcpStream::connect(("hub", PORT)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/connect")
        .header("host", "hub")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, KEY)
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], derive_accept_key(KEY.as_bytes()));
    let upgraded = hyper::upgrade::on(answer).await?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("it is the dialled stream");
    let mut socket = WebSocketStream::from_raw_socket(parts.io.into_inner(), Role::Client, None).await;
    trace.note("client: open");
    for n in 0..MESSAGES {
        if n == CUT_AFTER {
            turmoil::hold("client", "hub");
            trace.note("client: cut");
            tokio::spawn(async {
                tokio::time::sleep(CUT).await;
                turmoil::release("client", "hub");
            });
        }
        let text = format!("message {n}");
        socket.send(Message::text(text.clone())).await?;
        let echo = socket.next().await.expect("the hub answers")?;
        assert_eq!(echo, Message::text(text));
        trace.note(format!("client: {echo}"));
    }
    socket.close(None).await?;
    while socket.next().await.is_some() {}
    trace.note("client: closed");
    Ok(())
}

fn run(seed: u64) -> Vec<(u128, String)> {
    let trace = Trace::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(80))
        .build();
    let at_hub = trace.clone();
    sim.host("hub", move || hub(at_hub.clone()));
    sim.client("client", client(trace.clone()));
    sim.run().expect("the client ends well");
    trace.take()
}

#[test]
fn an_upgraded_websocket_survives_a_held_network_in_simulated_time() {
    let trace = run(7);
    let echoes = trace.iter().filter(|(_, what)| what.starts_with("client: message")).count();
    assert_eq!(echoes, MESSAGES, "every message comes back once: {trace:#?}");
    let at = |wanted: &str| trace.iter().find(|(_, what)| what == wanted).map(|(at, _)| *at);
    let (cut, next) = (at("client: cut"), at(&format!("client: message {CUT_AFTER}")));
    let waited_us = next.expect("it came") - cut.expect("it was cut");
    assert!(waited_us >= CUT.as_micros(), "the cut was felt: {waited_us} µs");
    assert_eq!(trace.last().map(|(_, what)| what.as_str()), Some("client: closed"), "{trace:#?}");
}

#[test]
fn one_seed_replays_identically_and_another_runs_otherwise() {
    let (first, again, other) = (run(42), run(42), run(43));
    assert_eq!(first, again, "the same seed gives the same events at the same simulated times");
    assert_ne!(first, other, "another seed gives other latencies, so the seed is in use");
}
