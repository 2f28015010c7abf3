//! One server and its disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use lictor_catalog::{Export, State};
use lictor_machine::{NodeId, Token};
use lictor_node::store::{
    LogStore, MemoryDisk, MemoryLog, MemoryState, Notes, StateBatch, StateStore, store_whole,
};
use lictor_node::{Answer, Config, Event, Input, Node, Standing};
use lictor_raft::{LogId, SnapshotMeta, WriteBatch};

/// Something for the log store to do.
#[derive(Debug)]
pub enum LogJob {
    Write(Box<WriteBatch>),
    Notes(Notes),
}

/// Something for the state store to do.
#[derive(Debug)]
pub enum StateJob {
    Write(StateBatch),
    Replace(SnapshotMeta),
    Whole(LogId, Box<Export>),
}

/// One server and its disk.
pub struct Seat {
    pub node: Node,
    pub config: Config,
    pub disk: MemoryDisk,
    pub(super) log: MemoryLog,
    pub(super) state: MemoryState,
    pub alive: bool,
    pub log_jobs: VecDeque<LogJob>,
    pub state_jobs: VecDeque<StateJob>,
    /// While set, the stores do nothing.
    pub hold_log: bool,
    pub hold_state: bool,
    /// The power is cut when this many more jobs of the log are done.
    pub crash_after: Option<u32>,
    pub answers: BTreeMap<Token, Answer>,
    pub published: State,
    pub standing: Option<Standing>,
    pub events: Vec<Event>,
    pub contacts: Vec<SocketAddr>,
    pub left: bool,
    pub removed: bool,
    /// Servers that this one wanted gossip to give up.
    pub expelled: BTreeSet<NodeId>,
    pub wakes: u64,
}

impl Seat {
    pub fn work_log(&mut self) -> Option<Input> {
        Some(match self.log_jobs.pop_front()? {
            LogJob::Write(batch) => match self.log.write(std::slice::from_ref(&*batch)) {
                Ok(()) => Input::Persisted { through: batch.id },
                Err(error) => Input::PersistFailed {
                    id: batch.id,
                    detail: error.to_string(),
                },
            },
            LogJob::Notes(notes) => {
                self.log.write_notes(&notes).unwrap();
                Input::NotesSaved
            }
        })
    }

    pub fn work_state(&mut self) -> Option<Input> {
        let (applied, done) = match self.state_jobs.pop_front()? {
            StateJob::Write(batch) => (batch.applied.index, self.state.write(&batch)),
            StateJob::Replace(meta) => {
                let installed = self.log.installed().unwrap().expect("the chunks are staged");
                assert_eq!(
                    installed.snapshot.last, meta.last,
                    "another snapshot was staged meanwhile"
                );
                let reader = self.log.reader();
                let mut part = |part| installed.rows(&*reader, part);
                let done = self.state.replace(&meta, &mut part);
                self.log.forget_staged(meta.last).unwrap();
                (meta.last.index, done)
            }
            StateJob::Whole(applied, state) => (applied.index, store_whole(&mut self.state, applied, &state)),
        };
        Some(match done {
            Ok(()) => Input::StateStored { applied },
            Err(error) => Input::StateFailed {
                detail: error.to_string(),
            },
        })
    }
}
