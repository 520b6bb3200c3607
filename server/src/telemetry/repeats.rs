//! Lines that repeat are summed up, so that a thousand refused clients, or a try every 20 ms, are a few lines.
//!
//! In ten seconds one place in the code has ten lines, and each text of it one, whichever session it is about. What is more is counted, and told
//! as one line when the ten seconds are over: the last of them, and `… 303 times in 10 s`, those that were written
//! included. Debug and trace lines are for whoever wants all of them.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How long lines of one place are counted together.
const SPAN: Duration = Duration::from_secs(10);
/// Lines of one place that are written in that time.
const LINES_MAX: usize = 10;
/// Of the last line that was held back at most so much is told.
const TEXT_CHARS_MAX: usize = 500;

/// One for the process, as the logger is. As many entries as there are places in the code that log.
static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

thread_local! {
    /// The sums pass by themselves.
    static TELLING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Lets lines pass, or holds them back and counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeats;

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if TELLING.get() || *event.metadata().level() > Level::INFO {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        seen().get_or_insert_default().pass(event.metadata(), text.0, Instant::now())
    }
}

fn seen() -> MutexGuard<'static, Option<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the sums whose time is over.
pub(super) fn tell_due() {
    let now = Instant::now();
    let sums = seen().as_mut().map(|seen| seen.due(now)).unwrap_or_default();
    sums.into_iter().for_each(|sum| sum.tell());
}

/// Tells every sum, before the end.
pub(super) fn tell_all() {
    let sums = seen().take().map(|seen| seen.all(Instant::now())).unwrap_or_default();
    sums.into_iter().for_each(|sum| sum.tell());
}

/// What was logged lately, by the place in the code.
#[derive(Debug, Default)]
struct Seen(HashMap<Identifier, Lately>);

#[derive(Debug)]
struct Lately {
    since: Instant,
    metadata: &'static Metadata<'static>,
    /// What was written, as hashes.
    written: Vec<u64>,
    /// Whether there were more than are written, and the last of those.
    held: Option<String>,
    /// How many there were, written or not.
    count: u64,
}

/// Lines that were not written, as one.
struct Sum {
    metadata: &'static Metadata<'static>,
    last: String,
    count: u64,
    seconds: u64,
}

impl Seen {
    /// Counts a line. True: it is to be written.
    fn pass(&mut self, metadata: &'static Metadata<'static>, text: String, now: Instant) -> bool {
        let begin = || Lately { since: now, metadata, written: Vec::new(), held: None, count: 0 };
        let lately = self.0.entry(metadata.callsite()).or_insert_with(begin);
        lately.count += 1;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        if lately.written.len() < LINES_MAX && !lately.written.contains(&hash) {
            lately.written.push(hash);
            return true;
        }
        lately.held = Some(text);
        false
    }

    /// The sums whose time is over; their places begin anew.
    fn due(&mut self, now: Instant) -> Vec<Sum> {
        let over = self.0.extract_if(|_, lately| now.duration_since(lately.since) >= SPAN);
        over.filter_map(|(_, lately)| lately.sum(now)).collect()
    }

    fn all(self, now: Instant) -> Vec<Sum> {
        self.0.into_values().filter_map(|lately| lately.sum(now)).collect()
    }
}

impl Lately {
    fn sum(self, now: Instant) -> Option<Sum> {
        let seconds = now.duration_since(self.since).as_secs().max(1);
        let Self { metadata, count, .. } = self;
        self.held.map(|last| Sum { metadata, last, count, seconds })
    }
}

impl Sum {
    fn text(&self) -> String {
        let last: String = self.last.chars().take(TEXT_CHARS_MAX).collect();
        format!("{last} … {} times in {} s", self.count, self.seconds)
    }

    /// As a line of the same place, so that it has its level and its target, and passes the same filter.
    fn tell(&self) {
        let fields = self.metadata.fields();
        let Some(message) = fields.field("message") else { return };
        let text = self.text();
        TELLING.set(true);
        Event::dispatch(self.metadata, &fields.value_set(&[(&message, Some(&text as &dyn tracing::Value))]));
        TELLING.set(false);
    }
}

/// An event as a text: its message, then its fields. Without the session: the same about another one is a repeat.
#[derive(Default)]
struct Text(String);

impl Text {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value}{rest}")
            }
            "session" => Ok(()),
            name => write!(self.0, " {name}={value}"),
        };
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// Takes down where lines come from.
    struct Places(std::sync::Arc<Mutex<Vec<&'static Metadata<'static>>>>);

    impl<S: Subscriber> Layer<S> for Places {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().expect("one thread").push(event.metadata());
        }
    }

    fn two_places() -> [&'static Metadata<'static>; 2] {
        let places = std::sync::Arc::<Mutex<Vec<_>>>::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Places(places.clone())), || {
            tracing::warn!("one");
            tracing::info!("other");
        });
        let places = places.lock().expect("one thread");
        [places[0], places[1]]
    }

    fn texts(sums: Vec<Sum>) -> Vec<String> {
        sums.iter().map(Sum::text).collect()
    }

    #[test]
    fn a_flood_from_one_place_is_ten_lines_and_a_sum_and_another_place_is_not_touched() {
        let ([one, other], began, mut seen) = (two_places(), Instant::now(), Seen::default());
        let passed = (0..303).filter(|n| seen.pass(one, format!("refused n={n}"), began)).count();
        assert_eq!(passed, LINES_MAX);
        assert!(seen.pass(other, "begins".to_owned(), began));
        assert!(texts(seen.due(began + SPAN / 2)).is_empty(), "its time is not over");
        assert_eq!(texts(seen.due(began + SPAN)), ["refused n=302 … 303 times in 10 s"]);
        assert!(seen.pass(one, "refused n=1".to_owned(), began + SPAN), "and then it begins anew");
    }

    #[test]
    fn the_same_line_is_written_once_and_then_summed_up() {
        let ([one, _], began, mut seen) = (two_places(), Instant::now(), Seen::default());
        assert!(seen.pass(one, "full".to_owned(), began));
        assert!(!seen.pass(one, "full".to_owned(), began));
        assert!(seen.pass(one, "full again".to_owned(), began), "another text is news");
        assert_eq!(texts(seen.all(began + SPAN * 2)), ["full … 3 times in 20 s"]);
    }

    #[test]
    fn what_was_written_in_full_needs_no_sum() {
        let ([one, _], began, mut seen) = (two_places(), Instant::now(), Seen::default());
        assert!(seen.pass(one, "once".to_owned(), began));
        assert!(texts(seen.due(began + SPAN)).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_in_the_sum() {
        let ([one, _], began, mut seen) = (two_places(), Instant::now(), Seen::default());
        let _ = (seen.pass(one, "ü".repeat(2_000), began), seen.pass(one, "ü".repeat(2_000), began));
        let told = texts(seen.all(began));
        assert_eq!(told[0].chars().count(), TEXT_CHARS_MAX + " … 2 times in 1 s".chars().count());
    }
}
