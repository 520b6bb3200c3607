//! The values that labels of metrics may have. Closed lists: what is not here cannot become a time series.

use tidegate_protocol::control::HeldKind;

/// One label of a metric: its name, and all values it may have.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The value as Prometheus shows it.
    fn text(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$meta:meta])* $name:ident = $label:literal { $( $(#[$doc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$doc])* $variant, )* }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[ $( Self::$variant, )* ];
            fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Where a session of this hub is.
    SessionPhase = "phase" {
        /// A client is connected.
        Attached = "attached",
        /// Its client is away, and may come back.
        Detached = "detached",
        /// On its way to another hub.
        Frozen = "frozen",
        /// Held inert for another hub.
        Copy = "copy",
        /// On disk only.
        Parked = "parked",
    }
}

label! {
    /// Which way an app message or a byte of it went.
    Direction = "direction" {
        /// From a client to the hub.
        FromClient = "from_client",
        /// From the hub to a client.
        ToClient = "to_client",
        /// From the app to the hub.
        FromApp = "from_app",
        /// From the hub to the app.
        ToApp = "to_app",
    }
}

label! {
    /// How a session left this hub in the last drain.
    Outcome = "outcome" {
        /// Live on another hub.
        Moved = "moved",
        /// On disk for the next process.
        Parked = "parked",
        /// Ended by itself: closed, evicted, expired, replaced.
        Left = "left",
        /// Neither pushed nor parked.
        Forced = "forced",
        /// Committed, and no word from the successor.
        Unconfirmed = "unconfirmed",
        /// Still here.
        Remaining = "remaining",
    }
}

label! {
    /// Why a connection, a hello, a message or a call was turned away.
    Rejected = "why" {
        /// The Origin is not allowed.
        Origin = "origin",
        /// A path that leads out of the app's.
        Path = "path",
        /// No or no valid JWT, or one of another user.
        Unauthorized = "unauthorized",
        /// No `tidegate.v1` was offered.
        Subprotocol = "subprotocol",
        /// No hello within its time.
        HelloTimeout = "hello_timeout",
        /// No TLS handshake or request head within its time.
        HandshakeTimeout = "handshake_timeout",
        /// A frame or a text that breaks the protocol.
        Protocol = "protocol",
        /// A message over the limit, by a client or in a publish.
        TooLarge = "too_large",
        /// The hub is full.
        Sessions = "sessions",
        /// A session with too many channels: by its JWT, or by a call.
        Channels = "channels",
        /// A resume token that is malformed or not ours.
        TokenForged = "token_forged",
        /// A resume token that is too old.
        TokenExpired = "token_expired",
        /// A resume token that a later one has voided.
        TokenReuse = "token_reuse",
        /// A client that does not take its messages: it is closed, or a publish to it refused.
        SlowConsumer = "slow_consumer",
        /// A private call without the token, or with a foreign Host, Origin or content type.
        PrivateCall = "private_call",
        /// A peer's call that is not signed as it should be.
        PeerCall = "peer_call",
        /// A queue was full: of long hellos, of calls to a session that moves, of publishes with keys.
        QueueFull = "queue_full",
    }
}

label! {
    /// How a dial of the app ended.
    DialResult = "result" {
        /// The WebSocket is open.
        Ok = "ok",
        /// The app answered with something else than a WebSocket.
        Refused = "refused",
        /// The app could not be reached.
        Unreachable = "unreachable",
        /// No answer within the time.
        Timeout = "timeout",
    }
}

label! {
    /// What an app did that its clients felt.
    AppTrouble = "why" {
        /// A message above the limit.
        TooLarge = "too_large",
        /// A frame that breaks the WebSocket protocol.
        Protocol = "protocol",
        /// A text that is not UTF-8.
        Utf8 = "utf8",
        /// Nothing for three heartbeats: its socket was given up.
        Silent = "silent",
        /// Dialled in vain: its client was sent away, and may come back.
        Away = "away",
        /// It refused a client for good.
        Refused = "refused",
        /// A client's last words came while it could not be reached.
        Missed = "missed",
        /// A header of the request could not be sent to it.
        Header = "header",
    }
}

label! {
    /// Why a hub that should be there cannot be talked with.
    PeerTrouble = "why" {
        /// Its `--cluster-key-file` holds another key.
        Key = "key",
        /// Its clock is too far from this hub's.
        Clock = "clock",
        /// Not reached, or the connection broke.
        Unreachable = "unreachable",
        /// No answer within the time.
        Timeout = "timeout",
        /// Answered with a refusal.
        Refused = "refused",
        /// An answer that cannot be believed or read.
        Invalid = "invalid",
    }
}

label! {
    /// How a message to a peer ended.
    PeerResult = "result" {
        /// Answered.
        Ok = "ok",
        /// Answered with a refusal.
        Refused = "refused",
        /// Not reached, or no answer.
        Unreachable = "unreachable",
        /// No answer within the time.
        Timeout = "timeout",
        /// An answer that cannot be believed or read.
        Invalid = "invalid",
    }
}

label! {
    /// Why a drain moves nobody.
    Held = "why" {
        /// Too few of the last stage are back.
        Gate = "gate",
        /// The first clients did not come back.
        Canary = "canary",
        /// One move after the other was refused.
        Refusals = "refusals",
        /// No other hub takes sessions, or none has room.
        NoSuccessor = "no_successor",
    }
}

impl Held {
    /// The label of a kind.
    pub const fn of(kind: HeldKind) -> Self {
        match kind {
            HeldKind::Gate => Self::Gate,
            HeldKind::Canary => Self::Canary,
            HeldKind::Refusals => Self::Refusals,
            HeldKind::NoSuccessor => Self::NoSuccessor,
        }
    }
}
