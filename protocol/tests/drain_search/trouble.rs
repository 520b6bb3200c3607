//! What may go wrong in one search.

/// How much may still go wrong. Each falls; so every run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trouble {
    /// Orders that are never answered.
    pub silences: u8,
    /// Handovers that are refused, or blocked for good.
    pub refusals: u8,
    /// Times that all peers are gone.
    pub vanishes: u8,
    /// Times that they are back.
    pub returns: u8,
    /// Cancels.
    pub cancels: u8,
    /// Sessions that end.
    pub leaves: u8,
    /// Connections that break.
    pub losses: u8,
    /// Sessions that come.
    pub arrivals: u8,
    /// Clients that say busy.
    pub busy: u8,
    /// Clients that come back here.
    pub bounces: u8,
    /// Parks that fail.
    pub disk: u8,
    /// Orders to push or park everybody.
    pub rests: u8,
    /// Times that somebody lets a held drain go on.
    pub continues: u8,
    /// Ends of the process.
    pub stops: u8,
}

impl Trouble {
    /// Everybody answers.
    pub const NONE: Self = Self {
        silences: 0,
        refusals: 0,
        vanishes: 0,
        returns: 0,
        cancels: 0,
        leaves: 0,
        losses: 0,
        arrivals: 0,
        busy: 0,
        bounces: 0,
        disk: 0,
        rests: 0,
        continues: 0,
        stops: 0,
    };
}
