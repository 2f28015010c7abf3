//! A state from its rows: at a start from disk, or from another server's snapshot.

use std::sync::Arc;

use lictor_machine::Index;

use crate::autopilot::{AUTOPILOT, AutopilotStore};
use crate::command::Key;
use crate::coordinate::Coordinates;
use crate::discovery::{Misfit, Parts};
use crate::once::Receipts;
use crate::prepared::PreparedParts;
use crate::quote::quote;
use crate::restore::{Lineage, StagedParts, revision};
use crate::row::{self, Row, Table, ValueError};
use crate::session::SessionParts;
use crate::state::State;
use crate::store::KvStore;

/// Collects rows, in any order, into a [`State`].
#[derive(Debug, Default)]
pub struct Builder {
    kv: KvStore,
    autopilot: AutopilotStore,
    coordinates: Coordinates,
    discovery: Parts,
    sessions: SessionParts,
    receipts: Receipts,
    prepared: PreparedParts,
    staged: StagedParts,
    lineage: Option<Lineage>,
    /// The highest fence of any entry.
    fence_highest: u64,
    /// The highest index of any lock delay.
    delays_highest: Index,
    /// Sessions of which tests say that they live.
    #[cfg(test)]
    pub(crate) assumed: imbl::OrdSet<crate::SessionId>,
    /// The highest index in any row of the key-value store.
    kv_highest: Index,
    /// The highest index of any coordinate.
    coordinates_highest: Index,
}

/// Why rows are not a state. Whatever it is, none of the rows should be used: restore from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row says that an object is gone; a state is built from what there is.
    #[error("row {name} of table {table:?} has no value")]
    NoValue {
        /// Its table.
        table: Table,
        /// Its key, quoted and perhaps shortened.
        name: String,
    },
    /// There were two rows for one object.
    #[error("row {name} of table {table:?} is there twice")]
    Duplicate {
        /// Its table.
        table: Table,
        /// Its key, quoted and perhaps shortened.
        name: String,
    },
    /// Its value does not follow its format.
    #[error("row {name} of table {table:?} is damaged: {detail}")]
    Damaged {
        /// Its table.
        table: Table,
        /// Its key, quoted and perhaps shortened.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A newer version of this program wrote it.
    #[error("row {name} of table {table:?} has format {found}, and this program knows none above {known}: start the newer version", known = row::VERSION)]
    NewerFormat {
        /// Its table.
        table: Table,
        /// Its key, quoted and perhaps shortened.
        name: String,
        /// The format found.
        found: u8,
    },
    /// Nothing of this name is known in its table.
    #[error("row {name} of table {table:?} is unknown: perhaps a newer version of this program wrote it")]
    Unknown {
        /// Its table.
        table: Table,
        /// Its key, quoted and perhaps shortened.
        name: String,
    },
    /// A row belongs to another that is not there.
    #[error("row {name} of table {table:?} does not go with the others: {detail}")]
    Misfit {
        /// Its table.
        table: Table,
        /// Its key, quoted and perhaps shortened.
        name: String,
        /// What is wrong.
        detail: &'static str,
    },
    /// The rows do not belong together.
    #[error(
        "rows are missing or mixed: objects go up to index {highest}, their table says {table_index}, and {applied} was applied"
    )]
    Inconsistent {
        /// The highest index of any object.
        highest: Index,
        /// The index of the objects' table.
        table_index: Index,
        /// What was applied, as the caller knows.
        applied: Index,
    },
}

impl Builder {
    /// With no rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row. On an error it is not added.
    pub fn add(&mut self, row: Row) -> Result<(), RowError> {
        let Row { table, key, value } = row;
        let Some(value) = value else {
            return Err(RowError::NoValue {
                table,
                name: name(&key),
            });
        };
        let taken = match table {
            Table::Kv => self.kv.entries.contains_key(&key),
            Table::KvTombstones => self.kv.graveyard.get(&key).is_some(),
            Table::Coordinates => self.coordinates.entries.contains_key(&key),
            Table::Meta if key == row::KV_INDEX => self.kv.index > Index::ZERO,
            Table::Meta if key == row::COORDINATES_INDEX => self.coordinates.index > Index::ZERO,
            Table::Settings if key == AUTOPILOT => self.autopilot.stored.is_some(),
            Table::Meta if key == row::DISCOVERY_INDEXES => self.discovery.contains(table, &key),
            Table::Meta if key == row::SESSIONS_INDEX => self.sessions.index > Index::ZERO,
            Table::Meta if key == row::PREPARED_INDEX => self.prepared.index > Index::ZERO,
            Table::Meta if key == row::FENCE => self.kv.locks.last_fence > 0,
            Table::Sessions | Table::SessionMarks => self.sessions.contains(table, &key),
            Table::LockDelays => self.kv.locks.delays.contains_key(&key),
            Table::Receipts => self.receipts.contains(&key),
            Table::PreparedQueries => self.prepared.contains(&key),
            Table::Staged => self.staged.contains(&key),
            Table::Meta if key == row::LINEAGE => self.lineage.is_some(),
            Table::Nodes | Table::Services | Table::Checks | Table::Marks => {
                self.discovery.contains(table, &key)
            }
            Table::Meta | Table::Settings => {
                return Err(RowError::Unknown {
                    table,
                    name: name(&key),
                });
            }
        };
        if taken {
            return Err(RowError::Duplicate {
                table,
                name: name(&key),
            });
        }
        let unreadable = |key: &Key, error| match error {
            ValueError::NewerFormat(found) => RowError::NewerFormat {
                table,
                name: name(key),
                found,
            },
            ValueError::Damaged(detail) => RowError::Damaged {
                table,
                name: name(key),
                detail,
            },
        };
        if key.is_empty() {
            let detail = "it has no key".to_owned();
            return Err(RowError::Damaged {
                table,
                name: name(&key),
                detail,
            });
        }
        match table {
            Table::Kv => {
                let entry =
                    row::decode_entry(key.clone(), &value).map_err(|error| unreadable(&key, error))?;
                self.kv_highest = self.kv_highest.max(entry.modify_index);
                self.fence_highest = self.fence_highest.max(entry.fence());
                self.kv.locks.moved(&key, None, Some(&entry));
                self.kv.entries.insert(key, Arc::new(entry));
            }
            Table::KvTombstones => {
                let index = row::decode_index(&value).map_err(|error| unreadable(&key, error))?;
                self.kv_highest = self.kv_highest.max(index);
                self.kv.graveyard.bury(key, index);
            }
            Table::Meta if key == row::DISCOVERY_INDEXES => {
                let added = self.discovery.add_indexes(&value);
                added.map_err(|error| unreadable(&key, error))?;
            }
            Table::Nodes => self
                .discovery
                .add_node(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::Services => self
                .discovery
                .add_service(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::Checks => self
                .discovery
                .add_check(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::Marks => self
                .discovery
                .add_mark(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::Meta if key == row::LINEAGE => {
                let lineage = Lineage::decode(&value).map_err(|error| unreadable(&key, error))?;
                self.lineage = Some(lineage);
            }
            Table::Meta => {
                let index = row::decode_index(&value).map_err(|error| unreadable(&key, error))?;
                if key == row::KV_INDEX {
                    self.kv.index = index;
                } else if key == row::SESSIONS_INDEX {
                    self.sessions.index = index;
                } else if key == row::PREPARED_INDEX {
                    self.prepared.index = index;
                } else if key == row::FENCE {
                    self.kv.locks.last_fence = index.0;
                } else {
                    self.coordinates.index = index;
                }
            }
            Table::Sessions => self
                .sessions
                .add_session(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::SessionMarks => self
                .sessions
                .add_mark(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::LockDelays => {
                let delay = row::decode_lock_delay(&value).map_err(|error| unreadable(&key, error))?;
                self.delays_highest = self.delays_highest.max(delay.since);
                self.kv.locks.delays.insert(key, delay);
            }
            Table::Receipts => self
                .receipts
                .add(&key, &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::PreparedQueries => self
                .prepared
                .add(key.clone(), &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::Staged => self
                .staged
                .add(&key, &value)
                .map_err(|error| unreadable(&key, error))?,
            Table::Settings => {
                let autopilot = row::decode_autopilot(&value).map_err(|error| unreadable(&key, error))?;
                self.autopilot.stored = Some(Arc::new(autopilot));
            }
            Table::Coordinates => {
                let entry = row::decode_coordinate(&key, &value).map_err(|error| unreadable(&key, error))?;
                self.coordinates_highest = self.coordinates_highest.max(entry.modify_index);
                self.coordinates.entries.insert(key, Arc::new(entry));
            }
        }
        Ok(())
    }

    /// The state that the rows describe, `applied` being the last index whose effects are in them. Fails if rows are missing that there
    /// must be, or are from the future.
    pub fn finish(self, applied: Index) -> Result<State, RowError> {
        let (settings, _) = self.autopilot.get();
        let present = revision(applied, self.lineage);
        let bounds = [
            (self.kv_highest, self.kv.index),
            (self.coordinates_highest, self.coordinates.index),
            (settings, settings),
            self.sessions.bounds(),
            self.prepared.bounds(),
            (self.delays_highest, present),
            (self.receipts.latest(), present),
        ];
        for (highest, table_index) in bounds.into_iter().chain(self.discovery.bounds()) {
            if highest > table_index || table_index > present {
                return Err(RowError::Inconsistent {
                    highest,
                    table_index,
                    applied: present,
                });
            }
        }
        let misfit = |Misfit(table, key, detail): Misfit| RowError::Misfit {
            table,
            name: name(&key),
            detail,
        };
        let discovery = self.discovery.finish().map_err(misfit)?;
        let sessions = self.sessions.finish(&discovery).map_err(misfit)?;
        #[cfg(test)]
        let sessions = sessions.assuming(self.assumed);
        let prepared = self.prepared.finish(&sessions).map_err(misfit)?;
        if self.fence_highest > self.kv.locks.last_fence {
            let key = Key::from_static(row::FENCE);
            return Err(misfit(Misfit(Table::Meta, key, "a lock has a higher one")));
        }
        if let Some(key) = self.kv.locks.held_by_nobody(|id| sessions.lives(id)) {
            let detail = "the session that holds its lock is missing";
            return Err(misfit(Misfit(Table::Kv, key.clone(), detail)));
        }
        let staging = self
            .staged
            .finish()
            .map_err(|(key, detail)| misfit(Misfit(Table::Staged, key, detail)))?;
        Ok(State {
            applied,
            kv: self.kv,
            sessions,
            autopilot: self.autopilot,
            coordinates: self.coordinates,
            discovery,
            receipts: self.receipts,
            prepared,
            staging,
            lineage: self.lineage,
        })
    }
}

/// A key for a message: quoted, and not longer than a line.
fn name(key: &Key) -> String {
    const MAX: usize = 64;
    match key.get(..MAX) {
        Some(start) if key.len() > MAX => format!("{}...", quote(start)),
        _ => quote(key),
    }
}
