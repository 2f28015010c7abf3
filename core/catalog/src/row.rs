//! The catalog as rows: how it goes to disk and to servers that lag behind.

use bytes::Bytes;
use lictor_machine::Index;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::autopilot::{AUTOPILOT, Autopilot};
use crate::command::Key;
use crate::coordinate::{CoordinateEntry, NodeCoordinate, place};
use crate::kv::{Holder, KvEntry};
use crate::locks::LockDelay;
use crate::quote::quote;
use crate::restore::Lineage;
use crate::session::{MAX_LOCK_DELAY, SessionId};

/// A kind of row. The numbers are on disk and on the wire: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Table {
    /// Entries of the key-value store, by key.
    Kv = 1,
    /// Tombstones, by the key or the prefix that was deleted.
    KvTombstones = 2,
    /// Counters of the catalog, such as the highest index of each table, by name.
    Meta = 3,
    /// What operators set for the whole data center, by name.
    Settings = 4,
    /// Where nodes are, by node and segment.
    Coordinates = 5,
    /// Nodes, by name.
    Nodes = 6,
    /// Instances of services, by node and id.
    Services = 7,
    /// Checks, by node and id.
    Checks = 8,
    /// When the answers to questions about one node or service last changed, by what they are about.
    Marks = 9,
    /// Sessions, by id.
    Sessions = 10,
    /// When a session last came to a node or went, by the node's name.
    SessionMarks = 11,
    /// Locks that are kept from everybody, by key.
    LockDelays = 12,
    /// Answers to changes under idempotency keys, by the key's hash.
    Receipts = 13,
    /// Prepared queries, by id.
    PreparedQueries = 14,
    /// What has come of an archive that is being restored, in order.
    Staged = 32,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 15] = [
        Self::Kv,
        Self::KvTombstones,
        Self::Meta,
        Self::Settings,
        Self::Coordinates,
        Self::Nodes,
        Self::Services,
        Self::Checks,
        Self::Marks,
        Self::Sessions,
        Self::SessionMarks,
        Self::LockDelays,
        Self::Receipts,
        Self::PreparedQueries,
        Self::Staged,
    ];

    /// The table with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// The name of the row in [`Table::Meta`] that holds the index of this table, if it has one of its own.
    pub(crate) const fn counter(self) -> Option<&'static [u8]> {
        match self {
            Self::Kv => Some(KV_INDEX),
            Self::Coordinates => Some(COORDINATES_INDEX),
            Self::Nodes | Self::Services | Self::Checks | Self::Marks => Some(DISCOVERY_INDEXES),
            Self::Sessions | Self::SessionMarks => Some(SESSIONS_INDEX),
            Self::PreparedQueries => Some(PREPARED_INDEX),
            Self::KvTombstones
            | Self::Meta
            | Self::Settings
            | Self::LockDelays
            | Self::Receipts
            | Self::Staged => None,
        }
    }
}

/// One object of the catalog as bytes. Storage keeps rows and knows nothing of what they mean.
///
/// A value starts with a byte for its format; what follows is postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its kind.
    pub table: Table,
    /// Its name within the table.
    pub key: Bytes,
    /// The object; `None` removes the row.
    pub value: Option<Bytes>,
}

/// The name of the row in [`Table::Meta`] that holds the index of the key-value table.
pub(crate) const KV_INDEX: &[u8] = b"kv-index";

/// The same for the table of coordinates.
pub(crate) const COORDINATES_INDEX: &[u8] = b"coordinates-index";

/// The name of the row in [`Table::Meta`] that holds the indexes of the tables of nodes, services and checks.
pub(crate) const DISCOVERY_INDEXES: &[u8] = b"discovery-indexes";

/// The name of the row in [`Table::Meta`] that holds the index of the table of sessions.
pub(crate) const SESSIONS_INDEX: &[u8] = b"sessions-index";

/// The name of the row in [`Table::Meta`] that holds the index of the table of prepared queries.
pub(crate) const PREPARED_INDEX: &[u8] = b"prepared-index";

/// The name of the row in [`Table::Meta`] that says which archive this state was restored from.
pub(crate) const LINEAGE: &[u8] = b"lineage";

/// The name of the row in [`Table::Meta`] that holds the highest fence that was ever given out.
pub(crate) const FENCE: &[u8] = b"fence";

/// The format that row values are written in.
pub(crate) const VERSION: u8 = 1;

/// The value of a row in [`Table::Kv`].
#[derive(Serialize, Deserialize)]
struct KvValue {
    flags: u64,
    lock_index: u64,
    holder: Option<Holder>,
    create_index: Index,
    modify_index: Index,
    value: Bytes,
}

/// Why a row's value cannot be read.
#[derive(Debug)]
pub(crate) enum ValueError {
    NewerFormat(u8),
    Damaged(String),
}

impl Row {
    /// About how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        const FIXED: usize = 8;
        FIXED + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    pub(crate) const fn removal(table: Table, key: Key) -> Self {
        Self {
            table,
            key,
            value: None,
        }
    }

    pub(crate) fn of_entry(entry: &KvEntry) -> Self {
        let value = KvValue {
            flags: entry.flags,
            lock_index: entry.lock_index,
            holder: entry.holder.clone(),
            create_index: entry.create_index,
            modify_index: entry.modify_index,
            value: entry.value.clone(),
        };
        Self {
            table: Table::Kv,
            key: entry.key.clone(),
            value: Some(encode(&value, entry.value.len())),
        }
    }

    pub(crate) fn of_tombstone(key: Key, index: Index) -> Self {
        Self {
            table: Table::KvTombstones,
            key,
            value: Some(encode(&index, 0)),
        }
    }

    pub(crate) fn of_lineage(lineage: &Lineage) -> Self {
        Self {
            table: Table::Meta,
            key: Key::from_static(LINEAGE),
            value: Some(encode(lineage, 0)),
        }
    }

    pub(crate) fn of_lock_delay(key: Key, delay: LockDelay) -> Self {
        Self {
            table: Table::LockDelays,
            key,
            value: Some(encode(&delay, 0)),
        }
    }

    pub(crate) fn of_counter(name: &'static [u8], index: Index) -> Self {
        Self {
            table: Table::Meta,
            key: Key::from_static(name),
            value: Some(encode(&index, 0)),
        }
    }

    pub(crate) fn of_autopilot(autopilot: &Autopilot) -> Self {
        Self {
            table: Table::Settings,
            key: Key::from_static(AUTOPILOT),
            value: Some(encode(autopilot, 64)),
        }
    }

    pub(crate) fn of_coordinate(key: Key, entry: &CoordinateEntry) -> Self {
        Self {
            table: Table::Coordinates,
            key,
            value: Some(encode(entry, 128)),
        }
    }
}

/// The entry with `key` whose row holds `value`.
pub(crate) fn decode_entry(key: Key, value: &[u8]) -> Result<KvEntry, ValueError> {
    let KvValue {
        flags,
        lock_index,
        holder,
        create_index,
        modify_index,
        value,
    } = decode(value)?;
    check_indexes(create_index, modify_index)?;
    if let Some(Holder { session, fence }) = &holder
        && (SessionId::of_holder(session).is_none() || *fence == 0)
    {
        return Err(ValueError::Damaged(format!(
            "locked by the session {} with the fence {fence}",
            quote(session.as_bytes())
        )));
    }
    Ok(KvEntry {
        key,
        value,
        flags,
        lock_index,
        holder,
        create_index,
        modify_index,
    })
}

/// The index that the row of a tombstone or counter holds as `value`.
pub(crate) fn decode_index(value: &[u8]) -> Result<Index, ValueError> {
    match decode(value)? {
        Index::ZERO => Err(ValueError::Damaged("its index is 0".to_owned())),
        index => Ok(index),
    }
}

/// The delay that the row of a key's lock holds.
pub(crate) fn decode_lock_delay(value: &[u8]) -> Result<LockDelay, ValueError> {
    let delay: LockDelay = decode(value)?;
    check_indexes(delay.since, delay.since)?;
    if delay.delay > MAX_LOCK_DELAY {
        let delay = delay.delay;
        return Err(ValueError::Damaged(format!("it is {delay:?} long")));
    }
    Ok(delay)
}

/// The settings that the row of autopilot holds.
pub(crate) fn decode_autopilot(value: &[u8]) -> Result<Autopilot, ValueError> {
    let autopilot: Autopilot = decode(value)?;
    check_indexes(autopilot.create_index, autopilot.modify_index)?;
    autopilot.config.check().map_err(ValueError::Damaged)?;
    Ok(autopilot)
}

/// The coordinate in the row with `key`.
pub(crate) fn decode_coordinate(key: &Key, value: &[u8]) -> Result<CoordinateEntry, ValueError> {
    let entry: CoordinateEntry = decode(value)?;
    check_indexes(entry.modify_index, entry.modify_index)?;
    let NodeCoordinate { node, segment, .. } = &entry.update;
    entry.update.check().map_err(ValueError::Damaged)?;
    if place(node, segment) != *key {
        let node = quote(node.as_bytes());
        return Err(ValueError::Damaged(format!("it is that of another node, {node}")));
    }
    Ok(entry)
}

pub(crate) fn check_indexes(create: Index, modify: Index) -> Result<(), ValueError> {
    if create == Index::ZERO || create > modify {
        let detail = format!("created at index {create} and changed at {modify}");
        return Err(ValueError::Damaged(detail));
    }
    Ok(())
}

pub(crate) fn encode<T: Serialize>(object: &T, payload_len: usize) -> Bytes {
    // The largest row but for its payload and session: five numbers of up to ten bytes each.
    const FIXED: usize = 51;
    let mut start = Vec::with_capacity(FIXED + payload_len);
    start.push(VERSION);
    let encoded = postcard::to_extend(object, start);
    Bytes::from(encoded.expect("rows hold nothing that postcard refuses, and a Vec takes all bytes"))
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, ValueError> {
    let damaged = |detail: &str| Err(ValueError::Damaged(detail.to_owned()));
    match value.split_first() {
        None => damaged("it is empty"),
        Some((0, _)) => damaged("its format is 0, which never existed"),
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((object, [])) => Ok(object),
            Ok((_, rest)) => damaged(&format!("{} bytes are left over at its end", rest.len())),
            Err(error) => damaged(&error.to_string()),
        },
        Some((found, _)) => Err(ValueError::NewerFormat(*found)),
    }
}
