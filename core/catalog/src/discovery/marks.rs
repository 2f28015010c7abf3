//! When the answers to questions about one node or one service last changed, as rows of their own: that cannot be told from the objects
//! that are left.

use bytes::Bytes;
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use super::defs::Text;
use super::groups::{Group, GroupIndexes, Kind};
use super::store::HostIndexes;
use crate::command::Key;
use crate::row::{Row, Table, ValueError, decode, encode};

/// What a row's name starts with, in the order of rows.
pub(super) const CONNECT: u8 = b'c';
pub(super) const HOST: u8 = b'n';
pub(super) const SERVICE: u8 = b's';

/// What a row of [`Table::Marks`] is about: whose it is, and the key of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Host(Key),
    Group(Kind, Key),
}

#[derive(Serialize, Deserialize)]
struct HostValue {
    services: Index,
    checks: Index,
}

#[derive(Serialize, Deserialize)]
struct GroupValue {
    name: Text,
    instances: Index,
    health: Index,
    checks: Index,
}

impl Subject {
    /// What the row with this key is about.
    pub(super) fn of(key: &Key) -> Option<Self> {
        let rest = || key.slice(1..);
        match *key.first()? {
            HOST => Some(Self::Host(rest())),
            SERVICE => Some(Self::Group(Kind::Service, rest())),
            CONNECT => Some(Self::Group(Kind::Connect, rest())),
            _ => None,
        }
    }
}

pub(super) fn of_host(at: &[u8]) -> Key {
    named(HOST, at)
}

pub(super) fn of_group(kind: Kind, name: &[u8]) -> Key {
    let kind = match kind {
        Kind::Service => SERVICE,
        Kind::Connect => CONNECT,
    };
    named(kind, name)
}

fn named(kind: u8, name: &[u8]) -> Key {
    Key::from([&[kind], name].concat())
}

pub(super) fn host_row(key: Key, indexes: HostIndexes) -> Row {
    let HostIndexes { services, checks } = indexes;
    row(key, encode(&HostValue { services, checks }, 0))
}

pub(super) fn group_row(key: Key, group: &Group) -> Row {
    let GroupIndexes {
        instances,
        health,
        checks,
    } = group.indexes;
    let value = GroupValue {
        name: group.name.clone(),
        instances,
        health,
        checks,
    };
    row(key, encode(&value, group.name.len()))
}

pub(super) fn decode_host(value: &[u8]) -> Result<HostIndexes, ValueError> {
    let HostValue { services, checks } = decode(value)?;
    check([services, checks])?;
    Ok(HostIndexes { services, checks })
}

pub(super) fn decode_group(value: &[u8]) -> Result<(Text, GroupIndexes), ValueError> {
    let GroupValue {
        name,
        instances,
        health,
        checks,
    } = decode(value)?;
    check([instances, health, checks])?;
    let indexes = GroupIndexes {
        instances,
        health,
        checks,
    };
    Ok((name, indexes))
}

fn check<const N: usize>(indexes: [Index; N]) -> Result<(), ValueError> {
    if indexes.contains(&Index::ZERO) {
        return Err(ValueError::Damaged("an index is 0".to_owned()));
    }
    Ok(())
}

fn row(key: Key, value: Bytes) -> Row {
    Row {
        table: Table::Marks,
        key,
        value: Some(value),
    }
}
