//! The channels of one session: sorted names in one small allocation, and none at all while there are none.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// A set of names. The names themselves may be shared with whoever else knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Channels(Box<[Arc<str>]>);

impl Channels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    /// Adds one; false if it was there. Sets are small and change rarely, so the whole of it is made anew.
    pub fn insert(&mut self, name: Arc<str>) -> bool {
        let Err(at) = self.find(&name) else { return false };
        let mut names = std::mem::take(&mut self.0).into_vec();
        names.reserve_exact(1);
        names.insert(at, name);
        self.0 = names.into_boxed_slice();
        true
    }

    /// Removes one; false if it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Ok(at) = self.find(name) else { return false };
        let mut names = std::mem::take(&mut self.0).into_vec();
        names.remove(at);
        self.0 = names.into_boxed_slice();
        true
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|one| (**one).cmp(name))
    }
}

impl FromIterator<Arc<str>> for Channels {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        let mut names: Vec<Arc<str>> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_boxed_slice())
    }
}

impl Serialize for Channels {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Channels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::<Arc<str>>::deserialize(from).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Channels {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_name_is_in_it_once_and_in_order() {
        let mut channels = of(&["b", "a", "b"]);
        assert!(channels.insert("aa".into()));
        assert!(!channels.insert("b".into()), "it was there");
        assert_eq!(channels, of(&["a", "aa", "b"]));
        assert!(channels.contains("aa") && !channels.contains("c"));
        assert!(channels.remove("a") && !channels.remove("a"));
        assert_eq!(channels.iter().map(|name| &**name).collect::<Vec<_>>(), ["aa", "b"]);
    }

    #[test]
    fn it_travels_as_a_list() {
        assert_eq!(serde_json::to_string(&of(&["b", "a"])).expect("plain"), r#"["a","b"]"#);
        let read: Channels = serde_json::from_str(r#"["b","a","a"]"#).expect("a list");
        assert_eq!(read, of(&["a", "b"]));
    }

    #[test]
    fn it_is_two_words() {
        assert_eq!(size_of::<Channels>(), 16);
    }
}
