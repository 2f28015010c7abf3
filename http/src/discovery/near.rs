//! Sorting by distance.

use std::collections::HashMap;
use std::sync::Arc;

use lictor_catalog::{Coordinate, CoordinateEntry};

/// How far nodes are from one of them, in seconds of round-trip time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Distances {
    by_node: HashMap<String, f64>,
}

impl Distances {
    /// How far all are from `center`. `None` if nobody knows where that is.
    pub(super) fn new(center: &str, entries: &[Arc<CoordinateEntry>]) -> Option<Self> {
        let center = center.to_ascii_lowercase();
        // Only within the segment that every node is in do all distances mean something.
        let known = entries.iter().filter(|entry| entry.update.segment.is_empty());
        let known = known.map(|entry| (entry.update.node.to_ascii_lowercase(), entry.update.coordinate));
        let places: HashMap<String, Coordinate> = known.collect();
        let origin = *places.get(&center)?;
        let mut by_node: HashMap<String, f64> = places
            .into_iter()
            .map(|(node, place)| (node, origin.round_trip(&place)))
            .collect();
        by_node.insert(center, f64::NEG_INFINITY);
        Some(Self { by_node })
    }

    /// Sorts by the distance of each item's node; what is nowhere comes last, what is as far stays in order.
    pub(super) fn sort<T>(&self, items: &mut [T], node: impl Fn(&T) -> &str) {
        items.sort_by_cached_key(|item| {
            let distance = self.by_node.get(&node(item).to_ascii_lowercase()).copied();
            Distance(distance.unwrap_or(f64::INFINITY))
        });
    }
}

/// A number that is one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Distance(f64);

impl Eq for Distance {}

impl PartialOrd for Distance {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Distance {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use lictor_catalog::NodeCoordinate;
    use lictor_machine::Index;

    use super::*;

    fn entry(node: &str, segment: &str, at: f64, height: f64, adjustment: f64) -> Arc<CoordinateEntry> {
        let mut vector = [0.0; 8];
        vector[0] = at;
        Arc::new(CoordinateEntry {
            update: NodeCoordinate {
                node: node.to_owned(),
                segment: segment.to_owned(),
                coordinate: Coordinate::new(vector, 0.1, adjustment, height).unwrap(),
            },
            modify_index: Index(1),
        })
    }

    #[test]
    fn the_nearest_first_and_the_unknown_last() {
        let entries = [
            entry("A", "", 0.0, 0.5, 0.0),
            entry("b", "", 0.3, 0.0, 0.0),
            entry("c", "", 0.1, 0.0, 0.0),
            entry("d", "", 0.2, 0.0, -0.15),
            entry("e", "x", 0.0, 0.0, 0.0),
        ];
        let mut nodes = ["none", "b", "e", "C", "a", "d"];
        let distances = Distances::new("a", &entries).unwrap();
        distances.sort(&mut nodes, |node| node);
        assert_eq!(nodes, ["a", "d", "C", "b", "none", "e"]);
        assert_eq!(Distances::new("none", &entries), None);
        assert_eq!(Distances::new("e", &entries), None);
    }

    #[test]
    fn an_adjustment_never_makes_a_distance_negative() {
        let a = entry("a", "", 0.0, 0.0, -5.0).update.coordinate;
        let b = entry("b", "", 3.0, 1.0, 0.0).update.coordinate;
        assert!((a.round_trip(&b) - 4.0).abs() < 1e-9);
    }
}
