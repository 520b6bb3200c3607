//! Names of things, as types. Ids may go to logs; the one secret ([`ResumeToken`]) shows nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a text is not an id: it is not the fixed number of lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError {
    /// The text that was given.
    pub given: String,
    /// How many hexadecimal digits it should have had.
    pub digits: usize,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not an id: expected {} lower-case hexadecimal digits", self.given, self.digits)
    }
}

impl std::error::Error for IdError {}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", stringify!($digits), "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if text.len() != $digits || !text.bytes().all(hex) {
                    return Err(IdError { given: text.chars().take(80).collect(), digits: $digits });
                }
                <$int>::from_str_radix(text, 16)
                    .map(Self)
                    .map_err(|_| IdError { given: text.to_owned(), digits: $digits })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A session: outlives connections and hubs. 32 hexadecimal digits, chosen at random by the hub.
    SessionId, u128, 32
);
hex_id!(
    /// A hub: kept in its data directory, so it survives restarts. 16 hexadecimal digits.
    HubId, u64, 16
);
hex_id!(
    /// One run of a hub process; a later run of the same hub has a higher one. 16 hexadecimal digits.
    Incarnation, u64, 16
);
hex_id!(
    /// One drain of one hub. 16 hexadecimal digits.
    DrainId, u64, 16
);

/// One connection of one hub process; never leaves that process except in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnectionId(pub u64);

/// The secret with which a client comes back. Its `Debug` shows nothing, so that it cannot reach a log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResumeToken(pub String);

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_fixed_width_hex_and_reads_back() {
        let id = SessionId(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
    }

    #[test]
    fn an_id_of_the_wrong_length_or_alphabet_names_the_value_and_what_would_be_right() {
        let error = "XYZ".parse::<HubId>().unwrap_err();
        assert_eq!(error.to_string(), "\"XYZ\" is not an id: expected 16 lower-case hexadecimal digits");
        assert!("ABCDEFABCDEFABCD".parse::<HubId>().is_err());
    }

    #[test]
    fn a_resume_token_never_shows_in_debug_output() {
        assert!(!format!("{:?}", ResumeToken("secret".into())).contains("secret"));
    }
}
