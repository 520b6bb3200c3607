//! Every limit of the hub: its name, its default, the range it may have, and what happens when it
//! is reached. One list; the flags, the `Limits` the rest of the hub reads, and the help all come from it.

use super::value;
use clap::Args;
use serde::Serialize;

macro_rules! limits {
    ($( #[doc = $doc:literal] $flag:literal, $reader:ident, $field:ident = $default:expr, $shown:literal, $range:expr; )*) => {
        /// Limits as typed: a missing one has its default.
        #[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
        #[command(next_help_heading = "Limits")]
        pub struct LimitArgs {
            $(
                #[doc = $doc]
                #[arg(
                    long = $flag,
                    value_name = "N",
                    value_parser = value::$reader,
                    hide_short_help = true,
                    // The derive reads doc comments only as they stand, so the default is put in here.
                    help = concat!($doc, " [default: ", $shown, "]").trim_start(),
                )]
                pub $field: Option<u64>,
            )*
        }

        /// Every limit the hub keeps, validated. Sizes are in bytes, times in milliseconds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub struct Limits {
            $( #[doc = $doc] pub $field: u64, )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl LimitArgs {
            /// What is missing here is taken from `lower`.
            pub(crate) fn or(self, lower: Self) -> Self {
                Self { $( $field: self.$field.or(lower.$field), )* }
            }

            /// Fills in the defaults. The error names the flag, the value and the range.
            pub(crate) fn resolve(&self) -> Result<Limits, (&'static str, String, String)> {
                Ok(Limits { $( $field: in_range($flag, stringify!($reader), self.$field.unwrap_or($default), $range)?, )* })
            }
        }

        /// Flag, default as shown, reader and default, for the test that holds them together.
        #[cfg(test)]
        const TABLE: &[(&str, &str, fn(&str) -> value::Read<u64>, u64)] =
            &[$( ($flag, $shown, value::$reader, $default), )*];
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limits! {
    /// Largest app message either way; a larger one from a client closes its connection with 1009, one from the app ends its session with 1012 `app error`, a larger publish is refused
    "limit-message-bytes", size_bytes, message_bytes = MIB, "1MiB", 1..=64 * MIB;
    /// App messages a session may hold that its client has not acked; beyond it the app's socket is not read, and a publish to the session is refused
    "limit-unacked-messages", count, unacked_messages = 1024, "1024", 1..=1_000_000;
    /// Bytes of such messages per session; the same policy. At least the largest message
    "limit-unacked-bytes", size_bytes, unacked_bytes = MIB, "1MiB", 1..=256 * MIB;
    /// Bytes of such messages that sessions without a connection may hold together; beyond it those that went first keep their newest 64 KiB, and their clients are told of a gap
    "limit-away-bytes", size_bytes, away_bytes = GIB, "1GiB", MIB..=1024 * GIB;
    /// Channels one session may be in; joining one more is refused
    "limit-channels", count, channels_per_session = 64, "64", 0..=4096;
    /// Bytes of app state kept with a session; more is refused
    "limit-state-bytes", size_bytes, state_bytes = 64 * KIB, "64KiB", 0..=16 * MIB;
    /// Sessions of this hub, all phases together; a newcomer beyond it is told to retry. The hub keeps below its open-files limit in any case (it raises the soft one to the hard one): one descriptor a session, two with --app
    "limit-sessions", count, sessions = 19_000, "19000", 1..=10_000_000;
    /// Connections that have not sent their request yet; further ones wait in the listen queue, and while any waits there, whoever has sent nothing for a second goes. Those that owe a hello count to --limit-sessions, for --limit-hello-time
    "limit-half-open", count, half_open = 1024, "1024", 1..=1_000_000;
    /// Connections of the public listener that stay open for another plain HTTP request, such as health checks; further ones are closed after their answer
    "limit-http-connections", count, http_connections = 512, "512", 1..=1_000_000;
    /// Connections to the private listener; further ones wait in the listen queue
    "limit-private-connections", count, private_connections = 1024, "1024", 8..=1_000_000;
    /// Bytes of an HTTP request head; more gets 431
    "limit-header-bytes", size_bytes, header_bytes = 16 * KIB, "16KiB", 8 * KIB..=MIB;
    /// Bytes of a request body on the private API; more gets 413. At least 4/3 of the largest message, for base64
    "limit-api-body-bytes", size_bytes, api_body_bytes = 2 * MIB, "2MiB", KIB..=256 * MIB;
    /// Bytes of one call between hubs, a session's snapshot above all; more is refused and the session stays where it is
    "limit-peer-body-bytes", size_bytes, peer_body_bytes = 8 * MIB, "8MiB", 64 * KIB..=1024 * MIB;
    /// Bytes gathered for one connection before they are written
    "limit-write-buffer-bytes", size_bytes, write_buffer_bytes = 16 * KIB, "16KiB", 0..=MIB;
    /// Calls that wait for one session; when full the caller gets 503 with Retry-After
    "limit-session-calls", count, session_calls = 64, "64", 1..=100_000;
    /// Calls that wait for one session while it is frozen; when full the caller gets 503 with Retry-After
    "limit-frozen-calls", count, frozen_calls = 256, "256", 1..=100_000;
    /// Known hubs, seeds and learned ones together; further ones are ignored, with a warning
    "limit-peers", count, peers = 256, "256", 1..=4096;
    /// Calls that wait for one peer; when full that peer counts as unreachable for the call
    "limit-peer-queue", count, peer_queue = 1024, "1024", 1..=1_000_000;
    /// Calls under way to one peer at a time
    "limit-peer-calls", count, peer_calls = 64, "64", 1..=10_000;
    /// App events that wait for one session; when full the session's app socket is not read until one is taken
    "limit-app-events", count, app_events_per_session = 32, "32", 2..=10_000;
    /// App event posts under way at a time, over all sessions; further ones wait in their session's queue
    "limit-app-posts", count, app_posts = 64, "64", 1..=10_000;
    /// Sockets being dialled to the app at a time; further sessions wait their turn
    "limit-app-dials", count, app_dials = 128, "128", 1..=10_000;
    /// Inert copies held for other hubs; a further handover is refused, and the session stays where it is
    "limit-copies", count, copies = 19_000, "19000", 1..=10_000_000;
    /// Sessions gone elsewhere that are remembered; the oldest is forgotten first
    "limit-tombstones", count, tombstones = 50_000, "50000", 16..=10_000_000;
    /// Recent fleet-wide messages kept for sessions that arrive late; the oldest goes first, and who would have needed it gets a declared gap
    "limit-ring-messages", count, ring_messages = 1024, "1024", 1..=1_000_000;
    /// Bytes of such messages; the same policy
    "limit-ring-bytes", size_bytes, ring_bytes = 8 * MIB, "8MiB", 64 * KIB..=1024 * MIB;
    /// Idempotency keys remembered; the oldest is forgotten first
    "limit-idempotency-keys", count, idempotency_keys = 4096, "4096", 1..=1_000_000;
    /// Time for the TLS handshake of a connection
    "limit-tls-time", duration_ms, tls_ms = 5_000, "5s", 100..=60_000;
    /// Time for a request head to arrive
    "limit-header-time", duration_ms, header_ms = 5_000, "5s", 100..=60_000;
    /// Time that an HTTP connection may rest between two requests, on either listener
    "limit-idle-time", duration_ms, idle_ms = 75_000, "75s", 100..=3_600_000;
    /// Time for the body of a call on the private listener to arrive; then it is refused, and its connection closed
    "limit-body-time", duration_ms, body_ms = 10_000, "10s", 100..=600_000;
    /// Time from the upgrade to the client's hello; then the connection is closed
    "limit-hello-time", duration_ms, hello_ms = 5_000, "5s", 100..=60_000;
    /// Silence after which the hub sends a ping, to clients and to apps; three in a row without an answer close the connection, and an app is dialled again after three heartbeats without a byte
    "limit-heartbeat", duration_ms, heartbeat_ms = 25_000, "25s", 500..=3_600_000;
    /// Longest time that a taken message waits for its ack
    "limit-ack-time", duration_ms, ack_ms = 200, "200ms", 1..=10_000;
    /// Taken messages after which an ack is sent at once
    "limit-ack-messages", count, ack_messages = 32, "32", 1..=100_000;
    /// Time for a connection to take its last words and close
    "limit-close-time", duration_ms, close_ms = 2_000, "2s", 100..=60_000;
    /// Time in which the app must answer `moving` and close its socket; then its session moves with the state it had
    "limit-app-moving-time", duration_ms, app_moving_ms = 1_000, "1s", 10..=60_000;
    /// Before a session moves its app's socket is closed after so long without a message either way; 0: at once
    "limit-app-quiet", duration_ms, app_quiet_ms = 50, "50ms", 0..=60_000;
    /// Longest wait for such a quiet moment, and never longer than --limit-app-moving-time; then it is closed all the same
    "limit-app-quiet-wait", duration_ms, app_quiet_wait_ms = 1_000, "1s", 0..=60_000;
    /// Failed dials of the app in a row (also those whose socket ends within 5 s) after which a session's client is sent away with 1013 and a slot, and a newcomer told to retry
    "limit-app-redials", count, app_redials = 8, "8", 1..=1_000;
    /// Time without the app after which the same happens
    "limit-app-redial-time", duration_ms, app_redial_ms = 30_000, "30s", 100..=3_600_000;
    /// Time for one dial of the app
    "limit-app-dial-time", duration_ms, app_dial_ms = 5_000, "5s", 10..=60_000;
    /// Time for one post of an app event; then it is tried again
    "limit-app-event-time", duration_ms, app_event_ms = 5_000, "5s", 10..=60_000;
    /// Time for one call to a peer
    "limit-peer-call-time", duration_ms, peer_call_ms = 2_000, "2s", 50..=60_000;
    /// Time for all hubs to say whether they know a session
    "limit-locate-time", duration_ms, locate_ms = 500, "500ms", 10..=10_000;
    /// Longest freeze of a session at the first try; doubled per failed try
    "limit-freeze-time", duration_ms, freeze_ms = 250, "250ms", 10..=10_000;
    /// Longest freeze of a session at any try
    "limit-freeze-time-max", duration_ms, freeze_max_ms = 10_000, "10s", 10..=60_000;
    /// Time that an inert copy is kept without word from its owner
    "limit-copy-ttl", duration_ms, copy_ttl_ms = 120_000, "2m", 1_000..=86_400_000;
}

fn in_range(
    flag: &'static str,
    reader: &str,
    given: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, (&'static str, String, String)> {
    if range.contains(&given) {
        return Ok(given);
    }
    let unit = match reader {
        "size_bytes" => " bytes",
        "duration_ms" => "ms",
        _ => "",
    };
    let expected = format!("expected {}{unit} to {}{unit}", range.start(), range.end());
    Err((flag, format!("{given}{unit}"), expected))
}

impl Limits {
    /// Rules between limits. The error names the flag, the value and what would be right.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String, String)> {
        let message = self.message_bytes;
        let base64 = message.div_ceil(3) * 4;
        let rules = [
            ("limit-unacked-bytes", self.unacked_bytes, message, "at least --limit-message-bytes"),
            ("limit-api-body-bytes", self.api_body_bytes, base64, "at least 4/3 of --limit-message-bytes"),
            ("limit-ring-bytes", self.ring_bytes, message, "at least --limit-message-bytes"),
            ("limit-freeze-time-max", self.freeze_max_ms, self.freeze_ms, "at least --limit-freeze-time"),
        ];
        for (flag, given, least, why) in rules {
            if given < least {
                return Err((flag, given.to_string(), format!("expected {least} or more: {why}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_shown_in_the_help_is_the_default() {
        for (flag, shown, read, default) in TABLE {
            assert_eq!(read(shown), Ok(*default), "--{flag}");
        }
    }

    #[test]
    fn the_defaults_keep_their_own_rules() {
        let limits = LimitArgs::default().resolve().expect("defaults are in range");
        assert_eq!(limits, Limits::default());
        assert_eq!(limits.check(), Ok(()));
    }

    #[test]
    fn a_limit_out_of_range_names_the_range() {
        let args = LimitArgs { hello_ms: Some(5), ..LimitArgs::default() };
        let (flag, given, expected) = args.resolve().unwrap_err();
        assert_eq!((flag, given.as_str()), ("limit-hello-time", "5ms"));
        assert_eq!(expected, "expected 100ms to 60000ms");
    }

    #[test]
    fn the_unacked_bytes_must_hold_the_largest_message() {
        let limits = Limits { unacked_bytes: 1000, ..Limits::default() };
        let (flag, _, expected) = limits.check().unwrap_err();
        assert_eq!(flag, "limit-unacked-bytes");
        assert_eq!(expected, "expected 1048576 or more: at least --limit-message-bytes");
    }
}
