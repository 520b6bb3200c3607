//! What an app answers to the events that it is posted: any bytes at all.

use super::api::newcomer;
use super::inputs;
use crate::bench::{Bench, PRIVATE, with_bench};
use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// A session begins, drains and ends at a hub whose app says this to everything.
pub(super) fn app_answers(data: &[u8]) {
    with_bench(&BENCH, &["--app-events=http://app:1/events", "--session-ttl=1s"], |bench| {
        bench.run(async {
            bench.world.app_answers(data);
            let (client, session) = newcomer(bench).await;
            drop(client);
            let end = format!("DELETE /v1/sessions/{session} HTTP/1.1\r\nhost: {PRIVATE}\r\nconnection: close\r\n\r\n");
            drop(Bench::exchange(&bench.private, end.as_bytes()).await);
            tokio::time::sleep(Duration::from_secs(5)).await;
            bench.must_live().await;
        });
    });
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    inputs([
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstate",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://elsewhere\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nstate\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        "SSH-2.0-nobody\r\n",
        "",
    ])
}
