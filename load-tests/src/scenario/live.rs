//! A few sessions that are in use while something happens to many: how much worse is it for them?

use super::stage::errors;
use crate::report::Figure;
use crate::target::Server;
use crate::thin::{Crew, Figures, Kind, Times, Traffic};
use std::time::Duration;
use tokio::time::sleep;

/// The generator of live sessions, apart from the others' source addresses.
const NUMBER: u8 = 250;
/// Time for a few sessions to open.
const OPEN_WAIT: Duration = Duration::from_secs(20);
/// Time for the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// Sessions that ask the server something, in an open loop.
pub(crate) struct Live {
    crew: Crew,
    traffic: Traffic,
}

impl Live {
    /// Opens `sessions` of them; each asks `per_s` times a second by a WebSocket ping.
    ///
    /// # Errors
    /// They could not be opened.
    pub(crate) async fn open(server: &Server, sessions: u32, per_s: f64) -> Result<Self, String> {
        let mut crew = Crew::start(&server.target, sessions, NUMBER).await?;
        crew.connect(sessions, None, sessions).await?;
        let wanted = u64::from(sessions);
        if !crew.until(OPEN_WAIT, |_| {}, |now| now.open + now.failed >= wanted).await? || crew.progress().failed > 0 {
            let figures = crew.collect().await?;
            return Err(format!("{} of {sessions} live sessions are open{}", crew.progress().open, errors(&figures)));
        }
        let per_s = Some(per_s * f64::from(sessions));
        let traffic = Traffic { kind: Kind::Ping, sessions, per_s, payload: 8, begin_ns: 0, until_ns: 0 };
        Ok(Self { crew, traffic })
    }

    /// Processes of the generator.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.crew.pids()
    }

    /// Asks for a while in which nothing else happens.
    ///
    /// # Errors
    /// The generator is gone.
    pub(crate) async fn quiet(&mut self, time: Duration) -> Result<Figures, String> {
        self.crew.collect().await?;
        self.crew.traffic(self.traffic, time).await?;
        sleep(time).await;
        self.settled().await
    }

    /// Asks until [`Live::end`].
    ///
    /// # Errors
    /// The generator is gone.
    pub(crate) async fn begin(&mut self) -> Result<(), String> {
        self.crew.collect().await?;
        self.crew.traffic(self.traffic, FOR_EVER).await
    }

    /// Stops asking: what came back, and how many answers are missing.
    ///
    /// # Errors
    /// The generator is gone.
    pub(crate) async fn end(mut self) -> Result<(Figures, u64), String> {
        let none = Traffic { sessions: 0, per_s: None, ..self.traffic };
        self.crew.traffic(none, Duration::ZERO).await?;
        let figures = self.settled().await?;
        let missing = figures.progress.sent.saturating_sub(figures.progress.echoed) + figures.progress.lost;
        self.crew.end().await;
        Ok((figures, missing))
    }

    async fn settled(&mut self) -> Result<Figures, String> {
        // Whoever has not answered by then is missing.
        self.crew.settle(LAST_ANSWERS).await?;
        self.crew.collect().await
    }
}

/// Before and during, side by side.
pub(crate) fn compared(quiet: &Times, during: &Times) -> Vec<Figure> {
    let (before, then) = (quiet.ms(0.99), during.ms(0.99));
    let ratio = before.zip(then).map(|(before, then)| then / before);
    vec![
        Figure::new(
            "live_ms_p99_quiet",
            before,
            "ms",
            "answer to a live session, 99 of 100, when nothing else happens",
        ),
        Figure::new("live_ms_p99_during", then, "ms", "the same meanwhile"),
        Figure::new("live_ratio", ratio, "", "the one over the other"),
    ]
}
