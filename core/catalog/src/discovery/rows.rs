//! Nodes, services and checks as rows, and back.
//!
//! What one row can tell is in no other: a check's row does not repeat the name of its node or of its service.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use lictor_machine::Index;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::defs::{CheckDef, NodeDef, ServiceDef, Text};
use super::groups::{GroupIndexes, Kind};
use super::marks::{self, CONNECT, HOST, SERVICE, Subject};
use super::records::{CheckRecord, NodeRecord, ServiceRecord};
use super::store::{Discovery, Host, HostIndexes, TableIndexes, check_record, place};
use super::validation::{self, END};
use crate::command::Key;
use crate::coordinate::folded;
use crate::quote::quote;
use crate::row::{DISCOVERY_INDEXES, Row, Table, ValueError, check_indexes, decode, encode};

/// The value of a row of any object.
#[derive(Debug, Serialize, Deserialize)]
struct Value<D> {
    def: D,
    create_index: Index,
    modify_index: Index,
}

impl Discovery {
    /// The object at this place as a row; `None` if there is none.
    pub(crate) fn row(&self, table: Table, key: &Key) -> Option<Row> {
        let on_host = || {
            let (at, id) = split(key)?;
            Some((self.hosts.get(at)?, id))
        };
        match table {
            Table::Nodes => self.hosts.get(key).map(|host| node_row(key.clone(), host)),
            Table::Services => {
                let (host, id) = on_host()?;
                host.service(id).map(|service| service_row(key.clone(), service))
            }
            Table::Checks => {
                let (host, id) = on_host()?;
                host.check(id).map(|check| check_row(key.clone(), check))
            }
            Table::Marks => match Subject::of(key)? {
                Subject::Host(at) => {
                    let host = self.hosts.get(&at)?;
                    Some(marks::host_row(key.clone(), host.indexes))
                }
                Subject::Group(kind, name) => {
                    let group = self.groups(kind).by_name.get(&name)?;
                    Some(marks::group_row(key.clone(), group))
                }
            },
            Table::Kv
            | Table::KvTombstones
            | Table::Meta
            | Table::Settings
            | Table::Coordinates
            | Table::Sessions
            | Table::SessionMarks
            | Table::LockDelays
            | Table::Receipts
            | Table::PreparedQueries
            | Table::Staged => None,
        }
    }

    /// The row of the tables' indexes, if anything ever was in them.
    pub(crate) fn counter(&self) -> Option<Row> {
        (self.indexes != TableIndexes::default()).then(|| Row {
            table: Table::Meta,
            key: Key::from_static(DISCOVERY_INDEXES),
            value: Some(encode(&self.indexes, 0)),
        })
    }

    /// The rows of nodes.
    pub(crate) fn node_rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        let hosts = self.hosts.range::<_, [u8]>((from, Bound::Unbounded));
        hosts.map(|(at, host)| node_row(at.clone(), host))
    }

    /// The rows of instances.
    pub(crate) fn service_rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        self.hosts_from(from)
            .flat_map(|(at, host)| {
                let row =
                    move |service: &Arc<ServiceRecord>| service_row(place(at, &service.def.id), service);
                host.services.iter().map(row)
            })
            .skip_while(move |row| !is_behind(&row.key, from))
    }

    /// The rows of checks.
    pub(crate) fn check_rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        self.hosts_from(from)
            .flat_map(|(at, host)| {
                let row = move |check: &Arc<CheckRecord>| check_row(place(at, &check.def.id), check);
                host.checks.iter().map(row)
            })
            .skip_while(move |row| !is_behind(&row.key, from))
    }

    /// The rows of what answers' indexes are.
    pub(crate) fn mark_rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        let groups = move |kind: Kind, first: u8| {
            section(from, first).into_iter().flat_map(move |from| {
                let groups = self
                    .groups(kind)
                    .by_name
                    .range::<_, [u8]>((from, Bound::Unbounded));
                groups.map(move |(name, group)| marks::group_row(marks::of_group(kind, name), group))
            })
        };
        let hosts = section(from, HOST).into_iter().flat_map(|from| {
            let hosts = self.hosts.range::<_, [u8]>((from, Bound::Unbounded));
            hosts.map(|(at, host)| marks::host_row(marks::of_host(at), host.indexes))
        });
        groups(Kind::Connect, CONNECT)
            .chain(hosts)
            .chain(groups(Kind::Service, SERVICE))
    }

    /// The nodes from the one on that a row of something on a node is of.
    fn hosts_from<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = (&'a Key, &'a Arc<Host>)> {
        let from = match from {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(key) | Bound::Excluded(key) => {
                let end = key.iter().position(|byte| *byte == END);
                Bound::Included(&key[..end.unwrap_or(key.len())])
            }
        };
        self.hosts.range::<_, [u8]>((from, Bound::Unbounded))
    }
}

/// Rows on their way to be a [`Discovery`], in any order.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    nodes: BTreeMap<Key, Value<NodeDef>>,
    services: BTreeMap<Key, Value<ServiceDef>>,
    checks: BTreeMap<Key, Value<CheckDef>>,
    marks: BTreeMap<Key, Mark>,
    indexes: Option<TableIndexes>,
}

#[derive(Debug)]
enum Mark {
    Host(Key, HostIndexes),
    Group(Kind, Key, Text, GroupIndexes),
}

/// A row that the others do not go with: its table, its key, and why.
#[derive(Debug)]
pub(crate) struct Misfit(pub(crate) Table, pub(crate) Key, pub(crate) &'static str);

impl Parts {
    /// Whether a row of this name was added.
    pub(crate) fn contains(&self, table: Table, key: &Key) -> bool {
        match table {
            Table::Nodes => self.nodes.contains_key(key),
            Table::Services => self.services.contains_key(key),
            Table::Checks => self.checks.contains_key(key),
            Table::Marks => self.marks.contains_key(key),
            Table::Meta => key == DISCOVERY_INDEXES && self.indexes.is_some(),
            Table::Kv
            | Table::KvTombstones
            | Table::Settings
            | Table::Coordinates
            | Table::Sessions
            | Table::SessionMarks
            | Table::LockDelays
            | Table::Receipts
            | Table::PreparedQueries
            | Table::Staged => false,
        }
    }

    /// Adds a row of a node.
    pub(crate) fn add_node(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        let node: Value<NodeDef> = object(value, validation::node)?;
        named(&key, &Key::from(folded(&node.def.name)))?;
        self.nodes.insert(key, node);
        Ok(())
    }

    /// Adds a row of an instance.
    pub(crate) fn add_service(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        let service: Value<ServiceDef> = object(value, validation::service)?;
        on_host(&key, &service.def.id)?;
        self.services.insert(key, service);
        Ok(())
    }

    /// Adds a row of a check.
    pub(crate) fn add_check(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        let check: Value<CheckDef> = object(value, validation::check)?;
        on_host(&key, &check.def.id)?;
        self.checks.insert(key, check);
        Ok(())
    }

    /// Adds a row of answers' indexes.
    pub(crate) fn add_mark(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        let Some(subject) = Subject::of(&key) else {
            return Err(ValueError::Damaged("its name says nothing".to_owned()));
        };
        let mark = match subject {
            Subject::Host(at) => Mark::Host(at, marks::decode_host(value)?),
            Subject::Group(kind, at) => {
                let (name, indexes) = marks::decode_group(value)?;
                named(&at, &Key::from(folded(&name)))?;
                Mark::Group(kind, at, name, indexes)
            }
        };
        self.marks.insert(key, mark);
        Ok(())
    }

    /// Adds the row of the tables' indexes.
    pub(crate) fn add_indexes(&mut self, value: &[u8]) -> Result<(), ValueError> {
        self.indexes = Some(decode(value)?);
        Ok(())
    }

    /// The highest index in any row, and the highest that there may be by what the tables say.
    pub(crate) fn bounds(&self) -> [(Index, Index); 4] {
        fn highest<D>(values: &BTreeMap<Key, Value<D>>) -> Index {
            let indexes = values.values().map(|value| value.modify_index);
            indexes.max().unwrap_or(Index::ZERO)
        }
        let indexes = self.indexes.unwrap_or_default();
        let marks = self.marks.values().map(|mark| match mark {
            Mark::Host(_, indexes) => indexes.services.max(indexes.checks),
            Mark::Group(_, _, _, indexes) => indexes.instances.max(indexes.health).max(indexes.checks),
        });
        let others = indexes
            .statuses
            .into_iter()
            .chain([indexes.names, indexes.vanished]);
        [
            (highest(&self.nodes), indexes.nodes),
            (highest(&self.services), indexes.services),
            (highest(&self.checks), indexes.checks),
            (marks.chain(others).max().unwrap_or(Index::ZERO), indexes.latest()),
        ]
    }

    /// What the rows describe. Fails if some belong to others that are missing.
    pub(crate) fn finish(self) -> Result<Discovery, Misfit> {
        let mut discovery = Discovery {
            indexes: self.indexes.unwrap_or_default(),
            ..Discovery::default()
        };
        for (key, value) in self.nodes {
            if let Some(id) = value.def.id
                && discovery.by_id.insert(id, key.clone()).is_some()
            {
                return Err(Misfit(Table::Nodes, key, "another node has the same id"));
            }
            discovery.restore_node(&key, value.into_node());
        }
        for (key, value) in self.services {
            let host = split(&key).and_then(|(at, _)| discovery.hosts.get_key_value(at));
            let Some((at, host)) = host else {
                return Err(Misfit(Table::Services, key, "its node is missing"));
            };
            let (at, node) = (at.clone(), host.record.def.name.clone());
            let record = ServiceRecord {
                node,
                def: discovery.shared(&value.def),
                create_index: value.create_index,
                modify_index: value.modify_index,
            };
            discovery.restore_service(&at, record);
        }
        for (key, value) in self.checks {
            let host = split(&key).and_then(|(at, _)| discovery.hosts.get_key_value(at));
            let Some((at, host)) = host else {
                return Err(Misfit(Table::Checks, key, "its node is missing"));
            };
            let service = host.service(&value.def.service_id).cloned();
            if service.is_none() && !value.def.service_id.is_empty() {
                return Err(Misfit(Table::Checks, key, "its service is missing"));
            }
            let (at, node) = (at.clone(), host.record.def.name.clone());
            let indexes = [value.create_index, value.modify_index];
            let record = check_record(&node, value.def, service.as_deref(), indexes);
            discovery.restore_check(&at, record);
        }
        let marked = self.marks.len();
        for (key, mark) in self.marks {
            let restored = match mark {
                Mark::Host(at, indexes) => discovery.restore_host(&at, indexes),
                Mark::Group(kind, at, name, indexes) => discovery.restore_group(kind, &at, name, indexes),
            };
            if !restored {
                return Err(Misfit(Table::Marks, key, "what it is about is missing"));
            }
        }
        if marked != discovery.marks() {
            return Err(Misfit(Table::Marks, Key::new(), "some are missing"));
        }
        Ok(discovery)
    }
}

impl Value<NodeDef> {
    fn into_node(self) -> NodeRecord {
        NodeRecord {
            def: self.def,
            create_index: self.create_index,
            modify_index: self.modify_index,
        }
    }
}

fn object<D: DeserializeOwned>(
    value: &[u8],
    check: impl FnOnce(&D) -> Result<(), String>,
) -> Result<Value<D>, ValueError> {
    let object: Value<D> = decode(value)?;
    check_indexes(object.create_index, object.modify_index)?;
    check(&object.def).map_err(ValueError::Damaged)?;
    Ok(object)
}

/// Refuses an object that is not what its row is named after.
fn named(key: &Key, name: &Key) -> Result<(), ValueError> {
    if key == name {
        return Ok(());
    }
    Err(ValueError::Damaged(format!(
        "it is that of another, {}",
        quote(name)
    )))
}

/// The same for an object on a node, which is not named in it.
fn on_host(key: &Key, id: &str) -> Result<(), ValueError> {
    let Some((at, _)) = split(key).filter(|(at, _)| !at.is_empty() && !id.is_empty()) else {
        return Err(ValueError::Damaged("its name is not one".to_owned()));
    };
    named(key, &place(at, id))
}

fn node_row(key: Key, host: &Host) -> Row {
    let NodeRecord {
        def,
        create_index,
        modify_index,
    } = &*host.record;
    row(Table::Nodes, key, def, [*create_index, *modify_index])
}

fn service_row(key: Key, service: &ServiceRecord) -> Row {
    let indexes = [service.create_index, service.modify_index];
    row(Table::Services, key, &service.def, indexes)
}

fn check_row(key: Key, check: &CheckRecord) -> Row {
    let indexes = [check.create_index, check.modify_index];
    row(Table::Checks, key, &check.def, indexes)
}

fn row<D: Serialize>(table: Table, key: Key, def: &D, [create_index, modify_index]: [Index; 2]) -> Row {
    const USUAL: usize = 128;
    let value = Value {
        def,
        create_index,
        modify_index,
    };
    Row {
        table,
        key,
        value: Some(encode(&value, USUAL)),
    }
}

/// The key of the node, and the id in lower case, that a row of something on a node is named after.
fn split(key: &[u8]) -> Option<(&[u8], &str)> {
    let end = key.iter().position(|byte| *byte == END)?;
    let (at, rest) = key.split_at(end);
    Some((at, str::from_utf8(&rest[1..]).ok()?))
}

fn is_behind(key: &[u8], from: Bound<&[u8]>) -> bool {
    match from {
        Bound::Unbounded => true,
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
    }
}

/// Where to start in the rows of [`Table::Marks`] whose names start with `first`; `None` if the place is behind them all.
fn section(from: Bound<&[u8]>, first: u8) -> Option<Bound<&[u8]>> {
    let (Bound::Included(key) | Bound::Excluded(key)) = from else {
        return Some(Bound::Unbounded);
    };
    let Some((found, rest)) = key.split_first() else {
        return Some(Bound::Unbounded);
    };
    match found.cmp(&first) {
        Ordering::Less => Some(Bound::Unbounded),
        Ordering::Greater => None,
        Ordering::Equal => Some(from.map(|_| rest)),
    }
}
