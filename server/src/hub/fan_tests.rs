use super::*;

#[test]
fn a_session_that_goes_back_before_a_stamp_has_come_here_is_not_given_it_twice() {
    let ledger = Ledger::new(Incarnation(2), 8, 8 << 10, None);
    let mut fan = ledger.lock();
    let (behind, level, strange) = (Incarnation(7), Incarnation(8), Incarnation(9));
    fan.baseline(behind, 3);
    fan.baseline(level, 5);
    let ahead = [(behind, 4), (level, 5), (strange, 1)].map(|(origin, n)| (origin.to_string(), n));
    let vector = fan.leaving_with(BTreeMap::from(ahead));
    for (origin, had) in [(behind, 4), (level, 5), (strange, 1)] {
        assert_eq!(vector.get(&origin.to_string()), Some(&had), "{origin}: the session has had {had} of it");
    }
}

#[test]
fn a_run_that_is_over_stands_in_the_vector_for_as_long_as_its_messages_can_be_given_again() {
    let ledger = Ledger::new(Incarnation(2), 2, 8 << 10, None);
    let mut fan = ledger.lock();
    let apply = |fan: &mut Fan, origin: u64, n: u64| {
        let (origin, message) = (Incarnation(origin), Message::text("x"));
        fan.applied.insert(origin, n);
        fan.remember(Entry { origin, n, to: Target::All, message }, 0);
    };
    let had = |fan: &Fan| fan.leaving_with(BTreeMap::new()).get(&Incarnation(7).to_string()).copied();
    apply(&mut fan, 7, 1);
    apply(&mut fan, 7, 2);
    fan.forget(Incarnation(7));
    assert_eq!(had(&fan), Some(2), "both messages can be given to a session that comes late");
    apply(&mut fan, 2, 1);
    assert_eq!(had(&fan), Some(2), "the second one still can");
    apply(&mut fan, 2, 2);
    assert_eq!(had(&fan), None, "nothing of that run is left, and nothing is kept of it");
    fan.baseline(Incarnation(8), 3);
    fan.forget(Incarnation(8));
    assert!(!fan.applied.contains_key(&Incarnation(8)), "of this one there was nothing to keep");
}

#[test]
fn what_was_applied_here_since_it_came_counts_for_a_session_that_leaves() {
    let ledger = Ledger::new(Incarnation(2), 8, 8 << 10, None);
    let mut fan = ledger.lock();
    fan.baseline(Incarnation(7), 9);
    let vector = fan.leaving_with(BTreeMap::from([(Incarnation(7).to_string(), 4)]));
    // Its own stamps stand in the vector, too.
    assert_eq!(vector.get(&Incarnation(7).to_string()), Some(&9));
}

fn entry(origin: u64, n: u64) -> Entry {
    Entry { origin: Incarnation(origin), n, to: Target::All, message: Message::text(&n.to_string()) }
}

fn parked(seen: &[(u64, u64)]) -> Record<Message> {
    let mut record = Record::new(tidegate_protocol::position::Epoch(1), Profile::default());
    record.applied = seen.iter().map(|(origin, n)| (Incarnation(*origin).to_string(), *n)).collect();
    record
}

#[test]
fn the_next_process_goes_on_with_the_ledger_and_without_it_who_was_parked_is_told() {
    let before = Ledger::new(Incarnation(2), 8, 8 << 10, None);
    before.lock().baseline(Incarnation(7), 4);
    before.lock().applied.insert(Incarnation(7), 5);
    before.lock().remember(entry(7, 5), 1);
    let remains = before.lock().remains();
    let written = serde_json::to_vec(&remains).expect("plain values");
    let read = serde_json::from_slice::<Remains>(&written).expect("as it was written");
    for (remains, missed) in [(Some(read), false), (None, true)] {
        let ledger = Ledger::new(Incarnation(3), 8, 8 << 10, remains);
        let mut record = parked(&[(2, 0), (7, 4)]);
        ledger.lock().restore(&mut record, Some(Incarnation(2)));
        assert_eq!(record.has_missed(), missed);
        if !missed {
            assert_eq!(record.applied.get(&Incarnation(3).to_string()), Some(&0), "all of the new run is for it");
            assert_eq!(ledger.lock().had().get(&Incarnation(7).to_string()), Some(&5), "the rest is asked for");
        }
    }
}

#[test]
fn what_was_published_by_a_hub_that_was_met_too_late_or_is_gone_is_told_to_who_lay_on_disk() {
    let remains = Ledger::new(Incarnation(2), 8, 8 << 10, None).lock().remains();
    let restored = |change: &dyn Fn(&mut Fan)| {
        let ledger = Ledger::new(Incarnation(3), 8, 8 << 10, Some(remains.clone()));
        change(&mut ledger.lock());
        let mut record = parked(&[(2, 0)]);
        ledger.lock().restore(&mut record, Some(Incarnation(2)));
        record.has_missed()
    };
    assert!(!restored(&|fan| _ = fan.baseline(Incarnation(9), 0)), "it has said nothing yet");
    assert!(restored(&|fan| _ = fan.baseline(Incarnation(9), 3)), "three messages of it came before it was met");
    assert!(restored(&|fan| assert_eq!(fan.lacks_of(Incarnation(9), 3), Some(Lack::WhileAway))));
    let ledger = Ledger::new(Incarnation(2), 8, 8 << 10, None);
    let mut fan = ledger.lock();
    fan.baseline(Incarnation(7), 4);
    fan.forget(Incarnation(7));
    assert_eq!(fan.lacks_of(Incarnation(7), 4), None, "all of it was had");
    assert_eq!(fan.lacks_of(Incarnation(7), 6), Some(Lack::Since(Incarnation(7), 4)));
    assert_eq!(fan.lacks_of(Incarnation(7), 6), None, "told once");
    let mut record = parked(&[(2, 0), (7, 4)]);
    fan.restore(&mut record, Some(Incarnation(2)));
    assert!(record.has_missed(), "two of it never came here");
}

#[test]
fn a_hub_gives_what_another_one_lacks_in_order_and_as_far_as_its_ring_goes() {
    let ledger = Ledger::new(Incarnation(2), 4, 8 << 10, None);
    let mut fan = ledger.lock();
    (1..=6).for_each(|n| fan.remember(entry(2, n), 0));
    let given = |fan: &Fan, after, below, max| -> Vec<u64> {
        fan.own_after(after, below, max, 1 << 10).into_iter().map(|entry| entry.n).collect()
    };
    assert_eq!(given(&fan, 3, u64::MAX, 64), [4, 5, 6]);
    assert_eq!(given(&fan, 0, 6, 2), [3, 4], "the first two are not in the ring any more");
    fan.remember(entry(9, 1), 0);
    assert_eq!(given(&fan, 4, u64::MAX, 64), [5, 6], "what others said is theirs to give");
}

#[test]
fn what_was_told_as_a_gap_is_not_brought_later_by_another_hub_after_newer_messages() {
    // Run 2 ended without leaving its ledger; a peer still has what was posted to it.
    let ledger = Ledger::new(Incarnation(3), 8, 8 << 10, None);
    let mut record = parked(&[(2, 5), (9, 1)]);
    ledger.lock().restore(&mut record, Some(Incarnation(2)));
    assert!(record.has_missed());
    let had = record.applied.get(&Incarnation(2).to_string()).copied();
    assert_eq!(had, Some(u64::MAX), "nothing of run 2 is for it any more, whoever has it");
    assert_eq!(record.applied.get(&Incarnation(9).to_string()), Some(&1), "a run that goes on is");
}
