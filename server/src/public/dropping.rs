//! What a closed client still sends is read and dropped for a while. A socket that is let go with unread bytes in
//! it is reset by the kernel, and the reset overtakes the close frame: the client would never see its code.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// So much is dropped at most; the time is bounded by whoever calls.
const DROPPED_BYTES_MAX: u64 = 64 << 20;
/// Read at a time.
const PIECE_BYTES: usize = 1 << 10;

/// Says that nothing more comes from here, then drops what comes from there, to its end or the bound.
pub(crate) async fn drop_rest(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    if stream.shutdown().await.is_err() {
        return;
    }
    // On the heap, and only now: no idle connection has room for it.
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = DROPPED_BYTES_MAX;
    while left > 0
        && let Ok(bytes @ 1..) = stream.read(&mut piece).await
    {
        left = left.saturating_sub(bytes as u64);
        // Whoever never stops must not keep this thread from those who are served.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_is_said_first_and_what_comes_after_is_dropped_to_its_end() {
        let (mut here, mut there) = tokio::io::duplex(64);
        let sends = async {
            let mut rest = Vec::new();
            there.read_to_end(&mut rest).await.expect("the end is said before anything is read");
            there.write_all(&[7; 10_000]).await.expect("it is taken");
            drop(there);
        };
        tokio::join!(drop_rest(&mut here), sends);
    }

    #[tokio::test]
    async fn whoever_never_stops_is_let_go_at_the_bound() {
        let (mut here, mut there) = tokio::io::duplex(1 << 20);
        let piece = vec![7; 1 << 20];
        let sends = async {
            let mut sent = 0u64;
            while there.write_all(&piece).await.is_ok() {
                sent += piece.len() as u64;
            }
            sent
        };
        let drops = async {
            drop_rest(&mut here).await;
            drop(here);
        };
        let ((), sent) = tokio::join!(drops, sends);
        assert!((DROPPED_BYTES_MAX..DROPPED_BYTES_MAX + (4 << 20)).contains(&sent), "{sent} bytes");
    }
}
