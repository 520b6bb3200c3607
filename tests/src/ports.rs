//! Ports for whoever must be told one, or must get the same one again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that Linux gives out by itself (from 32768 on): no connection and no listener that asks for any port
/// takes one of these, not even in the moment between two processes of one hub.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// Test programs begin so far from each other, as their process ids have it.
const STEP: u32 = 61;

/// A loopback address where nobody listens; given once in this process, until all have been.
///
/// # Panics
/// When every port of the range is taken.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(STEP);
    for _ in 0..COUNT {
        let nth = begin.wrapping_add(u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + nth as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} on is free on loopback, of {COUNT}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_address_is_another_one_and_none_is_a_port_that_the_kernel_gives_out() {
        let given: BTreeSet<u16> = (0..200).map(|_| free_address().port()).collect();
        assert_eq!(given.len(), 200);
        assert!(given.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)), "{given:?}");
    }

    #[test]
    fn a_port_where_somebody_listens_is_passed_over() {
        let taken: Vec<TcpListener> = (0..20).map(|_| TcpListener::bind(free_address()).expect("it is free")).collect();
        let ports: BTreeSet<u16> = taken.iter().map(|taken| taken.local_addr().expect("bound").port()).collect();
        assert!((0..200).all(|_| !ports.contains(&free_address().port())), "all of {ports:?} are taken");
    }
}
