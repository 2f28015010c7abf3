//! The phases of a run: found, suffer, recover, rest; and the last look.

use core::time::Duration;

use lictor_machine::Instant;
use lictor_raft::{Role, Status};

use super::{World, violation};
use crate::host::Host;
use crate::linearizability::{Verdict, check};
use crate::oracles::{Check, Violation, ensure};
use crate::report::Report;
use crate::trace::Record;
use crate::workload::{Answer, Change, Op, Target};

/// How many election timeouts a cluster without faults may take to elect a leader, and to come to rest.
const ELECTION_TIMEOUTS_MAX: u32 = 20;
const REST_TIMEOUTS_MAX: u32 = 60;

impl<H: Host> World<'_, H> {
    /// Runs everything. On a violation the run ends there, and [`World::tail`] says what led to it.
    pub fn run(&mut self) -> Result<Report, Violation> {
        self.found()?;
        self.suffer()?;
        self.recover()?;
        self.rest()?;
        self.restart_one()?;
        Ok(Report {
            counters: self.counters.clone(),
            hash: self.trace.hash(),
            records: self.trace.count(),
            undecided: self.undecided,
        })
    }

    /// Has more servers than a cluster needs found one, with faults from the beginning. In the end there must be one cluster of the
    /// expected size, with a leader.
    pub fn run_founding(&mut self) -> Check {
        self.options.early = true;
        self.found()?;
        self.storm();
        let until = self.now + self.options.faults_for;
        self.run_until(until, |_| false)?;
        self.mend()?;
        let deadline = self.election_timeouts(REST_TIMEOUTS_MAX);
        let expect = self.options.setup.expect;
        let founded = self.run_until(deadline, |world| {
            let statuses = world.statuses();
            let members = statuses
                .iter()
                .filter(|status| status.members.voters.len() == expect && status.leader.is_some())
                .count();
            let leaders = statuses
                .iter()
                .filter(|status| status.role == Role::Leader && status.commit.0 > 1)
                .count();
            members == expect && leaders == 1
        })?;
        if founded {
            return Ok(());
        }
        let statuses: Vec<String> = self
            .statuses()
            .iter()
            .map(|status| format!("\n    {status:?}"))
            .collect();
        Err(violation(
            "one cluster is founded",
            format!(
                "{expect} of {} servers form none:{}",
                self.seats.len(),
                statuses.concat()
            ),
        ))
    }

    /// The options of this run.
    pub const fn options(&self) -> &crate::swarm::Options {
        &self.options
    }

    /// What has been counted so far.
    pub const fn counters(&self) -> &crate::report::Counters {
        &self.counters
    }

    /// The digest of what happened so far.
    pub const fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// The latest records.
    pub fn tail(&self) -> Vec<String> {
        self.trace.tail()
    }

    fn found(&mut self) -> Check {
        self.record(Record::Phase("founding"));
        for at in 0..self.seats.len() {
            self.start(at)?;
        }
        if self.options.early {
            return Ok(());
        }
        self.expect_leader("founding")
    }

    fn suffer(&mut self) -> Check {
        self.record(Record::Phase("faults"));
        self.storm();
        for client in 0..self.clients.len() {
            self.client_later(client);
        }
        let until = self.now + self.options.faults_for;
        self.run_until(until, |_| false).map(drop)
    }

    /// A healed cluster elects a leader, and every server serves.
    fn recover(&mut self) -> Check {
        self.record(Record::Phase("calm"));
        self.mend()?;
        self.expect_leader("calm")?;
        let deadline = self.election_timeouts(REST_TIMEOUTS_MAX);
        self.run_until(deadline, |world| {
            !world.clients.iter().any(super::Client::is_waiting)
        })?;
        self.expect_everybody()?;
        for at in 0..self.seats.len() {
            self.expect_write(at)?;
        }
        Ok(())
    }

    /// Where clients have changed the members: everybody becomes one again, so that everybody has to catch up and to be answered.
    fn expect_everybody(&mut self) -> Check {
        let everybody = Target::everybody(self.seats.len());
        let deadline = self.election_timeouts(REST_TIMEOUTS_MAX);
        while H::CHANGES_MEMBERS && self.now < deadline {
            if let Some(leader) = self.leader() {
                let status = &self.statuses()[leader];
                let settled = !status.is_changing_members();
                if settled && status.members.voters.len() == self.seats.len() {
                    return Ok(());
                }
                if settled {
                    self.ask(0, leader, Op::Reconfigure(everybody))?;
                    self.run_until(deadline, |world| !world.clients[0].is_waiting())?;
                }
            }
            let pause = self.now + self.options.setup.raft.heartbeat_interval;
            self.run_until(pause, |_| false)?;
        }
        ensure("liveness", !H::CHANGES_MEMBERS, || {
            let statuses = self.statuses();
            format!("the members cannot be changed any more: {statuses:#?}")
        })
    }

    fn rest(&mut self) -> Check {
        self.record(Record::Phase("rest"));
        self.come_to_rest()?;
        for at in 0..self.seats.len() {
            self.oracles.final_scan(at, self.seats[at].disk.durable())?;
        }
        for (key, history) in self.histories().iter().enumerate() {
            let verdict = check(history);
            self.undecided += u64::from(verdict == Verdict::Undecided);
            if verdict == Verdict::Impossible {
                let mut history = history.clone();
                history.sort_unstable_by_key(|operation| operation.called);
                let lines: Vec<String> = history
                    .iter()
                    .map(|operation| format!("\n    {operation:?}"))
                    .collect();
                return Err(violation(
                    "linearizability",
                    format!("the history of key {key} has no explanation:{}", lines.concat()),
                ));
            }
        }
        Ok(())
    }

    /// In a cluster where nothing is written a server that was restarted recovers all the same.
    fn restart_one(&mut self) -> Check {
        self.record(Record::Phase("a restart at rest"));
        let at = self.rng.below(self.seats.len() as u64) as usize;
        self.crash(at)?;
        self.start(at)?;
        self.come_to_rest()
    }

    /// Waits until everything is applied everywhere and nothing is under way.
    fn come_to_rest(&mut self) -> Check {
        let deadline = self.election_timeouts(REST_TIMEOUTS_MAX);
        if !self.run_until(deadline, Self::is_at_rest)? {
            let statuses: Vec<String> = self
                .statuses()
                .iter()
                .map(|status| format!("\n    {status:?}"))
                .collect();
            self.oracles.at_rest(&self.statuses())?;
            return Err(violation(
                "liveness",
                format!("the cluster does not come to rest:{}", statuses.concat()),
            ));
        }
        self.oracles.at_rest(&self.statuses())?;
        Ok(())
    }

    /// Waits for one leader that everybody follows and that has committed an entry of its own term.
    fn expect_leader(&mut self, when: &str) -> Check {
        let deadline = self.election_timeouts(ELECTION_TIMEOUTS_MAX);
        if self.run_until(deadline, |world| world.leader().is_some())? {
            return Ok(());
        }
        let statuses: Vec<String> = self
            .statuses()
            .iter()
            .map(|status| format!("\n    {status:?}"))
            .collect();
        Err(violation(
            "liveness",
            format!(
                "no leader in {ELECTION_TIMEOUTS_MAX} election timeouts of {when}:{}",
                statuses.concat()
            ),
        ))
    }

    /// Asks `at`, or whoever leads if `at` only refuses, to write until it is done.
    fn expect_write(&mut self, at: usize) -> Check {
        let deadline = self.election_timeouts(REST_TIMEOUTS_MAX);
        let before = self.counters.writes;
        let mut at = at;
        while self.now < deadline {
            let value = self.next_token + 1;
            self.ask(0, at, Op::Write(Change::Set { key: 0, value }))?;
            self.run_until(deadline, |world| !world.clients[0].is_waiting())?;
            if self.counters.writes > before {
                return Ok(());
            }
            at = self.leader().unwrap_or(at);
            let pause = self.now + self.options.setup.raft.heartbeat_interval;
            self.run_until(pause, |_| false)?;
        }
        Err(violation(
            "liveness",
            format!(
                "server {} does not get a write done: {:?}",
                at + 1,
                Answer::Unknown
            ),
        ))
    }

    fn election_timeouts(&self, count: u32) -> Instant {
        self.now + self.options.setup.raft.election_timeout * count + Duration::from_secs(1)
    }

    fn leader(&self) -> Option<usize> {
        let statuses = self.statuses();
        let leader = statuses.iter().position(|status| status.role == Role::Leader)?;
        let (id, term) = (statuses[leader].id, statuses[leader].term);
        let members = &statuses[leader].members;
        let mut followers = statuses.iter().filter(|status| members.contains(status.id));
        let all_follow = statuses.len() == self.seats.len()
            && followers.all(|status| {
                status.leader == Some(id) && status.term == term && status.commit >= status.base.index
            })
            && self.oracles.committed_term(statuses[leader].commit) == Some(term);
        all_follow.then_some(leader)
    }

    fn is_at_rest(&self) -> bool {
        let statuses = self.statuses();
        let Some(first) = statuses.first() else {
            return false;
        };
        self.leader().is_some()
            && self.open.is_empty()
            && statuses.iter().all(|status| {
                let settled = status.commit == status.last.index && status.applied == status.commit;
                let quiet = status.writes_in_flight == 0
                    && status
                        .peers
                        .iter()
                        .all(|peer| peer.bytes_in_flight == 0 && !peer.snapshot);
                settled && quiet && status.last == first.last
            })
            && self.seats.iter().all(|seat| seat.disk.is_idle())
    }

    fn statuses(&self) -> Vec<Status> {
        self.seats
            .iter()
            .filter_map(|seat| seat.host.as_ref().map(Host::status))
            .collect()
    }
}
