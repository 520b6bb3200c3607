//! Numbers as frames carry them. They count by value: `3`, `3.0` and `3e0` are the same number, for a browser
//! cannot tell them apart. They are whole, not negative, and below 2^53.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The highest number in a frame: a browser can hold each of them.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// One number of a frame.
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not `deserialize_u64`: from a frame's buffered fields that refuses `3.0`.
        from.deserialize_any(ByValue)
    }
}

struct ByValue;

impl Visitor<'_> for ByValue {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 2^53-1")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
        let too_high = || E::custom(format!("{number} is too high: numbers are whole and below 2^53"));
        (number <= NUMBER_MAX).then_some(Whole(number)).ok_or_else(too_high)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
        let negative = || E::custom(format!("{number} is negative: numbers are whole and not negative"));
        self.visit_u64(u64::try_from(number).map_err(|_| negative())?)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
        // Every whole number in this range is held exactly, so the cast changes nothing.
        let is_whole = number.fract() == 0.0 && (0.0..=NUMBER_MAX as f64).contains(&number);
        let wrong = || E::custom(format!("{number} is not a whole number from 0 to 2^53-1"));
        is_whole.then_some(Whole(number as u64)).ok_or_else(wrong)
    }
}

fn narrowed<T: TryFrom<u64>, E: Error>(Whole(number): Whole) -> Result<T, E> {
    let bits = size_of::<T>() * 8;
    T::try_from(number).map_err(|_| E::custom(format!("{number} is too high: this number is below 2^{bits}")))
}

/// A number that must be there.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    Whole::deserialize(from).and_then(narrowed)
}

/// A number that may be absent; `null` counts as absent.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    Option::<Whole>::deserialize(from)?.map(narrowed).transpose()
}
