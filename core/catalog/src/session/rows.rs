//! Sessions as rows, and back.

use std::collections::BTreeMap;
use std::ops::Bound;

use lictor_machine::Index;

use super::def::Session;
use super::id::SessionId;
use super::table::{Sessions, check_dependencies};
use crate::command::Key;
use crate::discovery::{Discovery, Misfit};
use crate::row::{Row, Table, ValueError, check_indexes, decode, decode_index, encode};

impl Sessions {
    /// The object at this place as a row; `None` if there is none.
    pub(crate) fn row(&self, table: Table, key: &Key) -> Option<Row> {
        if table == Table::SessionMarks {
            let index = self.marks.get(key)?;
            return Some(mark_row(key.clone(), *index));
        }
        let session = self.live.get(&SessionId::of_key(key)?)?;
        Some(session_row(session))
    }

    /// The rows of sessions.
    pub(crate) fn session_rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        // Only rows of this table are ever gone on from, so the key is the name of a session.
        let from = from.map(|key| SessionId::of_key(key).unwrap_or_default());
        let sessions = self.live.range((from, Bound::Unbounded));
        sessions.map(|(_, session)| session_row(session))
    }

    /// The rows of when sessions on a node last came or went.
    pub(crate) fn mark_rows<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = Row> + 'a {
        let marks = self.marks.range::<_, [u8]>((from, Bound::Unbounded));
        marks.map(|(at, index)| mark_row(at.clone(), *index))
    }
}

/// Rows on their way to be [`Sessions`], in any order.
#[derive(Debug, Default)]
pub(crate) struct SessionParts {
    sessions: BTreeMap<Key, Session>,
    marks: BTreeMap<Key, Index>,
    pub(crate) index: Index,
}

impl SessionParts {
    /// Whether a row of this name was added.
    pub(crate) fn contains(&self, table: Table, key: &Key) -> bool {
        if table == Table::SessionMarks {
            self.marks.contains_key(key)
        } else {
            self.sessions.contains_key(key)
        }
    }

    /// Adds the row of a session.
    pub(crate) fn add_session(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        let session: Session = decode(value)?;
        check_indexes(session.create_index, session.create_index)?;
        session.def.check().map_err(ValueError::Damaged)?;
        if session.def.id.key() != key {
            let id = session.def.id;
            return Err(ValueError::Damaged(format!("it is that of another, {id}")));
        }
        self.sessions.insert(key, session);
        Ok(())
    }

    /// Adds the row of when sessions on a node last came or went.
    pub(crate) fn add_mark(&mut self, key: Key, value: &[u8]) -> Result<(), ValueError> {
        self.marks.insert(key, decode_index(value)?);
        Ok(())
    }

    /// The highest index in any row, and the highest that there may be by what the table says.
    pub(crate) fn bounds(&self) -> (Index, Index) {
        let created = self.sessions.values().map(|session| session.create_index);
        let highest = created.chain(self.marks.values().copied()).max();
        (highest.unwrap_or(Index::ZERO), self.index)
    }

    /// What the rows describe. Fails if they do not go with the nodes and checks that there are.
    pub(crate) fn finish(self, discovery: &Discovery) -> Result<Sessions, Misfit> {
        let mut sessions = Sessions::default();
        sessions.index = self.index;
        for (key, session) in self.sessions {
            if check_dependencies(discovery, &session.def).is_err() {
                let detail = "its node or a check that it depends on is missing or critical";
                return Err(Misfit(Table::Sessions, key, detail));
            }
            sessions.insert(session);
        }
        for (at, index) in self.marks {
            if !discovery.has_node(&at) {
                return Err(Misfit(Table::SessionMarks, at, "its node is missing"));
            }
            sessions.marks.insert(at, index);
        }
        if let Some(at) = sessions.unmarked() {
            return Err(Misfit(Table::SessionMarks, at, "it is missing"));
        }
        Ok(sessions)
    }
}

fn session_row(session: &Session) -> Row {
    const USUAL: usize = 128;
    Row {
        table: Table::Sessions,
        key: session.def.id.key(),
        value: Some(encode(session, USUAL)),
    }
}

fn mark_row(at: Key, index: Index) -> Row {
    Row {
        table: Table::SessionMarks,
        key: at,
        value: Some(encode(&index, 0)),
    }
}
