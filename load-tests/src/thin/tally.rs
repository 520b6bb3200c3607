//! What a generator counts and times, and how the figures of several are put together. Pure.

use super::orders::Progress;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest time that is told apart, in nanoseconds; longer ones count as this.
const NS_MAX: u64 = 100_000_000_000;

/// Kinds of errors told apart; the rest has one name.
const ERRORS_MAX: usize = 12;
/// So many characters of one are kept.
const ERROR_CHARS_MAX: usize = 200;

/// A distribution of times in nanoseconds, three digits exact. On the wire: pairs of value and count.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1_000, NS_MAX, 3).expect("fixed bounds that the histogram allows"))
    }
}

impl Times {
    /// Adds one.
    pub(crate) fn note(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that this part (0 to 1) of all does not exceed, in nanoseconds; nothing if empty.
    pub(crate) fn quantile(&self, part: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part))
    }

    /// The same in milliseconds.
    pub(crate) fn ms(&self, part: f64) -> Option<f64> {
        self.quantile(part).map(|ns| ns as f64 / 1e6)
    }

    /// Takes in another.
    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so that nothing is out of range.
        let _ = self.0.add(&other.0);
    }
}

impl Serialize for Times {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut times = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            times.0.saturating_record_n(value, count);
        }
        Ok(times)
    }
}

/// Everything that was seen between two `Collect`s.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Counts since the generator began.
    pub(crate) progress: Progress,
    /// From when an attempt was due until the connection was open.
    pub(crate) opening: Times,
    /// From the stamp in a published message to its receipt.
    pub(crate) delivery: Times,
    /// From when a message was due to its return.
    pub(crate) echo: Times,
    /// How late the generator was in sending what was due, connects included.
    pub(crate) late: Times,
    /// How long one turn of the loop took: nothing is stamped more wrongly than by this.
    pub(crate) turn: Times,
    /// Attempts that were told to come back later.
    pub(crate) retried: u64,
    /// What went wrong, and how often.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Messages that came twice, out of order, cut, or to the wrong client; what each was is among the errors.
    pub(crate) wrong: u64,
    /// The last receipt of an app message, by the machine's monotonic clock.
    pub(crate) last_receipt_ns: u64,
    /// When the last connection became open.
    pub(crate) last_open_ns: u64,
    /// Connections that became open, by hundredths of a second of the monotonic clock.
    pub(crate) opened_by_10ms: BTreeMap<u64, u64>,
    /// Processor time from the first to the last turn that did something.
    pub(crate) busy_cpu_ns: u64,
    /// Wall time of the same; the greatest of several generators.
    pub(crate) busy_wall_ns: u64,
    /// The busiest generator's part of a core, in percent.
    pub(crate) busy_percent: f64,
}

impl Figures {
    /// Seconds from `begin_ns` until this part (0 to 1) of all that opened was open.
    pub(crate) fn opened_within_s(&self, begin_ns: u64, part: f64) -> Option<f64> {
        let all: u64 = self.opened_by_10ms.values().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut sum = 0;
        let at = self.opened_by_10ms.iter().find(|(_, count)| {
            sum += **count;
            sum >= wanted.max(1)
        });
        at.map(|(at, _)| ((at + 1) * 10_000_000).saturating_sub(begin_ns) as f64 / 1e9)
    }

    /// The most that opened in any second.
    pub(crate) fn opened_peak_per_s(&self) -> u64 {
        let in_second = |from: u64| self.opened_by_10ms.range(from..from + 100).map(|(_, count)| count).sum();
        self.opened_by_10ms.keys().map(|from| in_second(*from)).max().unwrap_or(0)
    }

    /// Counts one error. Its words may be the server's: what would move a terminal's cursor is shown as an escape.
    pub(crate) fn error(&mut self, why: &str) {
        let why: String = why.chars().take(ERROR_CHARS_MAX).flat_map(shown).collect();
        let known = self.errors.contains_key(&why) || self.errors.len() < ERRORS_MAX;
        *self.errors.entry(if known { why } else { "others".to_owned() }).or_default() += 1;
    }

    /// Counts one message that should not have come.
    pub(crate) fn wrong(&mut self, why: &str) {
        self.wrong += 1;
        self.error(why);
    }

    /// Takes in another generator's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.progress = self.progress.plus(other.progress);
        self.opening.add(&other.opening);
        self.delivery.add(&other.delivery);
        self.echo.add(&other.echo);
        self.late.add(&other.late);
        self.turn.add(&other.turn);
        self.retried += other.retried;
        self.wrong += other.wrong;
        for (why, count) in &other.errors {
            *self.errors.entry(why.clone()).or_default() += count;
        }
        self.last_receipt_ns = self.last_receipt_ns.max(other.last_receipt_ns);
        self.last_open_ns = self.last_open_ns.max(other.last_open_ns);
        for (at, count) in &other.opened_by_10ms {
            *self.opened_by_10ms.entry(*at).or_default() += count;
        }
        self.busy_cpu_ns += other.busy_cpu_ns;
        self.busy_wall_ns = self.busy_wall_ns.max(other.busy_wall_ns);
        self.busy_percent = self.busy_percent.max(other.busy_percent);
    }
}

fn shown(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = (!character.is_control()).then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_same_after_a_way_over_the_wire() {
        let mut times = Times::default();
        [900, 1_500, 1_500, 3_000_000, 99_000_000_000].into_iter().for_each(|ns| times.note(ns));
        let back: Times = serde_json::from_str(&serde_json::to_string(&times).unwrap()).unwrap();
        for part in [0.0, 0.5, 0.75, 0.99, 1.0] {
            assert_eq!(back.quantile(part), times.quantile(part), "{part}");
        }
        assert_eq!(back.count(), 5);
    }

    #[test]
    fn nothing_has_no_quantile_and_what_is_too_long_counts_as_the_longest() {
        let mut times = Times::default();
        assert_eq!(times.ms(0.5), None);
        times.note(u64::MAX);
        assert!(times.ms(1.0).is_some_and(|ms| (99_900.0..=100_200.0).contains(&ms)), "{:?}", times.ms(1.0));
    }

    #[test]
    fn figures_of_two_generators_add_up_and_the_busiest_one_counts() {
        let mut one = Figures { busy_percent: 40.0, last_open_ns: 5, ..Figures::default() };
        one.error("refused");
        one.opening.note(1_000_000);
        let mut two = Figures { busy_percent: 70.0, last_open_ns: 4, ..Figures::default() };
        two.error("refused");
        two.opening.note(2_000_000);
        one.add(&two);
        assert_eq!((one.errors["refused"], one.last_open_ns, one.opening.count()), (2, 5, 2));
        assert!((one.busy_percent - 70.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_course_of_an_admission_tells_when_a_part_was_in_and_the_busiest_second() {
        let figures = Figures { opened_by_10ms: [(100, 50), (149, 30), (260, 20)].into(), ..Figures::default() };
        let within = |part| figures.opened_within_s(1_000_000_000, part).unwrap();
        assert!(
            (within(0.5) - 0.01).abs() < 1e-9 && (within(0.8) - 0.5).abs() < 1e-9 && (within(1.0) - 1.61).abs() < 1e-9
        );
        assert_eq!(figures.opened_peak_per_s(), 80);
        assert_eq!(Figures::default().opened_within_s(0, 0.5), None);
    }

    #[test]
    fn an_error_in_the_servers_words_stays_on_its_line_and_is_not_endless() {
        let mut figures = Figures::default();
        figures.error(&format!("closed with 1011 \u{1b}[31m\nfault: none{}", "x".repeat(1_000)));
        let (why, _) = figures.errors.first_key_value().expect("one error");
        assert!(why.starts_with(r"closed with 1011 \u{1b}[31m\nfault: none") && why.len() < 300, "{why}");
    }

    #[test]
    fn errors_of_many_kinds_stay_few_and_none_is_forgotten() {
        let mut figures = Figures::default();
        (0..100).for_each(|n| figures.error(&format!("error {n}")));
        assert_eq!(figures.errors.len(), ERRORS_MAX + 1);
        assert_eq!(figures.errors.values().sum::<u64>(), 100);
    }
}
