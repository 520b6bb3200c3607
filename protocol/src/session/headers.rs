//! The request headers that a session keeps for its app: lines in one allocation, and none at all
//! while there are none. A map of strings would cost a session behind an app more than its connection does.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Headers by lower-case name, in the order of their names; those of one name in the order in which they came.
/// Values are bytes, as HTTP has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Headers {
    /// `name:value` and a line break each: neither can have a break, and a name has no colon.
    lines: Box<[u8]>,
}

impl Headers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All of them, as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let lines = self.lines.split(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
        })
    }

    /// The first value of one.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(one, value)| (one == name).then_some(value))
    }

    /// Whether the object of names and values, which every release reads, says all of it.
    fn fits_an_object(&self) -> bool {
        let mut before = None;
        self.iter().all(|(name, value)| before.replace(name) != Some(name) && value.is_ascii())
    }
}

fn may_stand(name: &str, value: &[u8]) -> bool {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    !name.is_empty() && !name.contains(':') && !name.as_bytes().iter().any(is_break) && !value.iter().any(is_break)
}

/// What could not be a header (an empty name, a line break) is left out.
impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        let mut all: Vec<(N, V)> = all.into_iter().collect();
        // Stable: those of one name stay in their order.
        all.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        let mut lines = Vec::new();
        for (name, value) in &all {
            if may_stand(name.as_ref(), value.as_ref()) {
                for part in [name.as_ref().as_bytes(), b":", value.as_ref(), b"\n"] {
                    lines.extend_from_slice(part);
                }
            }
        }
        Self { lines: lines.into_boxed_slice() }
    }
}

/// Two entries of the profile: `headers`, an object as every release reads it (the first value of each name, if
/// it is ASCII), and, where that does not say all, `header_lines`: every line, in order, each byte a character.
impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        if !self.is_empty() {
            let mut firsts = BTreeMap::new();
            for (name, value) in self.iter() {
                firsts.entry(name).or_insert(value);
            }
            let plain = |(name, value)| Some((name, std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?));
            let object: BTreeMap<&str, &str> = firsts.into_iter().filter_map(plain).collect();
            if !object.is_empty() {
                map.serialize_entry("headers", &object)?;
            }
        }
        if !self.fits_an_object() {
            let lines: Vec<(&str, String)> =
                self.iter().map(|(name, value)| (name, value.iter().copied().map(char::from).collect())).collect();
            map.serialize_entry("header_lines", &lines)?;
        }
        map.end()
    }
}

/// The two entries as they are read.
#[derive(Debug)]
pub(super) struct Entries {
    headers: BTreeMap<String, String>,
    header_lines: Vec<(String, String)>,
}

impl Entries {
    /// From what the profile has of them.
    pub(super) fn new(headers: BTreeMap<String, String>, header_lines: Vec<(String, String)>) -> Self {
        Self { headers, header_lines }
    }
}

impl TryFrom<Entries> for Headers {
    type Error = String;

    fn try_from(Entries { headers, header_lines }: Entries) -> Result<Self, String> {
        let bytes = |text: &str| text.chars().map(|char| u8::try_from(char).ok()).collect::<Option<Vec<u8>>>();
        let mut all = Vec::new();
        for (name, value) in header_lines {
            let value =
                bytes(&value).ok_or_else(|| format!("the value of the header {name:?} is not made of bytes"))?;
            all.push((name, value));
        }
        if all.is_empty() {
            all.extend(headers.into_iter().map(|(name, value)| (name, value.into_bytes())));
        }
        match all.iter().find(|(name, value)| !may_stand(name, value)) {
            Some((name, _)) => Err(format!("{name:?} is no header: an empty name or a line break")),
            None => Ok(all.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::Profile;

    fn travels(headers: Headers) -> String {
        let profile = Profile { headers, ..Profile::default() };
        let json = serde_json::to_string(&profile).expect("plain");
        assert_eq!(serde_json::from_str::<Profile>(&json).expect("a profile"), profile);
        json
    }

    #[test]
    fn headers_are_found_by_name_and_come_in_order() {
        let headers: Headers = [("origin", "https://a:8080"), ("cookie", "a=b; c=d"), ("x", "")].into_iter().collect();
        assert_eq!(headers.get("origin"), Some(&b"https://a:8080"[..]), "a value may have colons");
        assert_eq!(headers.get("x"), Some(&b""[..]));
        assert_eq!(headers.get("cooki"), None);
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["cookie", "origin", "x"]);
    }

    #[test]
    fn they_travel_as_an_object_that_earlier_releases_read() {
        assert_eq!(travels([("b", "2"), ("a", "1")].into_iter().collect()), r#"{"headers":{"a":"1","b":"2"}}"#);
        assert_eq!(travels(Headers::default()), "{}");
    }

    #[test]
    fn repeated_ones_keep_all_values_in_order_and_earlier_releases_read_the_first() {
        let headers: Headers = [("cookie", "b=2"), ("a", "1"), ("cookie", "a=1")].into_iter().collect();
        let values: Vec<_> = headers.iter().filter(|(name, _)| *name == "cookie").map(|(_, value)| value).collect();
        assert_eq!(values, [b"b=2", b"a=1"]);
        let json = travels(headers);
        let expected =
            r#"{"headers":{"a":"1","cookie":"b=2"},"header_lines":[["a","1"],["cookie","b=2"],["cookie","a=1"]]}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn values_are_bytes_and_stay_so() {
        let bytes: Vec<u8> = (0..=255).filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let headers: Headers = [("x", bytes.as_slice()), ("y", b"plain")].into_iter().collect();
        assert_eq!(headers.get("x"), Some(bytes.as_slice()));
        assert!(travels(headers).starts_with(r#"{"headers":{"y":"plain"},"header_lines":[["x","#));
    }

    #[test]
    fn what_is_no_header_is_left_out_and_refused_from_others() {
        let headers: Headers = [("a", "1\nb:2"), ("", "x"), ("ok", "yes")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("ok", &b"yes"[..])]);
        for wrong in [
            r#"{"headers":{"a":"1\nb:2"}}"#,
            r#"{"header_lines":[["","1"]]}"#,
            r#"{"header_lines":[["a","1\r"]]}"#,
            r#"{"header_lines":[["a","€"]]}"#,
        ] {
            assert!(serde_json::from_str::<Profile>(wrong).is_err(), "{wrong}");
        }
    }
}
