//! Claims on a drain under random lives of deployments: who keeps it, who ends it, and that nothing else does.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_protocol::control::OnOrphan;
use tidegate_protocol::drain::claims::{
    AppLook, Ask, CLAIMS_MAX, ClaimAction, ClaimEvent, Claimant, Claims, Ended, Instance,
};
use tidegate_protocol::position::Millis;

const RETURN_AFTER_MS: u64 = 600_000;
const GROUPS: [&str; 3] = ["shop/blue", "shop/green", "chat/all"];
const EVENTS: [&str; 4] = ["ApplicationStop", "BeforeBlockTraffic", "AfterBlockTraffic", "ValidateService"];

/// One thing that happens to a hub.
#[derive(Clone, Debug)]
enum Op {
    /// A run of a group's trigger, or of somebody's hand.
    Ask {
        group: Option<usize>,
        attempt: usize,
        event: usize,
        recall: bool,
        lease_ms: u64,
    },
    Renew {
        attempt: usize,
    },
    Undo {
        attempt: usize,
    },
    Release {
        group: usize,
    },
    Operator,
    Over,
    Look(AppLook),
    Pass {
        ms: u64,
    },
}

fn op(may_orphan: bool) -> impl Strategy<Value = Op> {
    let group = prop::option::weighted(0.8, 0..GROUPS.len());
    let ask = (group, 0..6usize, 0..EVENTS.len(), any::<bool>(), 1_000..90_000u64);
    let look = prop_oneof![
        Just(AppLook::Refused),
        Just(AppLook::Unclear),
        (1..3u64).prop_map(|id| AppLook::Healthy(Instance(vec![id]))),
    ];
    prop_oneof![
        4 => ask.prop_map(move |(group, attempt, event, recall, lease_ms)| {
            Op::Ask { group, attempt, event, recall: recall && may_orphan, lease_ms }
        }),
        2 => (0..6usize).prop_map(|attempt| Op::Renew { attempt }),
        2 => (0..6usize).prop_map(|attempt| Op::Undo { attempt }),
        1 => (0..GROUPS.len()).prop_map(|group| Op::Release { group }),
        1 => Just(Op::Operator),
        2 => Just(Op::Over),
        2 => look.prop_map(Op::Look),
        3 => (1..700_000u64).prop_map(|ms| Op::Pass { ms }),
    ]
}

/// The claims of a hub, and what the world knows of them.
struct Hub {
    claims: Claims,
    now: Millis,
    /// Attempts are used once, as a trigger uses them: after an undoing another one takes the place.
    lives: [u32; 6],
}

impl Hub {
    fn new() -> Self {
        Self { claims: Claims::new(RETURN_AFTER_MS), now: Millis(1), lives: [0; 6] }
    }

    fn attempt(&self, attempt: usize) -> String {
        format!("run-{attempt}-{}", self.lives[attempt])
    }

    fn ask(&self, group: Option<usize>, attempt: usize, event: usize, recall: bool, lease_ms: u64) -> Ask {
        let name = self.attempt(attempt);
        Ask {
            claimant: Claimant::of(group.map(|group| GROUPS[group]), Some(&name)),
            attempt: Some(name),
            event: group.map(|_| EVENTS[event].to_owned()),
            deployment: group.map(|_| "d-1".to_owned()),
            on_orphan: if recall { OnOrphan::Recall } else { OnOrphan::Continue },
            lease_ms,
        }
    }

    fn event(&mut self, op: &Op) -> ClaimEvent {
        match op {
            Op::Ask { group, attempt, event, recall, lease_ms } => {
                ClaimEvent::Asked(self.ask(*group, *attempt, *event, *recall, *lease_ms))
            }
            Op::Renew { attempt } => ClaimEvent::Renewed { attempt: Some(self.attempt(*attempt)), claimant: None },
            Op::Undo { attempt } => {
                let gone = self.attempt(*attempt);
                self.lives[*attempt] += 1;
                ClaimEvent::Undone { attempt: gone }
            }
            Op::Release { group } => ClaimEvent::Released {
                claimant: GROUPS[*group].to_owned(),
                event: Some("BeforeAllowTraffic".to_owned()),
                deployment: Some("d-2".to_owned()),
            },
            Op::Operator => ClaimEvent::AllCalledOff { by: "somebody".to_owned() },
            Op::Over => ClaimEvent::DrainOver,
            Op::Look(look) => ClaimEvent::AppLooked(look.clone()),
            Op::Pass { ms } => {
                self.now = self.now.plus(*ms);
                ClaimEvent::Time { parked: ms % 2 == 0 }
            }
        }
    }

    /// Who has a claim, and the event that keeps it.
    fn held(&self) -> BTreeMap<String, Option<String>> {
        self.claims.status(self.now).into_iter().map(|claim| (claim.claimant, claim.event)).collect()
    }
}

fn is_block(event: Option<&String>) -> bool {
    event.is_some_and(|event| event == "BeforeBlockTraffic" || event == "AfterBlockTraffic")
}

fn recalls(actions: &[ClaimAction]) -> usize {
    actions.iter().filter(|action| matches!(action, ClaimAction::Recall { .. })).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_hub_serves_again_exactly_when_the_last_claim_goes_and_no_time_ends_a_block_event(
        ops in prop::collection::vec(op(true), 1..40)
    ) {
        let mut hub = Hub::new();
        let mut over = false;
        for op in &ops {
            let before = hub.held();
            let event = hub.event(op);
            let actions = hub.claims.handle(event, hub.now);
            let after = hub.held();
            prop_assert!(after.len() <= CLAIMS_MAX);
            let went = !before.is_empty() && after.is_empty();
            let called_off = matches!(op, Op::Operator) && before.is_empty();
            prop_assert_eq!(recalls(&actions), usize::from(went || called_off), "{:?}: {:?}", op, actions);
            over = (over || matches!(op, Op::Over)) && !after.is_empty();
            for action in &actions {
                if let ClaimAction::Dropped { claimant, why: Ended::TimeOver { .. } | Ended::AppBack } = action {
                    prop_assert!(over || went, "nothing but its own run ends a claim while the drain is on");
                    prop_assert!(!is_block(before.get(claimant).and_then(Option::as_ref)), "{} was blocked", claimant);
                }
                if let ClaimAction::Start = action {
                    prop_assert!(before.is_empty(), "a drain is on already");
                }
            }
            if matches!(op, Op::Pass { .. }) {
                prop_assert!(hub.claims.next_at().is_none_or(|at| at > hub.now), "the driver would spin");
            }
        }
    }

    #[test]
    fn an_undoing_takes_what_its_run_added_and_a_release_what_its_group_has(
        ops in prop::collection::vec(op(false), 1..40)
    ) {
        let mut hub = Hub::new();
        // The runs of each claimant, as a reader of the rule would count them.
        let mut runs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for op in ops.iter().filter(|op| !matches!(op, Op::Pass { .. } | Op::Look(_))) {
            let event = hub.event(op);
            match &event {
                ClaimEvent::Asked(ask) => {
                    let attempt = ask.attempt.clone().expect("each run has one");
                    runs.entry(ask.claimant.to_string()).or_default().insert(attempt);
                }
                ClaimEvent::Undone { attempt } => runs.values_mut().for_each(|runs| _ = runs.remove(attempt)),
                ClaimEvent::Released { claimant, .. } => _ = runs.remove(claimant),
                ClaimEvent::AllCalledOff { .. } => runs.clear(),
                _ => {}
            }
            runs.retain(|_, runs| !runs.is_empty());
            hub.claims.handle(event, hub.now);
            let held: BTreeSet<String> = hub.held().into_keys().collect();
            prop_assert_eq!(held, runs.keys().cloned().collect::<BTreeSet<_>>(), "after {:?}", op);
        }
    }

    #[test]
    fn a_run_that_asks_keeps_its_own_claim_and_nobody_elses(
        renews in prop::collection::vec(1_000..59_000u64, 1..20),
        lease_ms in 60_000..90_000u64,
    ) {
        let mut hub = Hub::new();
        for attempt in [0, 1] {
            let ask = hub.ask(None, attempt, 0, true, lease_ms);
            hub.claims.handle(ClaimEvent::Asked(ask), hub.now);
        }
        let (mut last, began) = (hub.now, hub.now);
        for ms in renews {
            hub.now = hub.now.plus(ms);
            hub.claims.handle(ClaimEvent::Time { parked: false }, hub.now);
            let mine = ClaimEvent::Renewed { attempt: Some(hub.attempt(0)), claimant: None };
            hub.claims.handle(mine, hub.now);
            last = hub.now;
        }
        let expected: BTreeSet<String> = [(0, true), (1, last < began.plus(lease_ms))]
            .into_iter()
            .filter(|(_, there)| *there)
            .map(|(attempt, _)| format!("run {}", hub.attempt(attempt)))
            .collect();
        prop_assert_eq!(hub.held().into_keys().collect::<BTreeSet<_>>(), expected);
    }
}
