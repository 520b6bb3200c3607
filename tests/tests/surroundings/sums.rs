//! The table of ARCHITECTURE.md that says what others can fill, computed again.

use std::collections::BTreeMap;
use tidegate::config::Limits;
use tidegate::hub::entrance::{HALF_HELLOS_MAX, HELLO_BYTES_FREE};
use tidegate_output::WAITING_BYTES_MAX;
use tidegate_protocol::frame::FRAME_BYTES_MAX;

const MIB: u64 = 1 << 20;
/// What strangers may fill together, by the defaults.
const STRANGERS_MIB_MAX: u64 = 256;
/// Rows of the table that need nobody's belief.
const STRANGERS: usize = 7;

/// The rows in their order: name, and bytes.
fn sums(limits: &Limits) -> Vec<(&'static str, u64)> {
    let heads = limits.header_bytes;
    vec![
        ("requests that are not all here", limits.half_open * heads),
        ("plain HTTP that stays open", limits.http_connections * 2 * heads),
        ("connections that owe a hello", limits.sessions * HELLO_BYTES_FREE as u64),
        ("hellos that come in parts", HALF_HELLOS_MAX * 2 * FRAME_BYTES_MAX as u64),
        ("connections that are closing", limits.sessions * 1024),
        ("heads of private calls", limits.private_connections * heads),
        ("log lines", 2 * WAITING_BYTES_MAX as u64),
        ("clients' wishes in a drain", limits.sessions * 200 * 4),
        ("half messages", limits.sessions * limits.message_bytes),
        ("messages to clients", limits.sessions * limits.unacked_bytes),
        ("messages to absent clients", limits.away_bytes),
        ("messages to the app", limits.sessions * limits.unacked_bytes),
        ("recent fleet-wide messages", limits.ring_bytes),
        ("bodies of private calls", limits.private_connections * limits.api_body_bytes),
        ("bodies of calls between hubs", limits.private_connections * limits.peer_body_bytes),
        ("nonces of calls between hubs", 131_072 * 32),
    ]
}

#[test]
fn the_sums_of_what_others_can_fill_are_those_of_the_table() {
    let text = include_str!("../../../ARCHITECTURE.md");
    let section = text.split("## What others can fill, and how far").nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: BTreeMap<&str, &str> = section
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells.len() == 4).then(|| (cells[0], cells[3]))
        })
        .collect();
    let sums = sums(&Limits::default());
    for (name, bytes) in &sums {
        assert_eq!(rows.get(name), Some(&bytes.div_ceil(MIB).to_string().as_str()), "{name}");
    }
    // The heading and the line below it are no rows.
    assert_eq!(rows.len(), sums.len() + 2, "each row is computed: {:?}", rows.keys());
    let strangers: u64 = sums[..STRANGERS].iter().map(|(_, bytes)| bytes).sum();
    assert!(strangers <= STRANGERS_MIB_MAX * MIB, "strangers fill {} MiB", strangers / MIB);
}
