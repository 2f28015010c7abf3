//! Archives, and somebody who restores them.

use std::time::Duration;

use bytes::Bytes;
use lictor_catalog::{Changes, Command, Cursor, RestoreId, State, encode_chunk};
use lictor_machine::{Index, NodeId, Token, UnixMillis};
use lictor_node::{Progress, Request, Restoring};

use super::{World, set};

/// An archive with these many keys, in small chunks.
pub struct Archive {
    pub index: Index,
    pub chunks: Vec<Bytes>,
}

impl Archive {
    pub fn of(name: &str, keys: u64) -> Self {
        let mut state = State::new();
        for key in 1..=keys {
            let command = Command {
                stamp: UnixMillis(1),
                action: set(&format!("{name}-{key:03}"), "restored"),
            };
            state
                .apply(Index(key), &command, &mut Changes::default())
                .unwrap();
        }
        Self::of_state(&state)
    }

    pub fn of_state(state: &State) -> Self {
        let state = state.for_archive();
        let export = state.export();
        let (mut from, mut chunks) = (Cursor::start(), Vec::new());
        loop {
            let (rows, next) = export.chunk(&from, 200);
            chunks.push(encode_chunk(&rows).unwrap());
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        Self {
            index: state.index(),
            chunks,
        }
    }
}

/// Somebody at a server who restores an archive.
pub struct Operator {
    pub at: NodeId,
    archive: Archive,
    pub restoring: Restoring,
    pub asked: Option<Token>,
    pub ended: Option<Progress>,
}

impl Operator {
    pub fn new(world: &World, at: NodeId, id: u128, archive: Archive) -> Self {
        let chunks = archive.chunks.len() as u64;
        Self {
            at,
            restoring: Restoring::new(RestoreId(id), archive.index, chunks, world.now),
            archive,
            asked: None,
            ended: None,
        }
    }

    /// Asks for the next step, or looks for the answer to the last one. Whether a step was done.
    pub fn turn(&mut self, world: &mut World) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let Some(token) = self.asked else {
            let rows = self
                .restoring
                .wanted()
                .map(|wanted| self.archive.chunks[wanted as usize].clone());
            let step = self.restoring.next(rows.unwrap_or_default());
            self.asked = Some(world.request(self.at, Request::Write(step)));
            return false;
        };
        let Some(answer) = world.answer(self.at, token).cloned() else {
            return false;
        };
        self.asked = None;
        match self.restoring.answered(world.now, answer) {
            Progress::Next => true,
            Progress::Again => false,
            ended @ (Progress::Restored | Progress::Failed(_)) => {
                self.ended = Some(ended);
                true
            }
        }
    }

    /// Goes on until `steps` steps are done, or all is.
    pub fn advance(&mut self, world: &mut World, steps: usize) {
        let mut done = 0;
        for _ in 0..20_000 {
            if done == steps || self.ended.is_some() {
                return;
            }
            done += usize::from(self.turn(world));
            world.run(Duration::from_millis(10));
        }
        panic!("it does not come to an end: {:?}", self.restoring);
    }

    pub fn finish(&mut self, world: &mut World) {
        self.advance(world, usize::MAX);
        assert_eq!(self.ended, Some(Progress::Restored));
    }
}
