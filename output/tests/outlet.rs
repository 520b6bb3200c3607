//! Lines over real pipes and devices: taken, dropped and counted, and never in anybody's way.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tidegate_output::{Outlet, WAITING_BYTES_MAX};

/// Long enough for any machine; nothing waits so long that goes well.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    (File::from(OwnedFd::from(reader)), OwnedFd::from(writer))
}

fn lines_of(reader: File) -> Vec<String> {
    BufReader::new(reader).lines().map(|line| line.expect("text")).collect()
}

#[test]
fn lines_come_whole_and_in_order_from_any_thread() {
    let (reader, writer) = pipe();
    let outlet = Arc::new(Outlet::to(writer));
    let said: Vec<_> = (0..4)
        .map(|thread| {
            let outlet = outlet.clone();
            std::thread::spawn(move || (0..100).for_each(|n| outlet.line(&format!("{thread} {n}"))))
        })
        .collect();
    said.into_iter().for_each(|thread| thread.join().expect("saying a line does not panic"));
    assert!(outlet.flush(LONG));
    drop(outlet);
    let lines = lines_of(reader);
    assert_eq!(lines.len(), 400);
    for thread in 0..4 {
        let of_one = lines.iter().filter(|line| line.starts_with(&format!("{thread} "))).cloned();
        let expected = (0..100).map(|n| format!("{thread} {n}"));
        assert!(of_one.eq(expected), "the lines of thread {thread} are in order");
    }
}

#[test]
fn a_full_pipe_blocks_nobody_drops_what_is_too_much_and_says_how_much_once_it_is_read() {
    let (mut reader, writer) = pipe();
    let mut full = File::from(writer.try_clone().expect("a descriptor can be cloned"));
    full.write_all(&[b'.'; 65_536]).expect("a new pipe takes this much");
    drop(full);
    let outlet = Arc::new(Outlet::to(writer));
    let told = Arc::downgrade(&outlet);
    outlet.on_flowing_again(move |lines| {
        if let Some(outlet) = told.upgrade() {
            outlet.line(&format!("dropped {lines}"));
        }
    });
    let line = "x".repeat(999);
    let said = 3 * WAITING_BYTES_MAX / 1000;
    (0..said).for_each(|_| outlet.line(&line));
    assert!(!outlet.flush(SHORT), "nobody reads");
    let dropped = outlet.dropped();
    assert!(dropped >= (said - 2 * WAITING_BYTES_MAX / 1000 - 1) as u64, "{dropped} of {said} lines are dropped");
    let reading = std::thread::spawn(move || {
        let mut first = vec![0; 65_536];
        reader.read_exact(&mut first).expect("what was in the pipe");
        lines_of(reader)
    });
    assert!(outlet.flush(LONG), "it flows again");
    drop(outlet);
    let lines = reading.join().expect("the reader reads");
    assert_eq!(
        lines.last(),
        Some(&format!("dropped {dropped}")),
        "the number that is told is the number that is missing"
    );
    assert_eq!(lines.len() as u64, said as u64 - dropped + 1);
}

#[test]
fn lines_into_a_closed_pipe_and_onto_a_full_disk_are_dropped_and_counted_and_nothing_else_happens() {
    let (reader, closed) = pipe();
    drop(reader);
    let full = OwnedFd::from(OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full"));
    for descriptor in [closed, full] {
        let outlet = Outlet::to(descriptor);
        (0..50).for_each(|n| outlet.line(&format!("line {n}")));
        assert!(outlet.flush(LONG), "what nobody can take is not waited for");
        assert_eq!(outlet.dropped(), 50);
    }
}

#[test]
fn a_pipe_that_somebody_made_non_blocking_gets_every_line() {
    let (reader, writer) = pipe();
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can be made non-blocking");
    let outlet = Outlet::to(writer);
    // More than the pipe holds, less than may wait.
    let line = "y".repeat(999);
    (0..200).for_each(|_| outlet.line(&line));
    let reading = std::thread::spawn(move || lines_of(reader));
    assert!(outlet.flush(LONG));
    drop(outlet);
    assert_eq!(reading.join().expect("the reader reads").len(), 200);
}

#[test]
fn a_full_pipe_delays_an_end_by_no_more_than_what_the_end_waits_for() {
    let (_reader, writer) = pipe();
    File::from(writer.try_clone().expect("a descriptor can be cloned")).write_all(&[b'.'; 65_536]).expect("room");
    let outlet = Outlet::to(writer);
    outlet.line("last words");
    assert!(!outlet.flush(SHORT));
    drop(outlet);
}
