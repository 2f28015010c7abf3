//! The state as chunks of rows: served to servers that lag behind, and received from the leader.

use std::collections::BTreeMap;

use core::time::Duration;

use lictor_catalog::{Builder, Cursor, Export, State};
use lictor_machine::Instant;
use lictor_raft::{self as raft, FetchId, Fetched, LogId, SnapshotMeta, StagedChunk};

use crate::node::{Node, NodeFault};
use crate::store::{decode_rows, encode_rows};

/// How many snapshots may be held for servers that are receiving them. Each is O(1) to take, but keeps old rows in memory.
const SERVED_MAX: usize = 2;

/// A snapshot that nobody asked for in this time is dropped.
const SERVED_FOR: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct Served {
    meta: SnapshotMeta,
    export: Export,
    /// Where each chunk begins, as far as they have been asked for.
    chunks: Vec<Cursor>,
    used: Instant,
}

/// Snapshots that are being sent.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    served: BTreeMap<LogId, Served>,
}

impl Serving {
    pub(crate) fn forget_old(&mut self, now: Instant) {
        self.served
            .retain(|_, served| now.since(served.used) < SERVED_FOR);
    }
}

/// A snapshot that is being received: its rows become a state as they come.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    builder: Option<(LogId, Builder)>,
}

impl Node {
    pub(crate) fn serve_chunk(&mut self, id: FetchId, snapshot: Option<LogId>, chunk: u64) {
        let data = self.chunk(snapshot, chunk).unwrap_or(Fetched::Gone);
        self.tell_raft(raft::Input::Fetched { id, data });
    }

    fn chunk(&mut self, snapshot: Option<LogId>, chunk: u64) -> Option<Fetched> {
        let now = self.now();
        let wanted = match snapshot {
            Some(snapshot) => snapshot,
            None => self.newest_snapshot(),
        };
        let served = self.serving.served.get_mut(&wanted)?;
        served.used = now;
        let from = served.chunks.get(usize::try_from(chunk).ok()?)?.clone();
        let (rows, next) = served.export.chunk(&from, self.config.chunk_bytes);
        let done = next.is_none();
        if let Some(next) = next.filter(|_| served.chunks.len() as u64 == chunk + 1) {
            served.chunks.push(next);
        }
        Some(match encode_rows(&rows) {
            Ok(data) => Fetched::Chunk {
                meta: served.meta.clone(),
                chunk,
                data,
                done,
            },
            Err(error) => Fetched::Failed(error.to_string()),
        })
    }

    /// A snapshot for a server that begins to receive one. One that is being served already does as well, as long as the log goes on
    /// behind it: otherwise several servers that lag would push each other's out of the few that are held, for ever.
    fn newest_snapshot(&mut self) -> LogId {
        let usable = self.serving.served.keys().rev();
        usable
            .copied()
            .find(|last| self.raft.id_at(last.index) == Some(*last))
            .unwrap_or_else(|| self.take_snapshot())
    }

    fn take_snapshot(&mut self) -> LogId {
        let last = self.applying.applied;
        let now = self.now();
        let members = self.raft.members_at(last.index).clone();
        let served = &mut self.serving.served;
        while served.len() >= SERVED_MAX && !served.contains_key(&last) {
            let oldest = served
                .iter()
                .min_by_key(|(_, served)| served.used)
                .map(|(id, _)| *id);
            oldest.and_then(|id| served.remove(&id));
        }
        served.entry(last).or_insert_with(|| Served {
            meta: SnapshotMeta { last, members },
            export: self.state.export(),
            chunks: vec![Cursor::start()],
            used: now,
        });
        last
    }

    pub(crate) fn receive_chunk(&mut self, staged: &StagedChunk) {
        if staged.chunk == 0 {
            self.receiving.builder = Some((staged.snapshot, Builder::new()));
        }
        let Some((_, builder)) = self
            .receiving
            .builder
            .as_mut()
            .filter(|(id, _)| *id == staged.snapshot)
        else {
            return;
        };
        let added = decode_rows(&staged.data)
            .map_err(|error| error.to_string())
            .and_then(|rows| {
                rows.into_iter()
                    .try_for_each(|row| builder.add(row))
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = added {
            let detail = format!(
                "chunk {} of the leader's snapshot {} cannot be read: {error}",
                staged.chunk, staged.snapshot
            );
            self.fail(NodeFault::Unreadable(detail));
        }
    }

    /// The received state, when its last chunk is durable.
    pub(crate) fn received(&mut self, meta: &SnapshotMeta) -> Option<State> {
        let built = match self.receiving.builder.take() {
            Some((snapshot, builder)) if snapshot == meta.last => {
                builder.finish(meta.last.index).map_err(|error| error.to_string())
            }
            Some(_) | None => Err("its chunks did not pass through this node".to_owned()),
        };
        match built {
            Ok(state) => Some(state),
            Err(error) => {
                let detail = format!("the leader's snapshot {} cannot be read: {error}", meta.last);
                self.fail(NodeFault::Unreadable(detail));
                None
            }
        }
    }
}
