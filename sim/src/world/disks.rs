//! Writes to the disks of servers, and their completion.

use core::time::Duration;

use super::event::Event;
use super::{World, storage};
use crate::host::{Host, Stimulus};
use crate::oracles::Check;
use crate::trace::Record;

impl<H: Host> World<'_, H> {
    pub(super) fn begin_writes(&mut self, at: usize) {
        let life = self.seats[at].life;
        if self.seats[at].disk_failed {
            return;
        }
        if self.seats[at].disk.begin().is_some() {
            let delay = self.disk_delay(at);
            self.schedule_in(delay, Event::LogWritten { at, life });
        }
        if self.seats[at].disk.begin_state() {
            let delay = self.disk_delay(at);
            self.schedule_in(delay, Event::StateWritten { at, life });
        }
    }

    pub(super) fn disk_delay(&mut self, at: usize) -> Duration {
        let (least, most) = self.options.disk_latency;
        let delay = self.rng.between(least, most);
        let seat = &self.seats[at];
        // The slowest disk is one that outlasts an election or two, not the run.
        let longest = self.options.setup.raft.election_timeout * 8;
        seat.full_until.since(self.now) + (delay * seat.slowness).min(longest)
    }

    pub(super) fn log_written(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        if core::mem::take(&mut seat.fails_next) {
            seat.disk_failed = true;
            let Some(id) = seat.disk.failing() else {
                return self.stopped(at, "its notes could not be written");
            };
            self.counters.failed_writes += 1;
            self.did(at, "disk fails write", id.seq);
            return self.stimulate(at, Stimulus::PersistFailed(id));
        }
        let finished = seat.disk.finish().map_err(storage)?;
        let life = seat.life;
        self.counters.snapshots_installed += finished
            .durable
            .iter()
            .filter(|batch| batch.install.is_some())
            .count() as u64;
        self.oracles.durable(at, &finished.durable)?;
        if let Some(through) = finished.through {
            self.record(Record::Durable { at, through });
            self.stimulate(at, Stimulus::Persisted(through))?;
        }
        if finished.notes > 0 && self.lives(at, life) {
            self.stimulate(at, Stimulus::NotesSaved(finished.notes))?;
        }
        self.begin_writes(at);
        Ok(())
    }

    pub(super) fn state_written(&mut self, at: usize) -> Check {
        let applied = self.seats[at].disk.finish_state(H::decoder()).map_err(storage)?;
        self.stimulate(at, Stimulus::StateStored(applied.index))?;
        self.begin_writes(at);
        Ok(())
    }
}
