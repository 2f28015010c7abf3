//! Where nodes are in the network, as they say: the table of coordinates.
//!
//! A node's name counts in any letter case of ASCII, and is kept as its last update spelled it.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use lictor_machine::Index;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::bounded;
use crate::command::Key;
use crate::edit::Edit;
use crate::row::Table;

/// The number of dimensions of a coordinate's vector.
pub const COORDINATE_DIMENSIONS: usize = 8;

/// The most updates in one command.
pub const MAX_COORDINATE_UPDATES: usize = 1024;

/// The longest name of a node, and of a segment, in a coordinate's update, in bytes.
pub const MAX_COORDINATE_NAME_BYTES: usize = 128;

/// The largest error that a coordinate may have.
const ERROR_MAX: f64 = 1.5;

/// No number of a coordinate is further from 0, in seconds. Far beyond any network, and small enough that no sum or square of such
/// numbers is infinite.
const SECONDS_MAX: f64 = 1e6;

/// A position in the network: the distance of two is an estimate of the round-trip time between them. Every number is in seconds,
/// finite, and within sane bounds; there is no negative zero, so equal coordinates have equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawCoordinate")]
pub struct Coordinate {
    vector: [f64; COORDINATE_DIMENSIONS],
    error: f64,
    adjustment: f64,
    height: f64,
}

/// Every number is finite, so equality is one.
impl Eq for Coordinate {}

/// What a coordinate is before it was checked.
#[derive(Deserialize)]
struct RawCoordinate {
    vector: [f64; COORDINATE_DIMENSIONS],
    error: f64,
    adjustment: f64,
    height: f64,
}

/// Numbers that are not a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid coordinate")]
pub struct InvalidCoordinate;

impl Coordinate {
    /// Refuses numbers that are not finite or out of bounds: none may be beyond a million seconds, the error must be in 0 to 1.5, and
    /// the height not negative.
    pub fn new(
        vector: [f64; COORDINATE_DIMENSIONS],
        error: f64,
        adjustment: f64,
        height: f64,
    ) -> Result<Self, InvalidCoordinate> {
        // Comparisons with what is not a number are false.
        let bounded = |number: f64| number.abs() <= SECONDS_MAX;
        let valid = vector.into_iter().all(bounded)
            && (0.0..=ERROR_MAX).contains(&error)
            && bounded(adjustment)
            && (0.0..=SECONDS_MAX).contains(&height);
        if !valid {
            return Err(InvalidCoordinate);
        }
        // Adding 0 turns a negative zero into a positive one, and nothing else into anything else.
        Ok(Self {
            vector: vector.map(|number| number + 0.0),
            error: error + 0.0,
            adjustment: adjustment + 0.0,
            height: height + 0.0,
        })
    }

    /// The Euclidean part.
    pub const fn vector(&self) -> &[f64; COORDINATE_DIMENSIONS] {
        &self.vector
    }

    /// How uncertain it is.
    pub const fn error(&self) -> f64 {
        self.error
    }

    /// The offset that corrects for what the Euclidean part cannot express.
    pub const fn adjustment(&self) -> f64 {
        self.adjustment
    }

    /// The access link's part.
    pub const fn height(&self) -> f64 {
        self.height
    }

    /// The estimated round-trip time to `other` in seconds (Dabek et al., with the adjustment of Lee et al.).
    pub fn round_trip(&self, other: &Self) -> f64 {
        let squares = self
            .vector
            .iter()
            .zip(&other.vector)
            .map(|(a, b)| (a - b) * (a - b));
        let raw = squares.sum::<f64>().sqrt() + self.height + other.height;
        let adjusted = raw + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }
}

impl TryFrom<RawCoordinate> for Coordinate {
    type Error = InvalidCoordinate;

    fn try_from(raw: RawCoordinate) -> Result<Self, InvalidCoordinate> {
        Self::new(raw.vector, raw.error, raw.adjustment, raw.height)
    }
}

/// Where a node is, as one of the network's segments has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCoordinate {
    /// The node's name: at least one byte and at most [`MAX_COORDINATE_NAME_BYTES`], none of them 0.
    pub node: String,
    /// The segment's name; that of the one which every node is in is empty. At most as long.
    pub segment: String,
    /// Where.
    pub coordinate: Coordinate,
}

impl NodeCoordinate {
    /// Whether its names are ones; the error is a text for whoever sent them.
    pub fn check(&self) -> Result<(), String> {
        for (what, name, least) in [("node", &self.node, 1), ("segment", &self.segment, 0)] {
            if name.len() < least || name.len() > MAX_COORDINATE_NAME_BYTES {
                return Err(format!(
                    "invalid coordinate: the name of its {what} has {} bytes, and must have {least} to \
                     {MAX_COORDINATE_NAME_BYTES}",
                    name.len()
                ));
            }
            if name.as_bytes().contains(&END) {
                return Err(format!(
                    "invalid coordinate: the name of its {what} has a zero byte in it"
                ));
            }
        }
        Ok(())
    }
}

/// A row of the table: a node's coordinate, and when it last changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinateEntry {
    /// Whose it is, and what.
    pub update: NodeCoordinate,
    /// The index that last changed it.
    pub modify_index: Index,
}

/// What a row of a node's coordinate in a segment is named.
pub(crate) fn place(node: &str, segment: &str) -> Key {
    let mut place = folded(node).into_bytes();
    place.push(END);
    place.extend_from_slice(segment.as_bytes());
    Key::from(place)
}

/// The node's part of a row's name, without what ends it.
pub(crate) fn node_of(place: &Key) -> Key {
    let end = place.iter().position(|byte| *byte == END);
    place.slice(..end.unwrap_or(place.len()))
}

/// The name of a node in the form that names are compared in.
pub(crate) fn folded(node: &str) -> String {
    node.to_ascii_lowercase()
}

/// Ends a node's name within a row's; no name has it inside.
const END: u8 = 0;

/// The coordinates. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Coordinates {
    /// By the names of their rows.
    pub(crate) entries: OrdMap<Key, Arc<CoordinateEntry>>,
    /// The last index that changed any of them. Removals count.
    pub(crate) index: Index,
}

impl Coordinates {
    /// Takes updates over. Those that change nothing touch nothing. On an error nothing was changed.
    pub(crate) fn update(&mut self, edit: &mut Edit, updates: &[NodeCoordinate]) -> Result<(), String> {
        updates.iter().try_for_each(NodeCoordinate::check)?;
        for update in updates {
            let place = place(&update.node, &update.segment);
            if self
                .entries
                .get(&place)
                .is_some_and(|entry| entry.update == *update)
            {
                continue;
            }
            let entry = CoordinateEntry {
                update: update.clone(),
                modify_index: edit.index,
            };
            self.entries.insert(place.clone(), Arc::new(entry));
            self.index = edit.index;
            edit.changed(Table::Coordinates, place);
        }
        Ok(())
    }

    /// Forgets everything about these nodes.
    pub(crate) fn forget(&mut self, edit: &mut Edit, nodes: &[String]) {
        for node in nodes {
            let start = place(node, "");
            let doomed: Vec<Key> = self.under(&start).map(|(place, _)| place.clone()).collect();
            for place in doomed {
                self.entries.remove(&place);
                self.index = edit.index;
                edit.changed(Table::Coordinates, place);
            }
        }
    }

    /// All entries, in order of node and segment, and the table's index.
    pub(crate) fn all(&self) -> (Index, Vec<Arc<CoordinateEntry>>) {
        (self.index, self.entries.values().cloned().collect())
    }

    /// One node's entries, by segment, and their index; the table's if there are none.
    pub(crate) fn of_node(&self, node: &str) -> (Index, Vec<Arc<CoordinateEntry>>) {
        let start = place(node, "");
        let entries: Vec<_> = self.under(&start).map(|(_, entry)| Arc::clone(entry)).collect();
        let latest = entries.iter().map(|entry| entry.modify_index).max();
        (latest.unwrap_or(self.index), entries)
    }

    fn under<'a>(&'a self, start: &'a [u8]) -> impl Iterator<Item = (&'a Key, &'a Arc<CoordinateEntry>)> {
        self.entries
            .range::<_, [u8]>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(place, _)| place.starts_with(start))
    }
}

/// Reads a command's updates without trusting the number that they claim to be.
pub(crate) fn bounded_updates<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<NodeCoordinate>, D::Error> {
    bounded(deserializer, MAX_COORDINATE_UPDATES, "updates of coordinates")
}

/// Reads a command's names without trusting the number that they claim to be.
pub(crate) fn bounded_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    bounded(deserializer, MAX_COORDINATE_UPDATES, "names")
}
