//! The ledger of a well-behaved client.

use tidegate_protocol::client::Report;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::id::{HubId, SessionId};

/// What a client has seen and done so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its session, once it has one.
    pub session: Option<SessionId>,
    /// The hub that welcomed it last.
    pub hub: Option<HubId>,
    /// Whether it has a working connection.
    pub connected: bool,
    /// Messages that it was asked to send, in order.
    pub sent: Vec<String>,
    /// Messages that came, in order.
    pub received: Vec<String>,
    /// How many of its messages no hub has acked.
    pub unacked: usize,
    /// Everything it was told beside messages, in order.
    pub reports: Vec<Report<String>>,
    /// How each connection ended that was not closed by the client itself: code and reason.
    pub closes: Vec<(Option<u16>, String)>,
    /// Every frame that came, in order.
    pub frames: Vec<ServerFrame>,
    /// How many connections were dialled.
    pub dials: u32,
}

impl Seen {
    /// How often it went on after its connection had been lost.
    pub fn resumes(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report, Report::Resumed { .. })).count()
    }

    /// How often it moved while its connection worked.
    pub fn moves(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report, Report::Moved { .. })).count()
    }

    /// How often continuity was lost.
    pub fn resets(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report, Report::Reset { .. })).count()
    }

    /// The sessions that it was told are no more, in order.
    pub fn replaced(&self) -> Vec<String> {
        let replaced = self.reports.iter().filter_map(|report| match report {
            Report::Reset { replaces, .. } => Some(replaces.to_string()),
            _ => None,
        });
        replaced.collect()
    }

    /// The session that it began with.
    pub fn first_session(&self) -> Option<String> {
        self.reports.iter().find_map(|report| match report {
            Report::Opened { session, .. } => Some(session.to_string()),
            _ => None,
        })
    }

    /// The same without the long lists, for the message of a failure.
    #[must_use]
    pub fn without_messages(&self) -> Self {
        Self { sent: Vec::new(), received: Vec::new(), frames: Vec::new(), ..self.clone() }
    }

    /// What went back to it in resets and at the end, in order: never taken, never sent again.
    pub fn unsent(&self) -> Vec<String> {
        let unsent = self.reports.iter().filter_map(|report| match report {
            Report::Reset { unsent, .. } | Report::Ended { unsent, .. } => Some(unsent.clone()),
            _ => None,
        });
        unsent.flatten().collect()
    }

    /// The code with which its session ended, if it did.
    pub fn ended(&self) -> Option<u16> {
        self.reports.iter().find_map(|report| match report {
            Report::Ended { code, .. } => Some(*code),
            _ => None,
        })
    }

    /// Whether it was told that its session is safe on disk.
    pub fn told_parked(&self) -> bool {
        self.closes.iter().any(|(code, why)| *code == Some(1012) && why.contains("park"))
    }
}
