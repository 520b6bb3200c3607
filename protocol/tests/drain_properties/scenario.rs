//! What may happen to a drain, drawn at random and small enough to be shrunk.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::control::{DrainRequest, GateRequest, OnGate, OnOrphan};
use tidegate_protocol::drain::Facts;

/// Sessions are named by numbers: those of the start from 0, newcomers from here.
pub(crate) const NEWCOMERS: u64 = 1_000;
/// Hubs that may take over.
pub(crate) const HUBS: u64 = 3;

/// How a client behaves when it is told to move, and its handover when it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// It is at the other hub after so many milliseconds, and live there at once.
    Comes(u64),
    /// It comes, and is refused so often before it is taken.
    Refused(u64, u8),
    /// It comes and is committed, and nobody ever says live.
    Vanishes(u64),
    /// It does nothing.
    Ignores,
    /// Its balancer brings it back here.
    Sticky,
}

/// One hub that may take over, as it is at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) there: bool,
    pub(crate) eligible: bool,
    pub(crate) named: bool,
    pub(crate) sessions: u64,
    pub(crate) room: Option<u64>,
    pub(crate) second: u64,
    pub(crate) p99_ms: u64,
    pub(crate) refused: u64,
}

/// Something that happens by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Arrives { n: u64, connected: bool, fresh: bool },
    Ready(u64),
    Busy(u64, u64),
    Lost(u64),
    Back(u64),
    Leaves(u64),
    Peers([Peer; HUBS as usize]),
    Asked,
    TriggerEnds,
    PushTheRest,
    Continue,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) request: DrainRequest,
    pub(crate) population: Vec<Facts>,
    pub(crate) peers: [Peer; HUBS as usize],
    pub(crate) habits: Vec<Habit>,
    pub(crate) disk_fails: u8,
    /// How late the hub is with its first notices.
    pub(crate) late_ms: u64,
    pub(crate) script: Vec<(u64, Turn)>,
}

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        6 => (0u64..3_000).prop_map(Habit::Comes),
        2 => ((0u64..500), (1u8..5)).prop_map(|(ms, times)| Habit::Refused(ms, times)),
        1 => (0u64..500).prop_map(Habit::Vanishes),
        1 => Just(Habit::Ignores),
        1 => Just(Habit::Sticky),
    ]
}

pub(crate) fn peer() -> impl Strategy<Value = Peer> {
    let numbers = (0u64..60, 0u64..5, 0u64..900, prop_oneof![6 => Just(0u64), 1 => 1u64..3]);
    let room = prop_oneof![2 => Just(None), 1 => (0u64..30).prop_map(Some)];
    (prop::bool::weighted(0.8), prop::bool::weighted(0.8), any::<bool>(), numbers, room).prop_map(
        |(there, eligible, named, (sessions, second, p99_ms, refused), room)| Peer {
            there,
            eligible,
            named,
            sessions,
            room,
            second,
            p99_ms,
            refused,
        },
    )
}

fn peers() -> impl Strategy<Value = [Peer; HUBS as usize]> {
    [peer(), peer(), peer()]
}

pub(crate) fn facts() -> impl Strategy<Value = Facts> {
    (prop::bool::weighted(0.8), any::<bool>(), prop::bool::weighted(0.2), 0u64..20_000).prop_map(
        |(connected, ready, busy, idle_ms)| Facts { connected, ready: ready && !busy, busy, fresh: false, idle_ms },
    )
}

fn turn() -> impl Strategy<Value = Turn> {
    let known = || prop_oneof![4 => 0u64..40, 1 => NEWCOMERS..NEWCOMERS + 20];
    prop_oneof![
        3 => (NEWCOMERS..NEWCOMERS + 20, prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(n, connected, fresh)| Turn::Arrives { n, connected, fresh }),
        2 => known().prop_map(Turn::Ready),
        4 => (known(), 0u64..40_000).prop_map(|(n, ms)| Turn::Busy(n, ms)),
        2 => known().prop_map(Turn::Lost),
        2 => known().prop_map(Turn::Back),
        2 => known().prop_map(Turn::Leaves),
        2 => peers().prop_map(Turn::Peers),
        1 => Just(Turn::Asked),
        1 => Just(Turn::TriggerEnds),
        1 => Just(Turn::PushTheRest),
        1 => Just(Turn::Continue),
    ]
}

fn stages() -> impl Strategy<Value = Option<Vec<u64>>> {
    prop_oneof![
        Just(None),
        Just(Some(vec![100])),
        Just(Some(vec![10, 90])),
        Just(Some(vec![25, 25, 25, 25])),
        Just(Some(vec![1, 9, 30, 60])),
    ]
}

/// Any policy that can be carried out.
pub(crate) fn request() -> impl Strategy<Value = DrainRequest> {
    let spans = (0u64..5_000, prop_oneof![1 => Just(0u64), 3 => 1u64..15_000], 0u64..5_000, 0u64..20_000);
    let gate = (0u64..=100, 0u64..6_000)
        .prop_map(|(percent, wait_ms)| GateRequest { back_min_percent: Some(percent), wait_max_ms: Some(wait_ms) });
    let on_gate = prop_oneof![3 => Just(None), 1 => Just(Some(OnGate::Recall)), 1 => Just(Some(OnGate::Continue))];
    (spans, 1u64..30, stages(), (prop::option::of(gate), on_gate), prop::bool::weighted(0.1), any::<bool>()).prop_map(
        |((notice_ms, window_ms, settle_ms, more_ms), max_in_flight, stages, (gate, on_gate), recall, park)| {
            DrainRequest {
                notice_ms: Some(notice_ms),
                window_ms: Some(window_ms),
                settle_ms: Some(settle_ms),
                deadline_ms: Some((notice_ms + window_ms + settle_ms + more_ms).max(1)),
                max_in_flight: Some(max_in_flight),
                stages,
                gate,
                on_gate,
                allow_park: park.then_some(true),
                on_orphan: recall.then_some(OnOrphan::Recall),
                lease_ms: recall.then_some(8_000),
                ..DrainRequest::default()
            }
        },
    )
}

pub(crate) fn scenario() -> impl Strategy<Value = Scenario> {
    let disk = prop_oneof![5 => Just(0u8), 1 => 1u8..4];
    let late = prop_oneof![4 => Just(0u64), 1 => 0u64..1_500];
    let script = vec((0u64..2_000, turn()), 0..30);
    (request(), vec(facts(), 0..40), peers(), vec(habit(), 60), (disk, late), script).prop_map(
        |(request, population, peers, habits, (disk_fails, late_ms), script)| Scenario {
            population,
            peers,
            habits,
            disk_fails,
            // Nobody can end in time who is not asked in time.
            late_ms: late_ms.min(request.deadline_ms.unwrap_or(0) / 4),
            request,
            script,
        },
    )
}
