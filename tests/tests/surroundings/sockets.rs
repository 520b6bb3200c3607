//! Bare sockets: requests by hand, answered or not.

use std::net::SocketAddr;
use tidegate_tests::{WAIT, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that sends this and waits.
pub(crate) async fn sent(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = within("a connection", TcpStream::connect(to)).await.expect("the kernel takes it");
    stream.write_all(bytes).await.expect("the kernel takes it");
    stream
}

/// The first bytes of an answer; none: the connection has ended.
pub(crate) async fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![0; 4096];
    let read = within("an answer, or the end", stream.read(&mut bytes)).await;
    let count = read.unwrap_or_default();
    (count > 0).then(|| String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// A health check on a connection of its own, as load balancers make it: the status line.
pub(crate) async fn probe(to: SocketAddr) -> String {
    let mut stream = sent(to, b"GET /healthz/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let answer = answer(&mut stream).await.unwrap_or_else(|| panic!("no answer from {to} within {WAIT:?}"));
    answer.lines().next().unwrap_or_default().to_owned()
}
