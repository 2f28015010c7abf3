//! The whole state gives way to another one, which comes from an archive.
//!
//! An archive comes in as commands, so it passes through the log as everything does: it begins, its rows follow in chunks, and one last
//! command puts it in the place of all there is. Until then nobody can read any of it, and behind it nobody can read anything else.
//! What has come in so far is rows itself, of [`Table::Staged`]: a server that is started again, or receives a snapshot, in the middle
//! of it goes on with the others. Each step may come twice: whoever takes an archive in repeats what it does not know the end of.
//!
//! **Indexes** go on rising. The rows keep theirs, which may be from another cluster's log, and far higher than this one's. So a
//! restored state counts [`State::revision`]s instead of entries of the log: it is ahead of them by as much as it takes to be behind
//! nothing that was ever seen. And no answer has an index below the revision that restored the state, so whoever waits for a change of
//! anything gets an answer, and never one that seems older than what it has.

use bytes::Bytes;
use imbl::Vector;
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkError, decode_chunk};
use crate::command::{Key, Outcome};
use crate::edit::Edit;
use crate::import::{Builder, RowError};
use crate::row::{Row, Table, ValueError, decode, encode};
use crate::state::{ApplyError, State};

/// The highest index that the rows of an archive may have: far beyond what a log ever comes to, since a million writes a second take a
/// century to get there; and as far from 2^53, above which clients that count in doubles take two indexes for the same.
pub const MAX_ARCHIVE_INDEX: Index = Index(1 << 52);

/// Names one restoring of one archive. Drawn at random by whoever takes it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RestoreId(pub u128);

/// A part of taking an archive in. The answer is [`Outcome::Done`], also if it was done before, or [`Outcome::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreStep {
    /// An archive will come. What has come of another one is dropped.
    Begin {
        /// Names it.
        id: RestoreId,
        /// The index that the archive is of: none of its rows has a higher one. At most [`MAX_ARCHIVE_INDEX`].
        index: Index,
    },
    /// Rows of it.
    Chunk {
        /// Which archive.
        id: RestoreId,
        /// Which chunk, from 0 without gaps.
        number: u64,
        /// What [`crate::encode_chunk`] made.
        rows: Bytes,
    },
    /// It takes the place of everything.
    Finish {
        /// Which archive.
        id: RestoreId,
        /// How many chunks there were.
        chunks: u64,
    },
    /// It will not come to its end: what has come of it is dropped.
    Abandon(RestoreId),
}

/// An archive that is coming in. Clones are O(1).
#[derive(Clone, Debug)]
pub(crate) struct Staging {
    id: RestoreId,
    index: Index,
    chunks: Vector<Bytes>,
    building: Building,
}

/// The state that the chunks so far are going to be. It is kept only where commands are applied, and not by clones for readers; without it
/// the last step takes the time to build it, and comes to the same.
#[derive(Debug, Default)]
pub(crate) struct Building(Option<Box<Builder>>);

impl Clone for Building {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Building {
    /// Whether it is there.
    #[cfg(test)]
    pub(crate) const fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

/// What a state that was restored from an archive knows of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    id: RestoreId,
    /// By how much revisions are ahead of the log.
    ahead: u64,
    /// The revision that restored it.
    floor: Index,
}

/// What a step has led to.
pub(crate) enum Stepped {
    /// An answer.
    Answer(Outcome),
    /// The state is another one.
    Replaced,
}

/// The name of the row in [`Table::Staged`] that says which archive is coming in. All others are named after their number.
const HEAD: &[u8] = b"head";

impl State {
    /// The index that what changes at this point of the log gets: that of the log, unless an archive was restored whose indexes were higher.
    pub fn revision(&self) -> Index {
        revision(self.applied, self.lineage)
    }

    /// The archive that is coming in, if there is one, and how many chunks of it have come.
    pub fn restoring(&self) -> Option<(RestoreId, u64)> {
        let staging = self.staging.as_ref()?;
        Some((staging.id, staging.chunks.len() as u64))
    }

    /// This state as it goes into an archive: as of its revision, and without what concerns only this cluster.
    #[must_use]
    pub fn for_archive(&self) -> Self {
        Self {
            applied: self.revision(),
            staging: None,
            lineage: None,
            ..self.clone()
        }
    }

    /// Whether it is as [`Self::for_archive`] makes it, and so may be restored.
    pub fn is_for_archive(&self) -> bool {
        let highest = self.applied.max(Index(self.kv.locks.last_fence));
        self.staging.is_none() && self.lineage.is_none() && highest <= MAX_ARCHIVE_INDEX
    }

    /// The revision at which an archive took the place of everything, or 0. What the leader knew of times before is of another state: see
    /// [`crate::Action::RunOut`].
    pub fn era(&self) -> Index {
        self.floor()
    }

    /// Below this no answer's index is.
    pub(crate) fn floor(&self) -> Index {
        self.lineage.map_or(Index::ZERO, |lineage| lineage.floor)
    }

    /// Carries a step out, at a point of the log to which the state has advanced already. On an error nothing has changed.
    pub(crate) fn restore(&mut self, edit: &mut Edit, step: &RestoreStep) -> Result<Stepped, ApplyError> {
        let outcome = match step {
            RestoreStep::Begin { id, index } => self.begin_restore(edit, *id, *index),
            RestoreStep::Chunk { id, number, rows } => self.stage(edit, *id, *number, rows),
            RestoreStep::Finish { id, chunks } => return self.finish_restore(edit, *id, *chunks),
            RestoreStep::Abandon(id) => {
                if self.staging.as_ref().is_some_and(|staging| staging.id == *id) {
                    self.drop_staging(edit);
                }
                done()
            }
        };
        Ok(Stepped::Answer(outcome))
    }

    fn begin_restore(&mut self, edit: &mut Edit, id: RestoreId, index: Index) -> Outcome {
        if self.staging.as_ref().is_some_and(|staging| staging.id == id) {
            return done();
        }
        if index > MAX_ARCHIVE_INDEX {
            return refused("the archive's index is higher than any can be");
        }
        self.drop_staging(edit);
        self.staging = Some(Staging {
            id,
            index,
            chunks: Vector::new(),
            building: Building(Some(Box::default())),
        });
        edit.changed(Table::Staged, Key::from_static(HEAD));
        done()
    }

    /// Keeps a chunk, whatever is in it: what that is worth is said in the end. Not every server looks at it here, since one that was
    /// started again meanwhile builds nothing until then; and all have to come to the same answer.
    fn stage(&mut self, edit: &mut Edit, id: RestoreId, number: u64, rows: &Bytes) -> Outcome {
        let Some(staging) = self.staging.as_mut().filter(|staging| staging.id == id) else {
            return superseded();
        };
        let expected = staging.chunks.len() as u64;
        if number < expected {
            return done();
        }
        if number > expected {
            return refused("a part of the archive is missing before this one");
        }
        if let Some(builder) = &mut staging.building.0
            && builder.add_staged(rows).is_err()
        {
            // Some of its rows may be in there. What is wrong is found again when all is built at the end.
            staging.building = Building(None);
        }
        staging.chunks.push_back(rows.clone());
        edit.changed(Table::Staged, chunk_key(number));
        done()
    }

    fn finish_restore(&mut self, edit: &mut Edit, id: RestoreId, chunks: u64) -> Result<Stepped, ApplyError> {
        if self.lineage.is_some_and(|lineage| lineage.id == id) {
            return Ok(Stepped::Answer(done()));
        }
        let Some(staging) = self.staging.as_mut().filter(|staging| staging.id == id) else {
            return Ok(Stepped::Answer(superseded()));
        };
        if staging.chunks.len() as u64 != chunks {
            return Ok(Stepped::Answer(refused("a part of the archive is missing")));
        }
        let mut state = match staging.build() {
            Ok(state) => state,
            Err(error) => {
                let outcome = error.verdict()?;
                self.drop_staging(edit);
                return Ok(Stepped::Answer(outcome));
            }
        };
        let lineage = Lineage {
            id,
            ahead: {
                let ahead = self.lineage.map_or(0, |lineage| lineage.ahead);
                ahead.max(staging.index.0.saturating_add(1).saturating_sub(self.applied.0))
            },
            floor: Index::ZERO,
        };
        state.applied = self.applied;
        state.lineage = Some(Lineage {
            floor: revision(self.applied, Some(lineage)),
            ..lineage
        });
        // Whoever was given a fence since the archive was made must not meet it again.
        let fence = &mut state.kv.locks.last_fence;
        *fence = (*fence).max(self.kv.locks.last_fence);
        #[cfg(feature = "sabotage")]
        state.sabotage(self.mistake());
        *self = state;
        Ok(Stepped::Replaced)
    }

    fn drop_staging(&mut self, edit: &mut Edit) {
        let Some(staging) = self.staging.take() else {
            return;
        };
        edit.changed(Table::Staged, Key::from_static(HEAD));
        for number in 0..staging.chunks.len() as u64 {
            edit.changed(Table::Staged, chunk_key(number));
        }
    }
}

impl Staging {
    /// Takes the state under construction out, for as long as other things are done to the state that it is in.
    pub(crate) fn take_building(&mut self) -> Building {
        std::mem::take(&mut self.building)
    }

    /// Puts it back.
    pub(crate) fn put_building(&mut self, building: Building) {
        self.building = building;
    }

    /// The state that the chunks are.
    fn build(&mut self) -> Result<State, StagedError> {
        let builder = if let Building(Some(builder)) = self.take_building() {
            *builder
        } else {
            let mut builder = Builder::new();
            for chunk in &self.chunks {
                builder.add_staged(chunk)?;
            }
            builder
        };
        let state = builder.finish(self.index)?;
        if state.is_for_archive() {
            Ok(state)
        } else {
            Err(StagedError::Foreign)
        }
    }

    /// The row of this name, if it is one.
    pub(crate) fn row(&self, key: &Key) -> Option<Row> {
        if key == HEAD {
            return Some(self.head());
        }
        let number = number(key)?;
        let chunk = self.chunks.get(usize::try_from(number).ok()?)?;
        Some(chunk_row(number, chunk))
    }

    /// The rows behind this one, or all, in order.
    pub(crate) fn rows_behind<'a>(&'a self, after: Option<&[u8]>) -> impl Iterator<Item = Row> + 'a {
        // Numbers come before the name of the head, since none begins with a byte as high.
        let (first, head) = match after {
            None => (0, true),
            Some(HEAD) => (u64::MAX, false),
            Some(key) => (number(key).map_or(0, |number| number.saturating_add(1)), true),
        };
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let chunks = self.chunks.iter().enumerate().skip(first);
        chunks
            .map(|(number, chunk)| chunk_row(number as u64, chunk))
            .chain(head.then(|| self.head()))
    }

    fn head(&self) -> Row {
        Row {
            table: Table::Staged,
            key: Key::from_static(HEAD),
            value: Some(encode(&(self.id, self.index), 32)),
        }
    }
}

impl Lineage {
    /// The lineage that a row holds.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, ValueError> {
        let lineage: Self = decode(value)?;
        if lineage.ahead > MAX_ARCHIVE_INDEX.0 + 1 {
            return Err(ValueError::Damaged("it is ahead of everything".to_owned()));
        }
        Ok(lineage)
    }
}

/// The revision of a state that has come to this entry of the log.
pub(crate) fn revision(applied: Index, lineage: Option<Lineage>) -> Index {
    let ahead = lineage.map_or(0, |lineage| lineage.ahead);
    Index(applied.0.saturating_add(ahead))
}

/// Rows of [`Table::Staged`] on their way to be a [`Staging`], in any order.
#[derive(Debug, Default)]
pub(crate) struct StagedParts {
    head: Option<(RestoreId, Index)>,
    chunks: std::collections::BTreeMap<u64, Bytes>,
}

impl StagedParts {
    /// Whether a row of this name was added.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        if key == HEAD {
            return self.head.is_some();
        }
        number(key).is_some_and(|number| self.chunks.contains_key(&number))
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), ValueError> {
        if key == HEAD {
            self.head = Some(decode(value)?);
            return Ok(());
        }
        let Some(number) = number(key) else {
            return Err(ValueError::Damaged("its name says nothing".to_owned()));
        };
        self.chunks.insert(number, decode(value)?);
        Ok(())
    }

    /// What the rows describe; the name of one that does not go with the others, if there is one.
    pub(crate) fn finish(self) -> Result<Option<Staging>, (Key, &'static str)> {
        let Some((id, index)) = self.head else {
            let stray = self.chunks.first_key_value();
            return stray.map_or(Ok(None), |(number, _)| {
                Err((chunk_key(*number), "no archive is coming in"))
            });
        };
        let mut chunks = Vector::new();
        for (number, chunk) in self.chunks {
            if number != chunks.len() as u64 {
                return Err((chunk_key(number), "the one before it is missing"));
            }
            chunks.push_back(chunk);
        }
        Ok(Some(Staging {
            id,
            index,
            chunks,
            building: Building(None),
        }))
    }
}

/// Why an archive is no state.
enum StagedError {
    Chunk(ChunkError),
    Row(RowError),
    /// It holds what belongs to another cluster's own affairs.
    Foreign,
}

impl From<RowError> for StagedError {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

impl StagedError {
    /// Servers of all versions must come to the same state. So what only some of them may be able to read stops the others; and what
    /// none can read is refused by all.
    fn verdict(self) -> Result<Outcome, ApplyError> {
        match self {
            Self::Chunk(error) if error.is_from_the_future() => Err(ApplyError::Archive(error.to_string())),
            Self::Row(error @ (RowError::NewerFormat { .. } | RowError::Unknown { .. })) => {
                Err(ApplyError::Archive(error.to_string()))
            }
            Self::Chunk(error) => Ok(refused(&format!("the archive cannot be read: {error}"))),
            Self::Row(error) => Ok(refused(&format!("the archive cannot be read: {error}"))),
            Self::Foreign => Ok(refused("the archive holds what no archive should")),
        }
    }
}

impl Builder {
    /// Adds the rows of a chunk. After an error some may have been added.
    fn add_staged(&mut self, chunk: &[u8]) -> Result<(), StagedError> {
        let rows = decode_chunk(chunk).map_err(StagedError::Chunk)?;
        Ok(rows.into_iter().try_for_each(|row| self.add(row))?)
    }
}

fn chunk_row(number: u64, chunk: &Bytes) -> Row {
    Row {
        table: Table::Staged,
        key: chunk_key(number),
        value: Some(encode(chunk, chunk.len())),
    }
}

fn chunk_key(number: u64) -> Key {
    Key::copy_from_slice(&number.to_be_bytes())
}

fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn done() -> Outcome {
    Outcome::Done(true)
}

fn superseded() -> Outcome {
    refused("another archive is being restored, or this one was given up; nothing was changed")
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused(why.to_owned())
}
