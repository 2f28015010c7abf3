//! The state store.

use std::path::Path;

use heed::RwTxn;
use lictor_catalog::{Row, Table};
use lictor_node::store::{Breach, PartSource, StateBatch, StateMark, StateStore, StoreError};
use lictor_raft::{LogId, SnapshotMeta};

use crate::Options;
use crate::directory::Lock;
use crate::environment::{Environment, Layout};
use crate::error::{Failure, refusal};
use crate::key;
use crate::tree::{Scratch, Tree};

const MARK: &[u8] = b"mark";
const ROWS: &str = "rows-";

/// The state store on LMDB: one table of its for each [`Table`].
#[derive(Debug)]
pub struct LmdbState {
    env: Environment,
    /// Small things, by name.
    meta: Tree,
    /// In the order of [`Table::ALL`].
    rows: Vec<Tree>,
    mark: LogId,
    scratch: Scratch,
    failed: Option<StoreError>,
}

impl LmdbState {
    pub(crate) fn open(dir: &Path, options: &Options, lock: Lock) -> Result<Self, StoreError> {
        let names = Table::ALL.map(|table| format!("{ROWS}{}", table as u8));
        let mut tables = vec!["meta"];
        tables.extend(names.iter().map(String::as_str));
        let layout = Layout {
            kind: b'S',
            tables: &tables,
            numbered: Some(ROWS),
            map_bytes: options.state_map_bytes,
            max_map_bytes: options.max_map_bytes,
        };
        let (env, mut trees) = Environment::open(dir, &layout, lock)?;
        let rows = trees.split_off(1);
        let meta = trees.pop().expect("one tree for each table of the layout");
        let mark = env.read(|txn| meta.get_as(txn, MARK))?.unwrap_or(LogId::ZERO);
        Ok(Self {
            env,
            meta,
            rows,
            mark,
            scratch: Scratch::new(),
            failed: None,
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failed
            .as_ref()
            .map_or(Ok(()), |earlier| Err(refusal(self.env.file(), earlier)))
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Full { .. }) {
            self.failed = Some(error.clone());
        }
        error
    }
}

impl StateStore for LmdbState {
    fn mark(&self) -> Result<StateMark, StoreError> {
        Ok(StateMark { applied: self.mark })
    }

    fn load(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<StateMark, StoreError> {
        self.env.read(|txn| {
            for (table, tree) in Table::ALL.into_iter().zip(&self.rows) {
                key::scan(tree, txn, &mut |key, value| {
                    Ok(row(Row {
                        table,
                        key,
                        value: Some(value),
                    })?)
                })?;
            }
            Ok(StateMark { applied: self.mark })
        })
    }

    fn write(&mut self, batch: &StateBatch) -> Result<(), StoreError> {
        self.check()?;
        if batch.applied.index < self.mark.index {
            let breach = Breach::StateGoesBack {
                from: self.mark,
                to: batch.applied,
            };
            let path = self.env.file().to_string();
            return Err(self.fail(StoreError::Contract { path, breach }));
        }
        let Self {
            env,
            meta,
            rows,
            scratch,
            ..
        } = self;
        let written = env.write(|txn| {
            put_rows(rows, txn, scratch, &batch.rows)?;
            meta.put_as(txn, MARK, scratch, &batch.applied)
        });
        written.map_err(|error| self.fail(error))?;
        self.mark = batch.applied;
        Ok(())
    }

    fn replace(&mut self, snapshot: &SnapshotMeta, part: &mut PartSource<'_>) -> Result<(), StoreError> {
        self.check()?;
        let Self {
            env,
            meta,
            rows,
            scratch,
            ..
        } = self;
        let mut source_failed = false;
        let replaced = env.write(|txn| {
            for tree in &*rows {
                tree.raw().clear(txn)?;
            }
            for number in 0.. {
                let Some(part) = part(number).inspect_err(|_| source_failed = true)? else {
                    break;
                };
                put_rows(rows, txn, scratch, &part)?;
            }
            meta.put_as(txn, MARK, scratch, &snapshot.last)
        });
        match replaced {
            Ok(()) => {
                self.mark = snapshot.last;
                Ok(())
            }
            Err(error) if source_failed => Err(error),
            Err(error) => Err(self.fail(error)),
        }
    }
}

fn put_rows(trees: &[Tree], txn: &mut RwTxn<'_>, scratch: &mut Scratch, rows: &[Row]) -> Result<(), Failure> {
    for row in rows {
        let position = Table::ALL
            .iter()
            .position(|table| *table == row.table)
            .expect("`ALL` is all tables");
        let tree = &trees[position];
        match &row.value {
            Some(value) => key::put(tree, txn, scratch, &row.key, value)?,
            None => key::delete(tree, txn, &row.key)?,
        }
    }
    Ok(())
}
