//! Whether a run may be told: a number that the generator or the machine made is no number of the server's.

use super::cpu::{Cpu, cpu_of};
use super::kernel::Kernel;
use crate::thin::Figures;
use serde::Serialize;
use std::path::Path;

/// The busiest generator may use this part of a core, in percent.
const BUSY_MAX: f64 = 90.0;
/// 99 of 100 turns of its loop may take so long, in milliseconds.
const TURN_MS_MAX: f64 = 25.0;
/// 99 of 100 sends in an open loop may be so late, in milliseconds.
const LATE_MS_MAX: f64 = 10.0;
/// The host may take this part of the processors, in percent. A rented machine always loses some; what is compared
/// by turns in one run loses it on both sides.
const STEAL_MAX: f64 = 10.0;
/// Above this part a run is a noisy one, in percent.
const STEAL_NOISY: f64 = 1.0;
/// Above this part of the processors, other programs make the run a noisy one, in percent.
const OTHERS_NOISY: f64 = 10.0;

/// What a run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum About {
    /// Times, and processor time at a load that must be what it says.
    #[default]
    Times,
    /// Memory, and what doing nothing costs: no lag and no segment sent again changes that, only
    /// clients that are not there.
    Memory,
}

/// What decides about a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Gates {
    /// What the run is about, and so which of the gates refuse.
    pub(crate) about: About,
    /// The busiest generator's part of a core while it worked, in percent.
    pub(crate) generator_busy_percent: f64,
    /// 99th percentile of one turn of a generator's loop, in milliseconds.
    pub(crate) generator_turn_ms_p99: f64,
    /// 99th percentile of the generator's own lateness, in milliseconds.
    pub(crate) generator_late_ms_p99: f64,
    /// Connections that found a full listen queue, on the whole machine.
    pub(crate) listen_overflows: u64,
    /// Connections that a listener lost.
    pub(crate) listen_drops: u64,
    /// TCP segments sent again, less the probes for late acks.
    pub(crate) retransmits: u64,
    /// TCP segments dropped by a full receive queue.
    pub(crate) receive_drops: u64,
    /// Part of the processors that the host took, in percent.
    pub(crate) steal_percent: f64,
    /// Part of the processors that other programs used, in percent.
    pub(crate) others_percent: f64,
    /// What the last two are parts of, and they themselves, in ticks: parts of a run add up before they are
    /// judged, for one tick of a short part would be much of it.
    #[serde(skip)]
    pub(crate) ticks: Ticks,
    /// Answers, deliveries or connections that should have come and did not.
    pub(crate) missing: u64,
    /// Messages that came twice, out of order, cut, or to the wrong client.
    pub(crate) wrong: u64,
    /// What went wrong at the generators, and how often.
    pub(crate) errors: std::collections::BTreeMap<String, u64>,
}

/// Time of all processors, in ticks of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    all: u64,
    steal: u64,
    others: u64,
}

impl Ticks {
    fn percent(self, part: u64) -> f64 {
        part as f64 / self.all.max(1) as f64 * 100.0
    }
}

impl Gates {
    /// Why this run must not be told; nothing if it may.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.missing > 0 {
            why.push(format!("{} answers, deliveries or connections are missing", self.missing));
        }
        if self.wrong > 0 {
            why.push(format!("{} messages came twice, out of order, cut, or to the wrong client", self.wrong));
        }
        if !why.is_empty() {
            why.extend(self.errors.iter().map(|(error, count)| format!("  {count} times: {error}")));
        }
        if self.about == About::Memory {
            return why;
        }
        let mut at_most = |name: &str, value: f64, max: f64, unit: &str| {
            if value > max {
                why.push(format!("{name}: {value:.1} {unit}, at most {max} {unit} may be"));
            }
        };
        at_most("the generator was the bottleneck, part of a core", self.generator_busy_percent, BUSY_MAX, "%");
        at_most("the generator lagged, p99 of a turn", self.generator_turn_ms_p99, TURN_MS_MAX, "ms");
        at_most("the generator was late, p99 of a send", self.generator_late_ms_p99, LATE_MS_MAX, "ms");
        at_most("the host took processor time (steal)", self.steal_percent, STEAL_MAX, "%");
        let counted = [
            ("connections found a full listen queue (ListenOverflows)", self.listen_overflows),
            ("connections were dropped by a listener (ListenDrops)", self.listen_drops),
            ("TCP segments were sent again (RetransSegs)", self.retransmits),
            ("TCP segments were dropped by a full receive queue (TCPRcvQDrop)", self.receive_drops),
        ];
        why.extend(counted.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")));
        why
    }

    /// What makes this run less sure without spoiling it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut noise = Vec::new();
        if self.others_percent > OTHERS_NOISY {
            let percent = self.others_percent;
            noise.push(format!(
                "noisy: other programs used {percent:.0} % of the processors{}",
                if self.about == About::Times { "; times are longer than they would be" } else { "" }
            ));
        }
        if self.steal_percent > STEAL_NOISY && self.about == About::Times {
            let percent = self.steal_percent;
            noise.push(format!(
                "noisy: the host took {percent:.1} % of the processors (steal); times are longer than they would be, and \
                 processor time may have a part of it"
            ));
        }
        noise
    }

    /// Several parts of one run, of which the worst counts.
    pub(crate) fn worst(mut self, other: &Self) -> Self {
        // What the whole run is about is said at its end.
        self.generator_busy_percent = self.generator_busy_percent.max(other.generator_busy_percent);
        self.generator_turn_ms_p99 = self.generator_turn_ms_p99.max(other.generator_turn_ms_p99);
        self.generator_late_ms_p99 = self.generator_late_ms_p99.max(other.generator_late_ms_p99);
        let (mine, theirs) = (self.ticks, other.ticks);
        self.ticks =
            Ticks { all: mine.all + theirs.all, steal: mine.steal + theirs.steal, others: mine.others + theirs.others };
        self.steal_percent = self.ticks.percent(self.ticks.steal);
        self.others_percent = self.ticks.percent(self.ticks.others);
        self.listen_overflows += other.listen_overflows;
        self.listen_drops += other.listen_drops;
        self.retransmits += other.retransmits;
        self.receive_drops += other.receive_drops;
        self.missing += other.missing;
        self.wrong += other.wrong;
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
        self
    }
}

/// The machine at the beginning of what is measured.
pub(crate) struct Watch {
    kernel: Kernel,
    ours: Vec<u32>,
    cpu: Cpu,
}

impl Watch {
    /// From now on. `ours` are the processes that belong to the run; this one is added.
    ///
    /// # Errors
    /// As [`Kernel::read`].
    pub(crate) fn begin(ours: &[u32]) -> Result<Self, String> {
        let ours: Vec<u32> = ours.iter().copied().chain([std::process::id()]).collect();
        Ok(Self { kernel: Kernel::read()?, cpu: cpu_of(&ours)?, ours })
    }

    /// Until now. What generators saw comes from `figures`; `missing` is what they should have seen.
    ///
    /// # Errors
    /// As [`Watch::begin`].
    pub(crate) fn end(&self, figures: &Figures, missing: u64) -> Result<Gates, String> {
        let kernel = Kernel::read()?.since(&self.kernel);
        // Whoever has ended in the meantime counts as one of the others.
        let there: Vec<u32> =
            self.ours.iter().copied().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        let ours_ticks = cpu_of(&there)?.since(&self.cpu).ns / 10_000_000;
        let others = kernel.busy_ticks.saturating_sub(ours_ticks);
        let ticks = Ticks { all: kernel.all_ticks, steal: kernel.steal_ticks, others };
        Ok(Gates {
            about: About::Times,
            generator_busy_percent: figures.busy_percent,
            generator_turn_ms_p99: figures.turn.ms(0.99).unwrap_or(0.0),
            generator_late_ms_p99: figures.late.ms(0.99).unwrap_or(0.0),
            listen_overflows: kernel.listen_overflows,
            listen_drops: kernel.listen_drops,
            retransmits: kernel.taken_for_lost(),
            receive_drops: kernel.receive_drops,
            steal_percent: ticks.percent(ticks.steal),
            others_percent: ticks.percent(ticks.others),
            ticks,
            missing,
            wrong: figures.wrong,
            errors: figures.errors.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_run_is_told_without_a_word() {
        let gates = Gates { generator_busy_percent: 60.0, steal_percent: 0.2, others_percent: 3.0, ..Gates::default() };
        assert_eq!((gates.refusals(), gates.warnings()), (Vec::<String>::new(), Vec::new()));
    }

    #[test]
    fn each_gate_refuses_by_itself_and_says_the_number() {
        let broken = [
            (Gates { generator_busy_percent: 97.0, ..Gates::default() }, "97.0 %"),
            (Gates { generator_turn_ms_p99: 40.0, ..Gates::default() }, "40.0 ms"),
            (Gates { generator_late_ms_p99: 12.0, ..Gates::default() }, "12.0 ms"),
            (Gates { steal_percent: 12.0, ..Gates::default() }, "steal"),
            (Gates { listen_overflows: 1, ..Gates::default() }, "ListenOverflows"),
            (Gates { listen_drops: 1, ..Gates::default() }, "ListenDrops"),
            (Gates { retransmits: 3, ..Gates::default() }, "3 TCP segments were sent again"),
            (Gates { receive_drops: 1, ..Gates::default() }, "TCPRcvQDrop"),
            (Gates { missing: 5, ..Gates::default() }, "5 answers"),
            (Gates { wrong: 2, ..Gates::default() }, "2 messages came twice"),
        ];
        for (gates, expected) in broken {
            let why = gates.refusals();
            assert!(why.len() == 1 && why[0].contains(expected), "{expected}: {why:?}");
        }
    }

    #[test]
    fn memory_is_told_on_a_lame_machine_too_but_not_without_all_its_sessions() {
        let lame = Gates { about: About::Memory, retransmits: 9, generator_busy_percent: 99.0, ..Gates::default() };
        assert!(lame.refusals().is_empty(), "{:?}", lame.refusals());
        assert_eq!(Gates { missing: 1, ..lame }.refusals().len(), 1);
    }

    #[test]
    fn what_is_missing_is_told_with_the_errors_that_were_seen() {
        let errors = [("upgrade answered HTTP/1.1 503".to_owned(), 5)].into();
        let why = Gates { missing: 5, errors, ..Gates::default() }.refusals();
        assert_eq!(why[1], "  5 times: upgrade answered HTTP/1.1 503");
    }

    #[test]
    fn other_programs_make_a_run_noisy_and_not_wrong() {
        let gates = Gates { others_percent: 55.0, ..Gates::default() };
        assert!(gates.refusals().is_empty());
        assert!(gates.warnings()[0].contains("55 %"));
    }

    #[test]
    fn a_host_that_takes_a_little_makes_times_noisy_and_memory_not() {
        let gates = Gates { steal_percent: 4.2, ..Gates::default() };
        assert!(gates.refusals().is_empty() && gates.warnings()[0].contains("4.2 %"), "{gates:?}");
        assert!(Gates { about: About::Memory, ..gates }.warnings().is_empty());
    }

    #[test]
    fn of_several_parts_the_worst_counts_and_drops_add_up() {
        let one = Gates { generator_busy_percent: 20.0, retransmits: 1, ..Gates::default() };
        let two = Gates { generator_busy_percent: 95.0, retransmits: 2, ..Gates::default() };
        let all = one.worst(&two);
        assert_eq!((all.generator_busy_percent, all.retransmits), (95.0, 3));
    }

    #[test]
    fn a_stolen_tick_in_a_short_part_is_judged_by_the_whole_run() {
        let part = |all, steal| Gates { ticks: Ticks { all, steal, others: all / 2 }, ..Gates::default() };
        let all = Gates::default().worst(&part(4, 1)).worst(&part(396, 0));
        assert!(all.refusals().is_empty(), "1 of 400: {:?}", all.refusals());
        assert!((all.steal_percent - 0.25).abs() < 1e-9 && (all.others_percent - 50.0).abs() < 1e-9, "{all:?}");
        assert_eq!(Gates::default().worst(&part(396, 45)).refusals().len(), 1, "45 of 396");
    }
}
