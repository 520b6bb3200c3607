//! Who listens on a port, from the kernel's tables: an app that was restarted has another listener, however short the
//! time was in which there was none.

use std::fs::File;
use std::io::Read;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// Most of a table that is read. Listeners stand before the connections.
const TABLE_BYTES_MAX: u64 = 1 << 20;
/// Listeners on one port that are told apart.
const LISTENERS_MAX: usize = 64;
/// The state of a listening socket, as the tables write it.
const LISTEN: &str = "0A";

/// The inodes of all sockets that listen on this port.
pub(super) fn at(port: u16) -> Vec<u64> {
    let mut found = Vec::new();
    for table in TABLES {
        let mut text = String::new();
        // A system without the table, or one that forbids it, tells nothing.
        let read = File::open(table).and_then(|file| file.take(TABLE_BYTES_MAX).read_to_string(&mut text));
        if read.is_ok() {
            found.extend(in_table(&text, port));
        }
    }
    found.sort_unstable();
    found.truncate(LISTENERS_MAX);
    found
}

fn in_table(text: &str, port: u16) -> impl Iterator<Item = u64> {
    let suffix = format!(":{port:04X}");
    text.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        (local.ends_with(&suffix) && state == LISTEN).then(|| fields.nth(5)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_found_on_its_port_and_the_one_after_it_is_another() {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("it is bound").port();
        let before = at(port);
        assert_eq!(before.len(), 1, "{before:?}");
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert_eq!(at(port), before, "a connection is no listener");
        drop(first);
        let second = TcpListener::bind(("127.0.0.1", port));
        // The port may still be in the hands of the connection above; then there is no listener at all.
        let after = at(port);
        assert!(before != after && after.len() == usize::from(second.is_ok()), "{before:?} {after:?}");
    }
}
