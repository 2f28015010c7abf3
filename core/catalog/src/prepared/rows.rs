//! Prepared queries as rows, and back.

use std::collections::BTreeMap;
use std::ops::Bound;

use lictor_machine::Index;

use super::def::Prepared;
use super::id::PreparedId;
use super::table::{PreparedQueries, session_of};
use crate::command::Key;
use crate::discovery::Misfit;
use crate::row::{Row, Table, ValueError, check_indexes, decode, encode};
use crate::session::Sessions;

impl PreparedQueries {
    /// The query of this name as a row; `None` if there is none.
    pub(crate) fn row(&self, key: &Key) -> Option<Row> {
        let stored = self.by_id.get(&PreparedId::of_key(key)?)?;
        Some(row(&stored.query))
    }

    /// The rows of all of them.
    pub(crate) fn rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        // Only rows of this table are ever gone on from, so the key is that of a query.
        let from = from.map(|key| PreparedId::of_key(key).unwrap_or_default());
        let stored = self.by_id.range((from, Bound::Unbounded));
        stored.map(|(_, stored)| row(&stored.query))
    }
}

/// Rows on their way to be [`PreparedQueries`], in any order.
#[derive(Debug, Default)]
pub(crate) struct PreparedParts {
    queries: BTreeMap<Key, Prepared>,
    pub(crate) index: Index,
}

impl PreparedParts {
    /// Whether a row of this name was added.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.queries.contains_key(key)
    }

    /// Adds the row of a query.
    pub(crate) fn add(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        let query: Prepared = decode(value)?;
        check_indexes(query.create_index, query.modify_index)?;
        query.def.check().map_err(ValueError::Damaged)?;
        if query.def.id.key() != key {
            let id = query.def.id;
            return Err(ValueError::Damaged(format!("it is that of another, {id}")));
        }
        self.queries.insert(key, query);
        Ok(())
    }

    /// The highest index in any row, and the highest that there may be by what the table says.
    pub(crate) fn bounds(&self) -> (Index, Index) {
        let highest = self.queries.values().map(|query| query.modify_index).max();
        (highest.unwrap_or(Index::ZERO), self.index)
    }

    /// What the rows describe. Fails if they do not go with each other, or with the sessions that there are.
    pub(crate) fn finish(self, sessions: &Sessions) -> Result<PreparedQueries, Misfit> {
        let mut queries = PreparedQueries::default();
        queries.index = self.index;
        for (key, query) in self.queries {
            let misfit = |detail| Misfit(Table::PreparedQueries, key, detail);
            if queries.check_name(&query.def).is_err() {
                return Err(misfit("another has its name"));
            }
            if session_of(&query.def, sessions).is_err() {
                return Err(misfit("its session is missing"));
            }
            queries.insert(query);
        }
        Ok(queries)
    }
}

fn row(query: &Prepared) -> Row {
    const USUAL: usize = 160;
    Row {
        table: Table::PreparedQueries,
        key: query.def.id.key(),
        value: Some(encode(query, USUAL)),
    }
}
