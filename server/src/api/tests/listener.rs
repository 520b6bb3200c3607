//! The listener itself, over real sockets on loopback.

use super::*;
use crate::config::TlsFiles;
use crate::tls::{TlsListener, TlsReloader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(10);

async fn listening(bench: &Bench, tls: Option<TlsReloader>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(super::super::serve(bench.hub.clone(), listener.into(), tls, None));
    address
}

async fn said(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("an end in time").expect("no error");
    String::from_utf8(text).expect("UTF-8")
}

const GET_HUB: &[u8] = b"GET /v1/hub HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_call_is_answered_over_tcp() {
    let bench = bench(&[]).await;
    let mut stream = TcpStream::connect(listening(&bench, None).await).await.expect("a connection");
    stream.write_all(GET_HUB).await.expect("written");
    let answer = said(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(&bench.hub.id.to_string()), "{answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up_and_delays_nobody() {
    let bench = bench(&["--limit-header-time", "100ms"]).await;
    let address = listening(&bench, None).await;
    let mut slow = TcpStream::connect(address).await.expect("a connection");
    slow.write_all(b"GET /v1/hub HTTP/1.1\r\nhost: loc").await.expect("written");
    let mut other = TcpStream::connect(address).await.expect("a connection");
    other.write_all(GET_HUB).await.expect("written");
    assert!(said(&mut other).await.starts_with("HTTP/1.1 200"));
    let answer = said(&mut slow).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_their_turn() {
    let bench = bench(&["--limit-private-connections", "8", "--limit-header-time", "60s"]).await;
    let address = listening(&bench, None).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(address).await.expect("a connection"));
    }
    // Accepted in order: once the last of the eight was answered, all eight are held.
    idle[7].write_all(b"GET /healthz/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
    let mut first = [0; 12];
    tokio::time::timeout(PATIENCE, idle[7].read_exact(&mut first)).await.expect("in time").expect("an answer");
    let mut ninth = TcpStream::connect(address).await.expect("the listen queue takes it");
    ninth.write_all(GET_HUB).await.expect("written");
    let early = tokio::time::timeout(Duration::from_millis(100), ninth.readable()).await;
    assert!(early.is_err(), "the ninth should wait: {early:?}");
    idle.pop();
    assert!(said(&mut ninth).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn with_a_certificate_the_listener_speaks_tls_and_nothing_else() {
    let testdata = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/testdata").join(name);
    let files = TlsFiles { cert: testdata("one.cert.pem"), key: testdata("one.key.pem") };
    let bench = bench(&["--limit-tls-time", "200ms"]).await;
    let address =
        listening(&bench, Some(TlsReloader::load(TlsListener::Private, &files).expect("a certificate"))).await;
    let trusting = crate::tls::client_config(Some(&testdata("ca.pem"))).expect("the test authority");
    let name = rustls::pki_types::ServerName::try_from("one.test").expect("a name");
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let mut stream = tokio_rustls::TlsConnector::from(trusting).connect(name, tcp).await.expect("a handshake");
    stream.write_all(GET_HUB).await.expect("written");
    let answer = said(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let mut plain = TcpStream::connect(address).await.expect("a connection");
    plain.write_all(GET_HUB).await.expect("written");
    let mut answer = Vec::new();
    // A reset is as good as an end.
    drop(tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("an end in time"));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    assert_eq!(said(&mut silent).await, "", "a handshake that never begins is given up");
}
