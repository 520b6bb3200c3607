//! Drains through whatever chance makes of them: the invariants hold after every step (the fleet
//! checks them), and each ends by its deadline. A failure names its seed.

use super::*;

/// A small generator of its own, so that a seed means the same run for ever.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn session(&mut self) -> SessionId {
        id(self.below(60))
    }

    fn facts(&mut self) -> Facts {
        Facts { connected: self.below(4) > 0, fresh: self.below(2) == 0, ..Facts::default() }
    }

    fn event(&mut self, fleet: &Fleet) -> Event {
        let (id, to) = (self.session(), HubId(self.below(3)));
        let why = "chance".to_owned();
        match self.below(18) {
            0 => Event::Arrived { id: SessionId(u128::from(self.below(40)) + 1_000), facts: self.facts() },
            1 => Event::Ready { id },
            2 | 3 => Event::Busy { id, ms: self.below(20_000), why },
            4 => Event::ConnectionLost { id },
            5 => Event::ConnectionBack { id },
            6 => Event::HandoverBegan { id, to },
            7 => Event::Committed { id, to, exchange_ms: None },
            8 => Event::Live { id, to, had_connection: fleet.connected.get(&id) == Some(&true), resume: None },
            9 => Event::Resumed { id, resume: Resume { gap_ms: Some(self.below(9_000)), ..Resume::default() } },
            10 => Event::Refused { id, to: Some(to), why },
            11 => Event::Blocked { id, to: Some(to), why },
            12 => Event::Bounced { id },
            13 => Event::Left { id },
            14 => Event::ParkFailed { id, why },
            15 => Event::Parked { id },
            16 => Event::PeersChanged(self.peers()),
            _ => Event::StatusAsked,
        }
    }

    fn peers(&mut self) -> Vec<Successor> {
        let count = self.below(3);
        (0..count)
            .map(|hub| Successor {
                eligible: self.below(3) > 0,
                admission: Some(Admission {
                    second: self.below(9),
                    welcomed: self.below(20),
                    p99_ms: self.below(900),
                    refused: self.below(3) / 2,
                }),
                ..peer(hub)
            })
            .collect()
    }

    fn habit(&mut self) -> Habit {
        match self.below(6) {
            0 => Habit::Ignores,
            1 => Habit::Sticky,
            2 => Habit::BouncesFirst(self.below(7) as u8),
            _ => Habit::Comes(self.below(3_000)),
        }
    }
}

fn drain_by_chance(seed: u64) -> Fleet {
    let mut chance = Chance(seed);
    let json = format!(
        r#"{{"notice_ms":{},"window_ms":{},"settle_ms":{},"deadline_ms":30000,"max_in_flight":{},"on_orphan":"{}","lease_ms":20000}}"#,
        chance.below(5_000),
        chance.below(3) * 4_000,
        chance.below(5_000),
        1 + chance.below(20),
        if chance.below(4) == 0 { "recall" } else { "continue" },
    );
    let peers = chance.peers();
    let (connected, detached) = (chance.below(50), chance.below(10));
    let mut fleet = Fleet::with_peers(&json, connected, detached, &peers);
    fleet.disk_fails = chance.below(8) == 0;
    fleet.silent_after_commit = chance.below(8) == 0;
    for n in 0..60 {
        let habit = chance.habit();
        fleet.habits.insert(id(n), habit);
    }
    fleet.act();
    while fleet.drain.state.is_running() {
        let ms = 1 + chance.below(800);
        fleet.pass(ms);
        let event = chance.event(&fleet);
        fleet.tell(event);
        fleet.refusing = (chance.below(10) == 0).then_some("chance");
        assert!(fleet.elapsed() < 31_000, "seed {seed}: not over at its deadline: {:#?}", fleet.status());
    }
    fleet
}

#[test]
fn whatever_happens_it_ends_by_its_deadline_with_one_report_that_adds_up() {
    for seed in 0..2_000 {
        let fleet = std::panic::catch_unwind(|| drain_by_chance(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        assert_eq!(fleet.reports.len(), 1, "seed {seed}");
        let report = &fleet.reports[0];
        assert!(report.took_ms <= 30_000, "seed {seed}: {} ms", report.took_ms);
        let remaining = report.sessions.counts.remaining;
        let arrivals = report.sessions.counts.arrived;
        if report.result == DrainResult::Drained {
            assert!(remaining <= arrivals, "seed {seed}: drained with {remaining} left, {arrivals} arrived");
        }
    }
}

#[test]
fn after_the_end_it_goes_on_without_a_second_report_and_still_adds_up() {
    for seed in 2_000..2_200 {
        let mut fleet = drain_by_chance(seed);
        let mut chance = Chance(seed);
        for _ in 0..60 {
            let ms = 1 + chance.below(3_000);
            fleet.pass(ms);
            let event = chance.event(&fleet);
            fleet.tell(event);
        }
        fleet.tell(Event::PushAndParkRest);
        fleet.refusing = None;
        fleet.disk_fails = false;
        fleet.silent_after_commit = false;
        fleet.pass(60_000);
        for (id, seat) in fleet.drain.roster.iter().filter(|_| fleet.drain.state.phase() == Phase::Drained) {
            let given_away = matches!(seat.place, Place::Doubtful { .. } | Place::Unconfirmed { .. });
            assert!(given_away, "seed {seed}: {id} is still here: {seat:?}");
        }
        fleet.tell(Event::Cancel);
        assert_eq!((fleet.reports.len(), fleet.drain.phase()), (1, Phase::Serving), "seed {seed}");
    }
}
