//! The clock of a machine may be set right while a hub runs: what expires is judged by the time as it is then.

use super::*;
use crate::hub::conn::Order;
use crate::public::stream::Stream;
use crate::world::{Listener, Surroundings, SystemWorld};
use futures_util::future::BoxFuture;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_protocol::session::credentials::AUTH_LEEWAY_MS;

/// The system, with a clock that was behind and is set right.
#[derive(Debug, Default)]
struct Corrected {
    behind_ms: AtomicU64,
}

impl Surroundings for Corrected {
    fn unix_ms(&self) -> u64 {
        SystemWorld.unix_ms() - self.behind_ms.load(Ordering::Relaxed)
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        SystemWorld.fill_random(buffer);
    }

    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        SystemWorld.look_up(host, port)
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Stream>> {
        SystemWorld.connect(host, port)
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        SystemWorld.listen(address)
    }
}

#[tokio::test]
async fn a_jwt_runs_out_by_the_corrected_clock_and_not_by_the_one_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("jwt.key");
    std::fs::write(&key, "a shared secret of more than 32 bytes").expect("a key file");
    let flags = ["--auth", "jwt", "--jwt-key-file", key.to_str().expect("UTF-8")];
    let world = Arc::new(Corrected::default());
    let an_hour_ms = 3_600_000;
    world.behind_ms.store(an_hour_ms, Ordering::Relaxed);
    let data = tempfile::tempdir().expect("a directory");
    let bench = bench_in_world(data, &flags, None, world.clone()).await;
    let cell = bench.session(1, Some("ann"), &[]);
    let expires = bench.hub.unix_ms() + an_hour_ms / 2;
    let conn = {
        let mut inner = cell.lock();
        inner.session.record_mut(false).expect("it is served").profile_mut().auth_expires_unix_ms = Some(expires);
        inner.conn.clone().expect("its client is here")
    };
    let is_open = || !conn.is_closing();
    let sweeping = tokio::spawn(crate::hub::sweep(bench.hub.clone(), Duration::from_millis(5)));
    // The gauge is set by the sweep that looks for what has run out.
    let swept = || bench.hub.metrics.render().contains("tidegate_sessions{phase=\"attached\"} 1");
    while !swept() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_open(), "half an hour is left by the clock as it is");
    world.behind_ms.store(0, Ordering::Relaxed);
    assert!(bench.hub.unix_ms() > expires + AUTH_LEEWAY_MS);
    tokio::time::timeout(crate::api::tests::PATIENCE, async {
        while is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the connection is told to close");
    assert!(matches!(conn.line().next_order(), Some(Order::Close(4522, _))), "with the code that says so");
    assert!(cell.lock().session.is_owner(), "the session waits for its client");
    sweeping.abort();
}
