//! The table of prepared queries, and how a name finds one.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use lictor_machine::Index;

use super::def::{Prepared, PreparedDef};
use super::id::PreparedId;
use super::template::{Template, TemplateError};
use crate::coordinate::folded;
use crate::discovery::MAX_NAME_BYTES;
use crate::edit::Edit;
use crate::quote::quote;
use crate::row::Table;
use crate::session::{SessionId, Sessions};
use crate::uuid;

/// The prepared queries. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct PreparedQueries {
    pub(super) by_id: OrdMap<PreparedId, Arc<Stored>>,
    /// Those that have a name, by that in lower case.
    by_name: OrdMap<String, PreparedId>,
    /// Templates, by their name in lower case; one may be for all names, whose own is empty.
    templates: OrdMap<String, PreparedId>,
    /// Those that end with a session.
    by_session: OrdSet<(SessionId, PreparedId)>,
    /// The last index that changed any of them. Removals count.
    pub(crate) index: Index,
}

/// A query, and how to fill it in.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) query: Arc<Prepared>,
    /// `None` if it is no template. One that cannot be filled in was checked by another version of this program.
    template: Option<Result<Template, TemplateError>>,
}

impl PreparedQueries {
    /// Makes a query; false if there is one of this id. On an error nothing was changed.
    pub(crate) fn create(
        &mut self,
        edit: &mut Edit,
        sessions: &Sessions,
        def: &PreparedDef,
    ) -> Result<bool, String> {
        if self.by_id.contains_key(&def.id) {
            return Ok(false);
        }
        self.set(edit, sessions, def, edit.index)?;
        Ok(true)
    }

    /// Puts a query in the place of the one that has its id. On an error nothing was changed.
    pub(crate) fn update(
        &mut self,
        edit: &mut Edit,
        sessions: &Sessions,
        def: &PreparedDef,
    ) -> Result<(), String> {
        let Some(old) = self.by_id.get(&def.id) else {
            return Err(missing(def.id));
        };
        let create_index = old.query.create_index;
        self.set(edit, sessions, def, create_index)
    }

    /// Removes a query. On an error nothing was changed.
    pub(crate) fn delete(&mut self, edit: &mut Edit, id: PreparedId) -> Result<(), String> {
        if self.take_out(id).is_none() {
            return Err(missing(id));
        }
        self.touch(edit, id);
        Ok(())
    }

    /// Removes the queries that end with this session.
    pub(crate) fn end_session(&mut self, edit: &mut Edit, session: SessionId) {
        let all = (session, PreparedId(0))..=(session, PreparedId(u128::MAX));
        let bound: Vec<PreparedId> = self.by_session.range(all).map(|(_, id)| *id).collect();
        for id in bound {
            self.take_out(id);
            self.touch(edit, id);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All of them, by id.
    pub(crate) fn list(&self) -> Vec<Arc<Prepared>> {
        self.by_id
            .values()
            .map(|stored| Arc::clone(&stored.query))
            .collect()
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: PreparedId) -> Option<Arc<Prepared>> {
        self.by_id.get(&id).map(|stored| Arc::clone(&stored.query))
    }

    /// The query that is meant by an id or a name, filled in if it is a template. An id comes first, then a query of just this name, then
    /// the template that has the longest part of it.
    pub(crate) fn resolve(&self, name: &str) -> Result<Option<Arc<Prepared>>, String> {
        let by_id = PreparedId::of_name(name).and_then(|id| self.by_id.get(&id));
        if let Some(stored) = by_id {
            if stored.template.is_some() {
                return Err("prepared query templates can only be resolved up by name, not by ID".to_owned());
            }
            return Ok(Some(Arc::clone(&stored.query)));
        }
        // Nothing is called so, and a template would have to repeat it.
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Ok(None);
        }
        let folded = folded(name);
        let id = self.by_name.get(&folded).or_else(|| self.template_for(&folded));
        let Some(stored) = id.and_then(|id| self.by_id.get(id)) else {
            return Ok(None);
        };
        let Some(template) = &stored.template else {
            return Ok(Some(Arc::clone(&stored.query)));
        };
        let filled = template.as_ref().map_err(Clone::clone);
        let filled = filled.and_then(|template| template.fill_in(&stored.query.def, name));
        let def = filled.map_err(|why| why.to_string())?;
        Ok(Some(Arc::new(Prepared {
            def,
            ..Prepared::clone(&stored.query)
        })))
    }

    /// The template with the longest name that `name` begins with.
    fn template_for(&self, name: &str) -> Option<&PreparedId> {
        let mut upper = name;
        loop {
            let below = (Bound::Unbounded, Bound::Included(upper));
            // Whatever `upper` begins with is not greater than it, so nothing longer is passed over.
            let (found, id) = self.templates.range::<_, str>(below).next_back()?;
            if upper.starts_with(found.as_str()) {
                return Some(id);
            }
            let common = found.char_indices().zip(upper.chars());
            let mut differing = common.skip_while(|((_, a), b)| a == b);
            let end = differing.next().map_or(found.len(), |((at, _), _)| at);
            upper = upper.get(..end).unwrap_or_default();
        }
    }

    fn set(
        &mut self,
        edit: &mut Edit,
        sessions: &Sessions,
        def: &PreparedDef,
        create_index: Index,
    ) -> Result<(), String> {
        def.check()?;
        self.check_name(def)?;
        session_of(def, sessions)?;
        self.take_out(def.id);
        self.insert(Prepared {
            def: def.clone(),
            create_index,
            modify_index: edit.index,
        });
        self.touch(edit, def.id);
        Ok(())
    }

    /// Whether nobody else has its name.
    pub(super) fn check_name(&self, def: &PreparedDef) -> Result<(), String> {
        let name = &def.name;
        let is_other = |id: &PreparedId| *id != def.id;
        let folded = folded(name);
        if name.is_empty() {
            if def.is_template() && self.templates.get(&folded).is_some_and(is_other) {
                return Err("a query template with an empty name already exists".to_owned());
            }
        } else if self.by_name.get(&folded).is_some_and(is_other) {
            return Err(format!("name '{name}' aliases an existing query name"));
        }
        let id = PreparedId::of_name(name);
        if id.is_some_and(|id| self.by_id.contains_key(&id)) {
            return Err(format!("name '{name}' aliases an existing query ID"));
        }
        Ok(())
    }

    /// Puts a query in its places.
    pub(super) fn insert(&mut self, query: Prepared) {
        let def = &query.def;
        let id = def.id;
        if !def.name.is_empty() {
            self.by_name.insert(folded(&def.name), id);
        }
        if def.is_template() {
            self.templates.insert(folded(&def.name), id);
        }
        if let Some(session) = spelled(def) {
            self.by_session.insert((session, id));
        }
        let template = def.is_template().then(|| Template::compile(def));
        let stored = Stored {
            query: Arc::new(query),
            template,
        };
        self.by_id.insert(id, Arc::new(stored));
    }

    fn take_out(&mut self, id: PreparedId) -> Option<Arc<Stored>> {
        let stored = self.by_id.remove(&id)?;
        let def = &stored.query.def;
        if !def.name.is_empty() {
            self.by_name.remove(&folded(&def.name));
        }
        if def.is_template() {
            self.templates.remove(&folded(&def.name));
        }
        if let Some(session) = spelled(def) {
            self.by_session.remove(&(session, id));
        }
        Some(stored)
    }

    fn touch(&mut self, edit: &mut Edit, id: PreparedId) {
        self.index = edit.index;
        edit.changed(Table::PreparedQueries, id.key());
    }
}

/// The session that a query ends with; `None` if it needs none. Fails if there is no such session.
pub(super) fn session_of(def: &PreparedDef, sessions: &Sessions) -> Result<Option<SessionId>, String> {
    if def.session.is_empty() {
        return Ok(None);
    }
    let parsed = uuid::parse(&def.session).map_err(|why| format!("invalid session: index error: {why}"))?;
    let session = parsed.map(SessionId).filter(|id| sessions.lives(*id));
    let unknown = || format!("invalid session {}", quote(def.session.as_bytes()));
    session.map(Some).ok_or_else(unknown)
}

/// The session that a stored query names.
fn spelled(def: &PreparedDef) -> Option<SessionId> {
    uuid::parse(&def.session).ok().flatten().map(SessionId)
}

fn missing(id: PreparedId) -> String {
    format!("Cannot modify non-existent prepared query: '{id}'")
}
