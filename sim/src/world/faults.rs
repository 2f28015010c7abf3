//! Bringing faults about. To add a kind: a variant of [`Fault`], an arm here, and what it changes in the world; what it changed must be
//! mended in [`World::mend`].

use core::time::Duration;

use lictor_machine::Instant;

use super::World;
use super::event::Event;
use crate::host::Host;
use crate::network::Weather;
use crate::oracles::Check;
use crate::swarm::Fault;
use crate::trace::Record;

impl<H: Host> World<'_, H> {
    /// From now on there are faults.
    pub(super) fn storm(&mut self) {
        self.stormy = true;
        self.network.set_weather(self.options.weather.clone());
        for (fault, mean) in self.options.faults.clone() {
            self.fault_later(fault, mean);
        }
    }

    /// No more faults, and an end to those there are: everybody is up, awake and connected, all disks are well.
    pub(super) fn mend(&mut self) -> Check {
        self.stormy = false;
        self.network.set_weather(Weather::calm());
        self.heal_links();
        for at in 0..self.seats.len() {
            let seat = &mut self.seats[at];
            seat.slowness = 1;
            seat.full_until = Instant::ZERO;
            seat.fails_next = false;
            if self.seats[at].disk_failed {
                self.crash(at)?;
            }
            self.start(at)?;
            self.resume(at)?;
        }
        Ok(())
    }

    pub(super) fn heal_links(&mut self) {
        for from in 0..self.seats.len() {
            for to in 0..self.seats.len() {
                if self.network.is_blocked(from, to) {
                    self.record(Record::Link {
                        from,
                        to,
                        blocked: false,
                    });
                }
            }
        }
        self.network.heal();
    }

    pub(super) fn fault(&mut self, fault: Fault) -> Check {
        if !self.stormy {
            return Ok(());
        }
        let mean = self
            .options
            .faults
            .iter()
            .find(|(kind, _)| *kind == fault)
            .map(|(_, mean)| *mean);
        if let Some(mean) = mean {
            self.fault_later(fault, mean);
        }
        let at = self.rng.below(self.seats.len() as u64) as usize;
        let election = self.options.setup.raft.election_timeout;
        let a_while = self.rng.between(election / 5, election * 5);
        let up = self.seats[at].host.is_some();
        match fault {
            Fault::Crash => {
                if up {
                    self.crash(at)?;
                    self.restart_later(at);
                }
            }
            Fault::PowerCut => {
                for at in 0..self.seats.len() {
                    if self.seats[at].host.is_some() {
                        self.crash(at)?;
                        self.restart_later(at);
                    }
                }
                self.counters.power_cuts += 1;
            }
            Fault::Pause => {
                if up && !self.seats[at].asleep {
                    self.seats[at].asleep = true;
                    self.counters.pauses += 1;
                    self.did(at, "falls asleep", a_while.as_nanos() as u64);
                    let life = self.seats[at].life;
                    self.schedule_in(a_while, Event::Resume { at, life });
                }
            }
            Fault::Partition => {
                let groups: Vec<bool> = self.seats.iter().map(|_| self.rng.chance(1, 2)).collect();
                self.cut(a_while, |from, to| groups[from] != groups[to]);
                self.counters.partitions += 1;
            }
            Fault::OneWay => {
                let deaf = self.rng.chance(1, 2);
                let spare = self.rng.below(self.seats.len() as u64) as usize;
                let only_one = self.rng.chance(1, 3);
                self.cut(a_while, |from, to| {
                    let (hit, other) = if deaf { (to, from) } else { (from, to) };
                    hit == at && (!only_one || other == spare)
                });
                self.counters.one_way_partitions += 1;
            }
            Fault::SlowDisk => {
                self.seats[at].slowness = 1 << self.rng.below(12);
                self.counters.slow_disks += 1;
                let slowness = self.seats[at].slowness;
                self.did(at, "disk is slow", u64::from(slowness));
                self.schedule_in(a_while, Event::DiskWell { at });
            }
            Fault::FullDisk => {
                self.seats[at].full_until = self.now + a_while;
                self.counters.full_disks += 1;
                self.did(at, "disk is full", a_while.as_nanos() as u64);
            }
            Fault::FailDisk => {
                self.seats[at].fails_next |= up;
                self.did(at, "disk will fail", 0);
            }
            Fault::ClockRate => {
                let bound = self.options.setup.raft.max_clock_drift_permille;
                let drift = self.rng.below(u64::from(bound) + 1) as u32 + self.excess_drift();
                self.seats[at].clock.set_drift(self.now, drift);
                // The alarm was set by the old rate.
                self.seats[at].wake_at = Instant::MAX;
                self.set_alarm(at);
                self.did(at, "clock changes its rate", u64::from(drift));
            }
            Fault::WallClock => {
                let by = self.rng.below(7_200_000).cast_signed() - 3_600_000;
                self.seats[at].clock.step_wall(by);
                self.did(at, "wall clock is set", by.unsigned_abs());
            }
        }
        Ok(())
    }

    /// How far beyond its bound a clock runs, for runs that are to show what comes of it: some servers' clocks do, and some do not.
    pub(super) fn excess_drift(&mut self) -> u32 {
        let excess = self.options.excess_drift_permille;
        if excess > 0 && self.rng.chance(1, 2) {
            excess
        } else {
            0
        }
    }

    pub(super) fn restart_later(&mut self, at: usize) {
        let election = self.options.setup.raft.election_timeout;
        let down = self.rng.between(Duration::from_millis(1), election * 4);
        self.schedule_in(down, Event::Restart { at });
    }

    fn fault_later(&mut self, fault: Fault, mean: Duration) {
        let after = self.rng.between(mean / 2, mean * 3 / 2);
        self.schedule_in(after, Event::Fault(fault));
    }

    /// Replaces whatever links are cut by those that `is_cut` names, for a while.
    fn cut(&mut self, a_while: Duration, is_cut: impl Fn(usize, usize) -> bool) {
        self.heal_links();
        for from in 0..self.seats.len() {
            for to in 0..self.seats.len() {
                if from != to && is_cut(from, to) {
                    self.network.set_blocked(from, to, true);
                    self.record(Record::Link {
                        from,
                        to,
                        blocked: true,
                    });
                }
            }
        }
        self.pattern += 1;
        let pattern = self.pattern;
        self.schedule_in(a_while, Event::Heal { pattern });
    }
}
