//! Small sorted maps from names to values, which many objects can share.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::defs::Text;
use super::registration::MAX_LABELS;
use crate::codec::bounded;

/// Values by name, in byte order of the names, each name once. A clone shares everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels<V = Text>(Arc<[(Text, V)]>);

impl<V> Labels<V> {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&V> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &V)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V> Default for Labels<V> {
    /// None.
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl<V, N: Into<Text>> FromIterator<(N, V)> for Labels<V> {
    /// In any order; of several values for one name the last counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Text, V)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect();
        // Stable, so the last of equal names is the last of its run.
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(pairs.into())
    }
}

impl<V: fmt::Debug> fmt::Debug for Labels<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V: Serialize> Serialize for Labels<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Labels<V> {
    /// At most [`MAX_LABELS`], in any order.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Vec<(Text, V)> = bounded(deserializer, MAX_LABELS, "labels")?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_sorted_and_the_last_of_a_name_counts() {
        let labels: Labels<u8> = [("b", 1), ("a", 2), ("b", 3), ("", 4), ("b", 5)]
            .into_iter()
            .collect();
        let pairs: Vec<_> = labels.iter().map(|(name, value)| (&**name, *value)).collect();
        assert_eq!(pairs, [("", 4), ("a", 2), ("b", 5)]);
        assert_eq!((labels.get("b"), labels.get("c")), (Some(&5), None));
        assert_eq!((labels.len(), labels.is_empty()), (3, false));
        assert!(Labels::<u8>::default().is_empty());
        assert_eq!(format!("{labels:?}"), r#"{"": 4, "a": 2, "b": 5}"#);
    }

    #[test]
    fn what_is_read_is_put_in_order_and_bounded() {
        let unsorted = postcard::to_allocvec(&[("b", 1_u8), ("a", 2), ("b", 3)][..]).unwrap();
        let labels: Labels<u8> = postcard::from_bytes(&unsorted).unwrap();
        assert_eq!(labels, [("a", 2), ("b", 3)].into_iter().collect());
        let many = |count: usize| {
            let pairs: Vec<_> = (0..count).map(|number| (number.to_string(), 0_u8)).collect();
            postcard::from_bytes::<Labels<u8>>(&postcard::to_allocvec(&pairs).unwrap())
        };
        assert_eq!(many(MAX_LABELS).unwrap().len(), MAX_LABELS);
        assert!(many(MAX_LABELS + 1).is_err());
    }
}
