//! Which runs of a trigger a drain is on account of, and which were called off: a trigger that gave up while the hub
//! was stopped may be heard in any order, its undoing first.

use std::collections::VecDeque;

/// Attempts that are remembered of each kind; the oldest goes first.
const REMEMBERED_MAX: usize = 256;

/// One run of a trigger, by the name that it gave itself.
pub type Attempt = String;

#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Those that began the present drain or joined it.
    present: VecDeque<Attempt>,
    called_off: VecDeque<Attempt>,
}

fn remember(list: &mut VecDeque<Attempt>, attempt: &str) {
    if list.iter().any(|known| known == attempt) {
        return;
    }
    if list.len() >= REMEMBERED_MAX {
        list.pop_front();
    }
    list.push_back(attempt.to_owned());
}

impl Attempts {
    /// Whether it was called off, before or after it was heard.
    pub(super) fn is_called_off(&self, attempt: &str) -> bool {
        self.called_off.iter().any(|known| known == attempt)
    }

    /// A drain begins.
    pub(super) fn begin(&mut self) {
        self.present.clear();
    }

    /// It is on account of this one too.
    pub(super) fn present(&mut self, attempt: &str) {
        remember(&mut self.present, attempt);
    }

    /// Calls it off. Says whether the present drain is on its account.
    pub(super) fn call_off(&mut self, attempt: &str) -> bool {
        remember(&mut self.called_off, attempt);
        self.present.iter().any(|known| known == attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut attempts = Attempts::default();
        for n in 0..=REMEMBERED_MAX {
            attempts.call_off(&n.to_string());
            attempts.call_off(&n.to_string());
        }
        assert!(!attempts.is_called_off("0") && attempts.is_called_off("1"));
        assert_eq!(attempts.called_off.len(), REMEMBERED_MAX);
    }

    #[test]
    fn only_an_attempt_that_began_or_joined_the_present_drain_calls_it_off() {
        let mut attempts = Attempts::default();
        attempts.begin();
        attempts.present("a");
        attempts.present("b");
        assert!(attempts.call_off("a") && attempts.call_off("b") && !attempts.call_off("c"));
        attempts.begin();
        assert!(!attempts.call_off("a"), "that was another drain");
    }
}
