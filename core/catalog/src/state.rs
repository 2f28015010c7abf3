//! The catalog's state and its one way to change: applying commands in the order of the log.

use std::fmt;
use std::sync::Arc;

use lictor_machine::Index;

use crate::autopilot::AutopilotStore;
use crate::command::{Action, Command, Key, KvWrite, Outcome, RunOut, TxnError, TxnOp, TxnResult};
use crate::coordinate::Coordinates;
use crate::discovery::{CatalogChange, Deregistration, Discovery, MAX_CATALOG_CHANGES, Registration};
use crate::edit::{Edit, Lost, Touched};
use crate::export::{Cursor, Export};
use crate::fnv::Fnv64;
use crate::locks::LockDelay;
use crate::once::Receipts;
use crate::prepared::PreparedQueries;
use crate::restore::{Lineage, Staging, Stepped};
use crate::row::{self, Row, Table};
use crate::session::{Session, SessionId, Sessions};
use crate::store::KvStore;
use crate::txn;

/// Everything that a data center's servers agree on, as of one index.
///
/// A clone is O(1), shares what it can, and never sees a later change.
#[derive(Clone, Default)]
pub struct State {
    pub(crate) applied: Index,
    pub(crate) kv: KvStore,
    pub(crate) sessions: Sessions,
    pub(crate) autopilot: AutopilotStore,
    pub(crate) coordinates: Coordinates,
    pub(crate) discovery: Discovery,
    pub(crate) receipts: Receipts,
    pub(crate) prepared: PreparedQueries,
    /// An archive that is coming in.
    pub(crate) staging: Option<Staging>,
    /// Of a state that was restored from one.
    pub(crate) lineage: Option<Lineage>,
}

/// What one or more commands changed, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// For storage: later rows win over earlier ones.
    pub rows: Vec<Row>,
    /// For [`crate::Watches`].
    pub touched: Touched,
    /// The state has become another one, from an archive: what storage has of the old one is void, and `rows` are only what came after.
    pub replaced: bool,
}

impl Changes {
    /// Whether nothing was changed at all.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.touched.is_empty() && !self.replaced
    }
}

/// Why a command was not applied. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A command at this index, or at a later one, has been applied before. To apply one twice would corrupt the state.
    #[error("the entry at index {index} was already applied: the state is at index {applied}")]
    NotNewer {
        /// The command's index.
        index: Index,
        /// The last one applied.
        applied: Index,
    },
    /// An archive that is being restored was written by a newer version of this program, and others may be able to read it.
    #[error("an archive that is being restored cannot be read here: {0}")]
    Archive(String),
}

impl State {
    /// An empty state, before the first entry of the log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last index that was applied.
    pub const fn index(&self) -> Index {
        self.applied
    }

    /// Applies the command at `index` and adds what it changed to `changes`. Depends on nothing but its arguments. On an error nothing
    /// has changed, here or there.
    ///
    /// Everything that the command changes gets the [revision](Self::revision) of `index`; a command that changes nothing moves no index
    /// but these two.
    pub fn apply(
        &mut self,
        index: Index,
        command: &Command,
        changes: &mut Changes,
    ) -> Result<Outcome, ApplyError> {
        let before = self.applied;
        self.advance(index)?;
        let mut edit = Edit::new(self.revision());
        let outcome = if let Action::Restore(step) = &command.action {
            match self.restore(&mut edit, step) {
                Ok(Stepped::Answer(outcome)) => outcome,
                Ok(Stepped::Replaced) => {
                    *changes = Changes {
                        rows: Vec::new(),
                        touched: Touched::All,
                        replaced: true,
                    };
                    return Ok(Outcome::Done(true));
                }
                Err(error) => {
                    self.applied = before;
                    return Err(error);
                }
            }
        } else {
            // Some changes are made to a copy first, which has nothing under construction.
            let building = self.staging.as_mut().map(Staging::take_building);
            let outcome = if let Action::Once(once) = &command.action {
                self.once(&mut edit, once)
            } else {
                self.carry_out(&mut edit, &command.action)
            };
            if let (Some(staging), Some(building)) = (&mut self.staging, building) {
                staging.put_building(building);
            }
            outcome
        };
        edit.report(self, changes);
        Ok(outcome)
    }

    /// Passes an entry of the log that holds no command.
    pub fn advance(&mut self, index: Index) -> Result<(), ApplyError> {
        if index <= self.applied {
            return Err(ApplyError::NotNewer {
                index,
                applied: self.applied,
            });
        }
        self.applied = index;
        Ok(())
    }

    /// Carries out a transaction of [read-only](TxnOp::is_read_only) operations. Any other among them fails.
    pub fn txn_read(&self, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Vec<TxnError>> {
        txn::read(self, ops)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.iter()
    }

    /// The session of this name.
    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// The locks that are kept from everybody, by key.
    pub fn lock_delays(&self) -> impl Iterator<Item = (&Key, LockDelay)> {
        self.kv.locks.delays.iter().map(|(key, delay)| (key, *delay))
    }

    /// Whether, and since when, the lock of this key is kept from everybody.
    pub fn lock_delay(&self, key: &Key) -> Option<LockDelay> {
        self.kv.locks.delays.get(key).copied()
    }

    /// Whether an answer is kept that was given at or before `through`: whether [`RunOut::Receipts`] would do anything.
    pub fn has_receipts_through(&self, through: Index) -> bool {
        self.receipts.oldest().is_some_and(|oldest| oldest <= through)
    }

    /// Whether there is a tombstone of something deleted at or before `through`: whether [`Action::ReapTombstones`] would do anything.
    pub fn has_tombstones_through(&self, through: Index) -> bool {
        self.kv.graveyard.oldest().is_some_and(|oldest| oldest <= through)
    }

    /// A snapshot to be read as rows. O(1).
    pub fn export(&self) -> Export {
        Export::new(self.clone())
    }

    /// A hash over the index and all rows, to compare replicas: states that differ in any row have different digests, but for chance.
    /// Not for protection against forgery. Reads everything.
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv64::new();
        hash.number(self.applied.0);
        for row in self.rows_from(&Cursor::start()) {
            hash.number(row.table as u64);
            hash.bytes(&row.key);
            hash.bytes(&row.value.unwrap_or_default());
        }
        hash.finish()
    }

    /// Carries out an action. If it is refused, nothing has changed.
    pub(crate) fn carry_out(&mut self, edit: &mut Edit, action: &Action) -> Outcome {
        match action {
            Action::Kv(write) => self.write(edit, write),
            Action::Txn(ops) => Outcome::Txn(self.tried(edit, |state, edit| txn::run(state, edit, ops))),
            Action::ReapTombstones(through) => {
                self.kv.reap(edit, *through);
                Outcome::Done(true)
            }
            Action::SetAutopilot { config, cas } => self
                .autopilot
                .set(edit, config, *cas)
                .map_or_else(Outcome::Refused, Outcome::Done),
            Action::Coordinates(updates) => done(self.coordinates.update(edit, updates)),
            Action::ForgetCoordinates(nodes) => {
                self.coordinates.forget(edit, nodes);
                Outcome::Done(true)
            }
            Action::Register(registration) => done(self.register(edit, registration)),
            Action::Deregister(deregistration) => done(self.deregister(edit, deregistration)),
            Action::RegisterMany(changes) => {
                done(self.tried(edit, |state, edit| state.change_all(edit, changes)))
            }
            Action::CreateSession(def) => match self.sessions.create(edit, &self.discovery, def) {
                Ok(true) => Outcome::Session(def.id),
                Ok(false) => Outcome::Done(false),
                Err(why) => Outcome::Refused(why),
            },
            Action::EndSessions(sessions) => {
                self.end_sessions(edit, sessions);
                Outcome::Done(true)
            }
            Action::EndLockDelays(ended) => {
                self.kv.locks.end_delays(edit, ended);
                Outcome::Done(true)
            }
            Action::ForgetReceipts(through) => {
                self.receipts.forget(edit, *through);
                Outcome::Done(true)
            }
            Action::RunOut { era, what } => {
                let ours = *era == self.era();
                if ours {
                    self.run_out(edit, what);
                }
                Outcome::Done(ours)
            }
            Action::CreatePrepared(def) => match self.prepared.create(edit, &self.sessions, def) {
                Ok(true) => Outcome::Prepared(def.id),
                Ok(false) => Outcome::Done(false),
                Err(why) => Outcome::Refused(why),
            },
            Action::UpdatePrepared(def) => done(self.prepared.update(edit, &self.sessions, def)),
            Action::DeletePrepared(id) => done(self.prepared.delete(edit, *id)),
            Action::Once(_) => Outcome::Refused("a change under two idempotency keys".to_owned()),
            Action::Restore(_) => Outcome::Refused("an archive within another change".to_owned()),
        }
    }

    /// Ends the sessions that depended on what was lost.
    pub(crate) fn end_lost_sessions(&mut self, edit: &mut Edit) {
        for lost in edit.take_lost() {
            let ended = match &lost {
                Lost::Node(at) => self.sessions.on_node(at),
                Lost::Check(place) => self.sessions.on_check(place),
            };
            for id in ended {
                self.end_session(edit, id);
            }
            if let Lost::Node(at) = &lost {
                self.sessions.forget_node(edit, at);
            }
        }
    }

    fn run_out(&mut self, edit: &mut Edit, what: &RunOut) {
        match what {
            RunOut::Sessions(sessions) => self.end_sessions(edit, sessions),
            RunOut::LockDelays(ended) => self.kv.locks.end_delays(edit, ended),
            RunOut::Receipts(through) => self.receipts.forget(edit, *through),
        }
    }

    fn end_sessions(&mut self, edit: &mut Edit, sessions: &[SessionId]) {
        for id in sessions {
            self.end_session(edit, *id);
        }
    }

    /// Ends a session, if it lives, with the prepared queries that go with it, and frees or deletes what it has locked.
    fn end_session(&mut self, edit: &mut Edit, id: SessionId) {
        if let Some(session) = self.sessions.remove(edit, id) {
            self.kv.release(edit, &session.def);
            self.prepared.end_session(edit, id);
        }
    }

    fn register(&mut self, edit: &mut Edit, registration: &Registration) -> Result<(), String> {
        self.discovery
            .register(&mut self.coordinates, edit, registration)?;
        self.end_lost_sessions(edit);
        Ok(())
    }

    fn deregister(&mut self, edit: &mut Edit, deregistration: &Deregistration) -> Result<(), String> {
        self.discovery
            .deregister(&mut self.coordinates, edit, deregistration)?;
        self.end_lost_sessions(edit);
        Ok(())
    }

    fn write(&mut self, edit: &mut Edit, write: &KvWrite) -> Outcome {
        if let Err(what) = write.precheck() {
            return Outcome::Refused(what);
        }
        match self.kv.write(edit, &self.sessions, write) {
            Ok(done) => Outcome::Done(done),
            Err(error) => Outcome::Refused(error.to_string()),
        }
    }

    /// Carries several changes out, in order. On an error some of them may have been: use a copy.
    fn change_all(&mut self, edit: &mut Edit, changes: &[CatalogChange]) -> Result<(), String> {
        if changes.len() > MAX_CATALOG_CHANGES {
            return Err(format!(
                "invalid registration: it has {} changes, and may have {MAX_CATALOG_CHANGES}",
                changes.len()
            ));
        }
        changes.iter().try_for_each(|change| match change {
            CatalogChange::Register(registration) => self.register(edit, registration),
            CatalogChange::Deregister(deregistration) => self.deregister(edit, deregistration),
        })
    }

    /// Does something on a copy, which takes this state's place if it succeeds.
    fn tried<T, E>(
        &mut self,
        edit: &mut Edit,
        change: impl FnOnce(&mut Self, &mut Edit) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut scratch, mut tried) = (self.clone(), Edit::new(edit.index));
        let done = change(&mut scratch, &mut tried)?;
        *self = scratch;
        *edit = tried;
        Ok(done)
    }

    /// The object at this place as a row; `None` if there is none.
    pub(crate) fn row(&self, table: Table, key: &Key) -> Option<Row> {
        match table {
            Table::Kv => self.kv.entries.get(key).map(|entry| Row::of_entry(entry)),
            Table::KvTombstones => {
                let index = self.kv.graveyard.get(key)?;
                Some(Row::of_tombstone(key.clone(), index))
            }
            Table::Meta => self.counters().find(|row| row.key == *key),
            Table::Settings => self.settings().find(|row| row.key == *key),
            Table::Coordinates => {
                let entry = self.coordinates.entries.get(key)?;
                Some(Row::of_coordinate(key.clone(), entry))
            }
            Table::Nodes | Table::Services | Table::Checks | Table::Marks => self.discovery.row(table, key),
            Table::Sessions | Table::SessionMarks => self.sessions.row(table, key),
            Table::PreparedQueries => self.prepared.row(key),
            Table::LockDelays => {
                let delay = self.kv.locks.delays.get(key)?;
                Some(Row::of_lock_delay(key.clone(), *delay))
            }
            Table::Receipts => Some(Row {
                table,
                key: key.clone(),
                value: Some(self.receipts.value(key)?),
            }),
            Table::Staged => self.staging.as_ref()?.row(key),
        }
    }

    /// The rows of [`Table::Meta`], in order.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Row> + use<> {
        let counter = |name, index| (index > Index::ZERO).then(|| Row::of_counter(name, index));
        let counters = [
            counter(row::COORDINATES_INDEX, self.coordinates.index),
            self.discovery.counter(),
            counter(row::FENCE, Index(self.kv.locks.last_fence)),
            counter(row::KV_INDEX, self.kv.index),
            self.lineage.as_ref().map(Row::of_lineage),
            counter(row::PREPARED_INDEX, self.prepared.index),
            counter(row::SESSIONS_INDEX, self.sessions.index),
        ];
        counters.into_iter().flatten()
    }

    /// The rows of [`Table::Settings`], in order.
    pub(crate) fn settings(&self) -> impl Iterator<Item = Row> + use<> {
        let autopilot = self.autopilot.stored.as_ref();
        autopilot.map(|stored| Row::of_autopilot(stored)).into_iter()
    }
}

fn done(result: Result<(), String>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done(true))
}

impl fmt::Debug for State {
    /// Says how much there is, not what: a state may be large, and values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("applied", &self.applied.0)
            .field("kv_index", &self.kv.index.0)
            .field("keys", &self.kv.entries.len())
            .field("tombstones", &self.kv.graveyard.len())
            .field("coordinates", &self.coordinates.entries.len())
            .field("nodes", &self.discovery.len())
            .field("sessions", &self.sessions.len())
            .field("prepared_queries", &self.prepared.len())
            .finish_non_exhaustive()
    }
}
