//! Whether a process is the one that listens on a port, from procfs.

use std::collections::BTreeSet;
use std::fs;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Whether one of these processes listens on this port of this machine. Nothing if that cannot be told: nobody
/// listens there as far as we see (another machine, another network namespace), or their files may not be read.
pub(crate) fn listens(pids: &[u32], port: u16) -> Option<bool> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let sockets: BTreeSet<u64> = tables.iter().flat_map(|table| listeners(table, port)).collect();
    if sockets.is_empty() {
        return None;
    }
    let mut readable = false;
    for pid in pids {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        readable = true;
        let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if links.filter_map(|link| socket_in(link.to_str()?)).any(|socket| sockets.contains(&socket)) {
            return Some(true);
        }
    }
    readable.then_some(false)
}

/// The inodes of sockets that listen on this port, in a text of `/proc/net/tcp`.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.len() > 9 && row[1].ends_with(&wanted) && row[3] == LISTEN);
    ours.filter_map(|row| row[9].parse().ok()).collect()
}

fn socket_in(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_port_and_others_are_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
                     1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!((listeners(table, 8080), listeners(table, 8081)), (vec![4711], Vec::new()));
    }

    #[test]
    fn this_process_listens_where_it_does_and_another_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("another process");
        assert_eq!(listens(&[other.id(), std::process::id()], port), Some(true));
        // It may have been started with our socket before it became itself: only then would it listen, too.
        let told = listens(&[other.id()], port);
        other.kill().and_then(|()| other.wait()).expect("it ends");
        assert_eq!(told, Some(false));
        drop(listener);
        assert_eq!(listens(&[std::process::id()], port), None);
    }
}
