//! The table of prepared queries, and how a name finds one.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

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
use crate::size::size;
use crate::uuid;

/// The most prepared queries of a data center.
pub const MAX_PREPARED_QUERIES: usize = 1 << 16;

/// How many bytes all prepared queries of a data center may have together, each as it is stored.
pub const MAX_PREPARED_BYTES: usize = 64 << 20;

/// The most templates of a data center that have a regular expression: each takes far more memory than its text, once it is used.
pub const MAX_PATTERNS: usize = 256;

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
    load: Load,
    /// The last index that changed any of them. Removals count.
    pub(crate) index: Index,
}

/// A query, and how to fill it in.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) query: Arc<Prepared>,
    /// How to fill it in, from when it is first needed. One that cannot be filled in was checked by another version of this program.
    template: OnceLock<Result<Template, TemplateError>>,
}

/// How much there is of what is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Load {
    queries: usize,
    bytes: usize,
    patterns: usize,
}

impl Load {
    /// What one query makes of it.
    fn of(def: &PreparedDef) -> Self {
        Self {
            queries: 1,
            bytes: size(def),
            patterns: usize::from(def.is_template() && !def.template.pattern.is_empty()),
        }
    }

    const fn with(self, other: Self) -> Self {
        Self {
            queries: self.queries.saturating_add(other.queries),
            bytes: self.bytes.saturating_add(other.bytes),
            patterns: self.patterns.saturating_add(other.patterns),
        }
    }

    const fn without(self, other: Self) -> Self {
        Self {
            queries: self.queries.saturating_sub(other.queries),
            bytes: self.bytes.saturating_sub(other.bytes),
            patterns: self.patterns.saturating_sub(other.patterns),
        }
    }

    /// Whether there may be as much instead of `before`. What is above a bound already may stay as it is, or get less.
    fn check(self, before: Self) -> Result<(), String> {
        let bounds = [
            (
                self.queries,
                before.queries,
                MAX_PREPARED_QUERIES,
                "prepared queries",
            ),
            (
                self.bytes,
                before.bytes,
                MAX_PREPARED_BYTES,
                "bytes of prepared queries",
            ),
            (
                self.patterns,
                before.patterns,
                MAX_PATTERNS,
                "prepared query templates with a regular expression",
            ),
        ];
        bounds.into_iter().try_for_each(|(now, before, limit, what)| {
            if now > limit && now > before {
                return Err(format!(
                    "there would be {now} {what}, and there may be {limit}: delete some that are not needed"
                ));
            }
            Ok(())
        })
    }
}

impl Stored {
    fn new(query: Prepared) -> Self {
        Self {
            query: Arc::new(query),
            template: OnceLock::new(),
        }
    }

    /// The query for this name: as it is, or filled in if it is a template.
    fn filled_in(&self, name: &str) -> Result<Arc<Prepared>, String> {
        let def = &self.query.def;
        if !def.is_template() {
            return Ok(Arc::clone(&self.query));
        }
        let template = self.template.get_or_init(|| Template::compile(def));
        let filled = template.as_ref().map_err(Clone::clone);
        let filled = filled.and_then(|template| template.fill_in(def, name));
        let def = filled.map_err(|why| why.to_string())?;
        Ok(Arc::new(Prepared {
            def,
            ..Prepared::clone(&self.query)
        }))
    }
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
            if stored.query.def.is_template() {
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
        let stored = id.and_then(|id| self.by_id.get(id));
        stored.map(|stored| stored.filled_in(name)).transpose()
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
        let old = self.by_id.get(&def.id);
        let old = old.map_or(Load::default(), |stored| Load::of(&stored.query.def));
        self.load.without(old).with(Load::of(def)).check(self.load)?;
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
        self.load = self.load.with(Load::of(def));
        self.by_id.insert(id, Arc::new(Stored::new(query)));
    }

    fn take_out(&mut self, id: PreparedId) -> Option<Arc<Stored>> {
        let stored = self.by_id.remove(&id)?;
        let def = &stored.query.def;
        self.load = self.load.without(Load::of(def));
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
