//! The table of sessions, and which of them depend on what.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use lictor_machine::Index;

use super::def::{Session, SessionDef};
use super::id::{SessionError, SessionId};
use crate::command::{Found, Key, SessionRef};
use crate::coordinate::folded;
use crate::discovery::{Discovery, Status, place};
use crate::edit::{Edit, Touch};
use crate::row::Table;

/// The sessions that live. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    pub(super) live: OrdMap<SessionId, Arc<Session>>,
    /// By the node's name in lower case.
    by_node: OrdSet<(Key, SessionId)>,
    /// By the node's name and the check's id, in lower case.
    by_check: OrdSet<(Key, SessionId)>,
    /// When a session last came to a node or went, for nodes that have or had some.
    pub(super) marks: OrdMap<Key, Index>,
    /// The last index at which any session came or went.
    pub(crate) index: Index,
    /// Sessions of which tests say that they live.
    #[cfg(test)]
    pub(crate) assumed: OrdSet<SessionId>,
}

impl Sessions {
    /// Checks that `session` names a living one.
    pub(crate) fn check(&self, session: &SessionRef) -> Result<SessionId, SessionError> {
        let id = session.named()?;
        if self.lives(id) {
            Ok(id)
        } else {
            Err(SessionError::Unknown(session.0.clone()))
        }
    }

    /// The same with these sessions of which tests say that they live.
    #[cfg(test)]
    pub(crate) fn assuming(self, assumed: OrdSet<SessionId>) -> Self {
        Self { assumed, ..self }
    }

    /// Whether there is a session of this name.
    pub(crate) fn lives(&self, id: SessionId) -> bool {
        #[cfg(test)]
        if self.assumed.contains(&id) {
            return true;
        }
        self.live.contains_key(&id)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.live.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.live.values()
    }

    /// Makes a session; false if there is one of this name. On an error nothing was changed.
    pub(crate) fn create(
        &mut self,
        edit: &mut Edit,
        discovery: &Discovery,
        def: &SessionDef,
    ) -> Result<bool, String> {
        def.check()?;
        check_dependencies(discovery, def)?;
        if self.lives(def.id) {
            return Ok(false);
        }
        let session = Session {
            def: def.clone(),
            create_index: edit.index,
        };
        self.insert(session);
        self.touch(edit, def);
        Ok(true)
    }

    /// Takes a session out of the table; `None` if there is none of this name.
    pub(crate) fn remove(&mut self, edit: &mut Edit, id: SessionId) -> Option<Arc<Session>> {
        let session = self.live.remove(&id)?;
        let at = Key::from(folded(&session.def.node));
        for check in session.def.all_checks() {
            self.by_check.remove(&(place(&at, check), id));
        }
        self.by_node.remove(&(at, id));
        self.touch(edit, &session.def);
        Some(session)
    }

    /// Forgets what it knows of a node that is gone, with all its sessions.
    pub(crate) fn forget_node(&mut self, edit: &mut Edit, at: &Key) {
        if self.marks.remove(at).is_some() {
            edit.changed(Table::SessionMarks, at.clone());
        }
    }

    /// The sessions on a node.
    pub(crate) fn on_node(&self, at: &Key) -> Vec<SessionId> {
        under(&self.by_node, at)
    }

    /// The sessions that depend on a check.
    pub(crate) fn on_check(&self, place: &Key) -> Vec<SessionId> {
        under(&self.by_check, place)
    }

    /// All of them, by id.
    pub(crate) fn list(&self) -> Found {
        Found::Sessions(self.live.values().cloned().collect())
    }

    /// The one of this name, if it lives.
    pub(crate) fn info(&self, id: SessionId) -> Found {
        Found::Sessions(self.live.get(&id).cloned().into_iter().collect())
    }

    /// Those on a node, by id.
    pub(crate) fn list_node(&self, node: &str) -> Found {
        let ids = self.on_node(&folded(node).into());
        let found = ids.iter().filter_map(|id| self.live.get(id));
        Found::Sessions(found.cloned().collect())
    }

    /// The index of a question about one session.
    pub(crate) fn info_index(&self, id: SessionId) -> Index {
        let session = self.live.get(&id);
        session.map_or(self.index, |session| session.create_index)
    }

    /// The index of a question about a node's sessions.
    pub(crate) fn node_index(&self, node: &str) -> Index {
        let mark = self.marks.get(folded(node).as_bytes());
        mark.copied().unwrap_or(self.index)
    }

    /// Puts a session in its places.
    pub(super) fn insert(&mut self, session: Session) {
        let id = session.def.id;
        let at = Key::from(folded(&session.def.node));
        for check in session.def.all_checks() {
            self.by_check.insert((place(&at, check), id));
        }
        self.by_node.insert((at, id));
        self.live.insert(id, Arc::new(session));
    }

    /// A node that has sessions, and of which it is not known since when.
    pub(super) fn unmarked(&self) -> Option<Key> {
        let unmarked = self.by_node.iter().find(|(at, _)| !self.marks.contains_key(at));
        unmarked.map(|(at, _)| at.clone())
    }

    fn touch(&mut self, edit: &mut Edit, def: &SessionDef) {
        let at = Key::from(folded(&def.node));
        self.index = edit.index;
        self.marks.insert(at.clone(), edit.index);
        edit.changed(Table::Sessions, def.id.key());
        edit.changed(Table::SessionMarks, at.clone());
        edit.touch(Touch::Session(def.id));
        edit.touch(Touch::NodeSessions(at));
    }
}

/// Whether all that a session depends on is there, and well enough.
pub(super) fn check_dependencies(discovery: &Discovery, def: &SessionDef) -> Result<(), String> {
    let at = Key::from(folded(&def.node));
    if !discovery.has_node(&at) {
        return Err("Missing node registration".to_owned());
    }
    def.all_checks()
        .try_for_each(|check| match discovery.check_status(&at, check) {
            None => Err(format!("Missing check '{check}' registration")),
            Some(Status::Critical) => Err(format!("Check '{check}' is in critical state")),
            Some(Status::Passing | Status::Warning) => Ok(()),
        })
}

/// The sessions under a key.
fn under(index: &OrdSet<(Key, SessionId)>, key: &Key) -> Vec<SessionId> {
    let all = (key.clone(), SessionId(0))..=(key.clone(), SessionId(u128::MAX));
    index.range(all).map(|(_, id)| *id).collect()
}
