//! The request headers that a session keeps for its app: lines of text in one allocation, and none at all
//! while there are none. A map of strings would cost a session behind an app more than its connection does.

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Headers by lower-case name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Headers {
    /// `name:value` and a line break each: neither can have a break, and a name has no colon.
    lines: Box<str>,
}

impl Headers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All of them, as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.lines().filter_map(|line| line.split_once(':'))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(one, value)| (one == name).then_some(value))
    }
}

fn may_stand(name: &str, value: &str) -> bool {
    let breaks = |text: &str| text.contains(['\r', '\n']);
    !name.is_empty() && !name.contains(':') && !breaks(name) && !breaks(value)
}

/// What could not be a header (an empty name, a line break) is left out.
impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        let all: Vec<(N, V)> = all.into_iter().collect();
        let sorted: BTreeMap<&str, &str> = all.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        let mut lines = String::new();
        for (name, value) in sorted {
            if may_stand(name, value) {
                lines.extend([name, ":", value, "\n"]);
            }
        }
        Self { lines: lines.into_boxed_str() }
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(from)?;
        match map.iter().find(|(name, value)| !may_stand(name, value)) {
            Some((name, _)) => Err(D::Error::custom(format!("{name:?} is no header: an empty name or a line break"))),
            None => Ok(map.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_name_and_come_in_order() {
        let headers: Headers = [("origin", "https://a:8080"), ("cookie", "a=b; c=d"), ("x", "")].into_iter().collect();
        assert_eq!(headers.get("origin"), Some("https://a:8080"), "a value may have colons");
        assert_eq!(headers.get("x"), Some(""));
        assert_eq!(headers.get("cooki"), None);
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["cookie", "origin", "x"]);
    }

    #[test]
    fn they_travel_as_an_object() {
        let headers: Headers = [("b", "2"), ("a", "1")].into_iter().collect();
        let json = serde_json::to_string(&headers).expect("plain");
        assert_eq!(json, r#"{"a":"1","b":"2"}"#);
        assert_eq!(serde_json::from_str::<Headers>(&json).expect("an object"), headers);
    }

    #[test]
    fn what_is_no_header_is_left_out_and_refused_from_others() {
        let headers: Headers = [("a", "1\nb:2"), ("", "x"), ("ok", "yes")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("ok", "yes")]);
        assert!(serde_json::from_str::<Headers>(r#"{"a":"1\nb:2"}"#).is_err());
    }
}
