//! The lives of servers: they start, crash, and wake up from a sleep.

use super::{World, storage, violation};
use crate::host::Host;
use crate::oracles::Check;

impl<H: Host> World<'_, H> {
    /// Starts a server that is down.
    pub(super) fn start(&mut self, at: usize) -> Check {
        if self.seats[at].host.is_some() {
            return Ok(());
        }
        let bound = self.options.setup.raft.max_clock_drift_permille;
        let drift = self.rng.below(u64::from(bound) + 1) as u32 + self.excess_drift();
        let seed = self.rng.next_u64();
        let seat = &mut self.seats[at];
        seat.boot(&self.options.setup, seed, self.now, drift)
            .map_err(|detail| violation("restart", format!("server {}: {detail}", at + 1)))?;
        let state = seat.host.as_ref().map(Host::state);
        if let Some(state) = state {
            self.oracles.booted(at, seat.disk.durable(), state)?;
        }
        let life = seat.life;
        self.counters.starts += 1;
        self.did(at, "starts", life);
        let seat = &mut self.seats[at];
        let local = seat.clock.now(self.now);
        if let Some(host) = &mut seat.host {
            host.found(&self.options.setup, local)
                .map_err(|detail| violation("founding", detail))?;
        }
        self.turn(at)
    }

    /// Kills a server: it keeps what was durable, and perhaps some of what was being written.
    pub(super) fn crash(&mut self, at: usize) -> Check {
        if self.seats[at].host.is_none() {
            return Ok(());
        }
        let unsettled = self.seats[at].disk.unsettled();
        let durable = self.seats[at].crash(&mut self.rng).map_err(storage)?;
        self.counters.crashes += 1;
        self.counters.lost_writes += (unsettled - durable.len()) as u64;
        self.open.retain(|_, (_, asked)| *asked != at);
        self.did(at, "crashes, losing writes", (unsettled - durable.len()) as u64);
        self.oracles.crashed(at, &durable)
    }

    pub(super) fn resume(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        if !core::mem::take(&mut seat.asleep) {
            return Ok(());
        }
        let life = seat.life;
        let waiting = core::mem::take(&mut seat.inbox);
        self.did(at, "wakes up, with inputs waiting", waiting.len() as u64);
        if self.rng.chance(1, 2) {
            self.turn(at)?;
        }
        for stimulus in waiting {
            if self.lives(at, life) {
                self.stimulate(at, stimulus)?;
            }
        }
        self.turn(at)
    }
}
