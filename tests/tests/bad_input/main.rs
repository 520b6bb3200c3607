//! Bad input of every kind: each gets its documented close code, problem or exit, which names what is
//! wrong and what would be right, and nobody else notices.

mod bystander;
mod calls;
mod starts;
mod upgrades;
mod wire;
