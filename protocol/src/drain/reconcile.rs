//! Reconciling a handover: what the predecessor gave away against what the successor had when it welcomed
//! the client. Nothing is assumed: what neither side's offsets show is not counted.

use super::event::Resume;
use crate::position::Offset;

/// Offsets of a session at the moment of its commit, on the predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// How much was numbered towards the client.
    pub end: Offset,
    /// How much of the client's was counted.
    pub received: Offset,
    /// How much of `end` had been written to the connection that was open at the freeze; none if there was none.
    pub written: Option<Offset>,
    /// From the freeze to the commit, in milliseconds; none if there was no connection.
    pub frozen_ms: Option<u64>,
}

/// Offsets at the moment when the successor welcomed the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcomed {
    /// From `committed` to `welcome`, in milliseconds.
    pub gap_ms: u64,
    /// How much the client was known to have.
    pub from: Offset,
    /// Below this nothing could be replayed.
    pub base: Offset,
    /// How much had been numbered towards the client.
    pub end: Offset,
    /// How much of the client's had been counted.
    pub received: Offset,
}

impl Resume {
    /// Compares both sides.
    pub fn reconciled(handed: &Handed, welcomed: &Welcomed) -> Self {
        let first = welcomed.from.max(welcomed.base);
        Self {
            gap_ms: handed.frozen_ms.map(|frozen_ms| frozen_ms + welcomed.gap_ms),
            replayed: welcomed.end.since(first),
            duplicates_dropped: handed.written.map_or(0, |written| written.min(welcomed.end).since(first)),
            gaps: u64::from(welcomed.from < welcomed.base),
            lost: handed.end.since(welcomed.end) + handed.received.since(welcomed.received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDED: Handed =
        Handed { end: Offset(10), received: Offset(4), written: Some(Offset(8)), frozen_ms: Some(3) };
    const WELCOMED: Welcomed =
        Welcomed { gap_ms: 20, from: Offset(8), base: Offset(2), end: Offset(10), received: Offset(4) };

    #[test]
    fn a_client_that_told_all_that_it_got_is_sent_only_the_rest() {
        let resume = Resume::reconciled(&HANDED, &WELCOMED);
        let nothing = Resume { gap_ms: Some(23), replayed: 2, ..Resume::default() };
        assert_eq!(resume, nothing);
    }

    #[test]
    fn what_was_written_to_the_old_connection_and_is_sent_again_counts_as_a_duplicate() {
        let welcomed = Welcomed { from: Offset(5), ..WELCOMED };
        let resume = Resume::reconciled(&HANDED, &welcomed);
        assert_eq!((resume.replayed, resume.duplicates_dropped, resume.lost), (5, 3, 0), "6, 7 and 8 of 6 to 10");
    }

    #[test]
    fn what_was_written_to_a_connection_that_was_gone_before_the_freeze_is_no_duplicate() {
        let welcomed = Welcomed { from: Offset(5), ..WELCOMED };
        let resume = Resume::reconciled(&Handed { written: None, frozen_ms: None, ..HANDED }, &welcomed);
        assert_eq!((resume.duplicates_dropped, resume.gap_ms), (0, None));
    }

    #[test]
    fn what_the_successor_cannot_send_again_is_a_gap_and_no_duplicate() {
        let welcomed = Welcomed { from: Offset(1), base: Offset(6), ..WELCOMED };
        let resume = Resume::reconciled(&HANDED, &welcomed);
        assert_eq!((resume.gaps, resume.replayed, resume.duplicates_dropped), (1, 4, 2));
    }

    #[test]
    fn what_the_successor_does_not_know_of_is_lost_in_both_directions() {
        let welcomed = Welcomed { end: Offset(7), received: Offset(3), from: Offset(7), ..WELCOMED };
        assert_eq!(Resume::reconciled(&HANDED, &welcomed).lost, 3 + 1);
    }
}
