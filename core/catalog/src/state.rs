//! The catalog's state and its one way to change: applying commands in the order of the log.

use std::fmt;

use lictor_machine::Index;

use crate::autopilot::AutopilotStore;
use crate::command::{Action, Command, Key, KvWrite, Outcome, TxnError, TxnOp, TxnResult};
use crate::coordinate::Coordinates;
use crate::discovery::{CatalogChange, Discovery};
use crate::edit::{Edit, Touched};
use crate::export::{Cursor, Export};
use crate::row::{self, Row, Table};
use crate::session::Sessions;
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
}

/// What one or more commands changed, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// For storage: later rows win over earlier ones.
    pub rows: Vec<Row>,
    /// For [`crate::Watches`].
    pub touched: Touched,
}

impl Changes {
    /// Whether nothing was changed at all.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.touched.is_empty()
    }
}

/// Why a command was not applied. The state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A command at this index, or at a later one, has been applied before. To apply one twice would corrupt the state.
    #[error("the entry at index {index} was already applied: the state is at index {applied}")]
    NotNewer {
        /// The command's index.
        index: Index,
        /// The last one applied.
        applied: Index,
    },
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
    /// Everything that the command changes gets `index`; a command that changes nothing moves no index but [`Self::index`].
    pub fn apply(
        &mut self,
        index: Index,
        command: &Command,
        changes: &mut Changes,
    ) -> Result<Outcome, ApplyError> {
        self.advance(index)?;
        let mut edit = Edit::new(index);
        let outcome = match &command.action {
            Action::Kv(write) => self.write(&mut edit, write),
            Action::Txn(ops) => Outcome::Txn(self.txn(&mut edit, ops)),
            Action::ReapTombstones(through) => {
                self.kv.reap(&mut edit, *through);
                Outcome::Done(true)
            }
            Action::SetAutopilot { config, cas } => self
                .autopilot
                .set(&mut edit, config, *cas)
                .map_or_else(Outcome::Refused, Outcome::Done),
            Action::Coordinates(updates) => self
                .coordinates
                .update(&mut edit, updates)
                .map_or_else(Outcome::Refused, |()| Outcome::Done(true)),
            Action::ForgetCoordinates(nodes) => {
                self.coordinates.forget(&mut edit, nodes);
                Outcome::Done(true)
            }
            Action::Register(registration) => done(self.discovery.register(
                &mut self.coordinates,
                &mut edit,
                registration,
            )),
            Action::Deregister(deregistration) => done(self.discovery.deregister(
                &mut self.coordinates,
                &mut edit,
                deregistration,
            )),
            Action::RegisterMany(changes) => done(self.change_all(&mut edit, changes)),
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
        txn::read(&self.kv, &self.sessions, ops)
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
        let mut hash = Fnv::new();
        hash.number(self.applied.0);
        for row in self.rows_from(&Cursor::start()) {
            hash.number(row.table as u64);
            hash.bytes(&row.key);
            hash.bytes(&row.value.unwrap_or_default());
        }
        hash.0
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

    fn txn(&mut self, edit: &mut Edit, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Vec<TxnError>> {
        let mut scratch = self.kv.clone();
        let mut tried = Edit::new(edit.index);
        let results = txn::run(&mut scratch, &mut tried, &self.sessions, ops)?;
        self.kv = scratch;
        *edit = tried;
        Ok(results)
    }

    fn change_all(&mut self, edit: &mut Edit, changes: &[CatalogChange]) -> Result<(), String> {
        let mut discovery = self.discovery.clone();
        let mut coordinates = self.coordinates.clone();
        let mut tried = Edit::new(edit.index);
        discovery.change_all(&mut coordinates, &mut tried, changes)?;
        self.discovery = discovery;
        self.coordinates = coordinates;
        *edit = tried;
        Ok(())
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
        }
    }

    /// The rows of [`Table::Meta`], in order.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Row> + use<> {
        let counter = |name, index| (index > Index::ZERO).then(|| Row::of_counter(name, index));
        let counters = [
            counter(row::COORDINATES_INDEX, self.coordinates.index),
            self.discovery.counter(),
            counter(row::KV_INDEX, self.kv.index),
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
            .finish_non_exhaustive()
    }
}

/// FNV-1a with 64 bits (Fowler, Noll and Vo).
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn number(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// With the length in front, so that no two lists of byte strings look alike.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
