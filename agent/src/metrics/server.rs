//! A server: its requests, its disk, Raft, and what is in its state.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lictor_catalog::Action;
use lictor_metrics::{Counter, Gauges, Registry, Sample};
use lictor_raft::{Role, Status};

use super::reads::ReadCounts;
use crate::local::Local;
use crate::server::Server;
use crate::view::View;

/// How often the leader looks how well the servers are.
const AUTOPILOT_PERIOD: Duration = Duration::from_secs(10);

/// Requests to a server, and how long its writes take.
#[derive(Debug)]
pub(crate) struct RequestCounts {
    pub(crate) requests: Counter,
    pub(crate) queries: Counter,
    pub(crate) reads: ReadCounts,
    commit: Sample,
    kv: Sample,
    txn: Sample,
    register: Sample,
    deregister: Sample,
    session: Sample,
    prepared: Sample,
    other: Sample,
}

impl RequestCounts {
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self {
            requests: metrics.counter("consul.rpc.request"),
            queries: metrics.counter("consul.rpc.query"),
            reads: ReadCounts::new(metrics),
            commit: metrics.sample("consul.raft.commitTime"),
            kv: metrics.sample("consul.kvs.apply"),
            txn: metrics.sample("consul.txn.apply"),
            register: metrics.sample("consul.catalog.register"),
            deregister: metrics.sample("consul.catalog.deregister"),
            session: metrics.sample("consul.session.apply"),
            prepared: metrics.sample("consul.prepared-query.apply"),
            other: metrics.sample("lictor.write.other"),
        }
    }

    /// What takes how long a write like this took.
    pub(crate) fn of(&self, action: &Action) -> &Sample {
        match action {
            Action::Kv(_) => &self.kv,
            Action::Txn(_) => &self.txn,
            Action::Register(_) | Action::RegisterMany(_) => &self.register,
            Action::Deregister(_) => &self.deregister,
            Action::CreateSession(_) | Action::EndSessions(_) => &self.session,
            Action::CreatePrepared(_) | Action::UpdatePrepared(_) | Action::DeletePrepared(_) => {
                &self.prepared
            }
            // What holds no change is refused, and takes however long that takes.
            Action::Once(once) => once.action().map_or(&self.other, |action| self.of(&action)),
            Action::ReapTombstones(_)
            | Action::SetAutopilot { .. }
            | Action::Coordinates(_)
            | Action::ForgetCoordinates(_)
            | Action::EndLockDelays(_)
            | Action::ForgetReceipts(_)
            | Action::RunOut { .. }
            | Action::Restore(_) => &self.other,
        }
    }

    /// A write is done that began at `start`. `leading`: on the leader itself, so that it is known how long committing took.
    pub(crate) fn written(&self, of: &Sample, start: Instant, leading: bool) {
        of.record_since(start);
        if leading {
            self.commit.record_since(start);
        }
    }
}

/// How long the disk takes.
#[derive(Clone, Debug)]
pub(crate) struct DiskTimes {
    /// For a piece of the log.
    pub(crate) log: Sample,
    /// For a piece of the state.
    pub(crate) state: Sample,
}

impl DiskTimes {
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self {
            log: metrics.sample("lictor.disk.log_write"),
            state: metrics.sample("lictor.disk.state_write"),
        }
    }
}

/// How often a server came to which part.
#[derive(Debug)]
pub(crate) struct RoleCounts {
    leader: Counter,
    candidate: Counter,
    follower: Counter,
}

impl RoleCounts {
    pub(crate) fn new(metrics: &Registry) -> Self {
        let of = |role| metrics.counter(format!("consul.raft.state.{role}"));
        Self {
            leader: of("leader"),
            candidate: of("candidate"),
            follower: of("follower"),
        }
    }

    pub(crate) fn entered(&self, role: Role) {
        match role {
            Role::Leader => self.leader.increment(),
            Role::Candidate | Role::PreCandidate => self.candidate.increment(),
            Role::Follower => self.follower.increment(),
        }
    }
}

/// What a leader does.
#[derive(Debug)]
pub(crate) struct LeaderCounts {
    applied: Counter,
    last_contact: Sample,
}

impl LeaderCounts {
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self {
            applied: metrics.counter("consul.raft.apply"),
            last_contact: metrics.sample("consul.raft.leader.lastContact"),
        }
    }

    /// Takes over what happened between two looks, the second of which was taken at `at`.
    pub(crate) fn update(&self, before: Option<&Status>, now: &Status, at: lictor_machine::Instant) {
        let leads = |status: &&Status| status.role == Role::Leader;
        if !leads(&now) {
            return;
        }
        if let Some(before) = before.filter(leads) {
            let more = now.commit.0.saturating_sub(before.commit.0);
            if more > 0 {
                self.applied.add(more);
            }
        }
        let voters = now.peers.iter().filter(|peer| peer.voter);
        if let Some(longest) = voters.map(|peer| at.since(peer.last_heard)).max() {
            self.last_contact.record(longest.as_secs_f64() * 1e3);
        }
    }
}

/// How well the servers are, as the leader saw it last.
#[derive(Debug, Default)]
pub(crate) struct Autopilot(Mutex<Option<(bool, u64)>>);

impl Autopilot {
    /// Looks now and then, for ever, while this server leads.
    pub(crate) async fn keep_looking(&self, server: &Server) {
        loop {
            let seen = if server.leads() {
                let health = server.servers_health().await.ok();
                health.map(|health| (health.healthy, health.failure_tolerance))
            } else {
                None
            };
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            async_io::Timer::after(AUTOPILOT_PERIOD).await;
        }
    }

    pub(super) fn show(&self, gauges: &mut Gauges) {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((healthy, failure_tolerance)) = seen {
            gauges.put("consul.autopilot.healthy", f64::from(u8::from(healthy)));
            gauges.put("consul.autopilot.failure_tolerance", failure_tolerance as f64);
        }
    }
}

/// Puts how Raft is, on a server.
pub(super) fn show_raft(local: &Local, gauges: &mut Gauges) {
    let Some(vitals) = local.vitals.last() else { return };
    let Some(raft) = &vitals.raft else { return };
    let leads = raft.role == Role::Leader;
    for (name, value) in [
        ("consul.raft.applied_index", raft.applied.0 as f64),
        ("consul.raft.commit_index", raft.commit.0 as f64),
        ("consul.raft.last_index", raft.last.index.0 as f64),
        ("consul.raft.peers", raft.members.members().len() as f64),
        ("consul.server.isLeader", f64::from(u8::from(leads))),
        ("lictor.raft.term", raft.term.0 as f64),
        (
            "lictor.raft.log_entries",
            raft.last.index.0.saturating_sub(raft.base.index.0) as f64,
        ),
        ("lictor.raft.writes_in_flight", raft.writes_in_flight as f64),
    ] {
        gauges.put(name, value);
    }
}

/// Puts what is in the state.
pub(super) fn show_state(view: &View, gauges: &mut Gauges) {
    let counts = view.state().counts();
    for (name, value) in [
        ("consul.state.nodes", counts.nodes),
        ("consul.state.services", counts.services),
        ("consul.state.service_instances", counts.instances),
        ("consul.state.kv_entries", counts.keys),
        ("lictor.state.checks", counts.checks),
        ("lictor.state.sessions", counts.sessions),
        ("lictor.watches", view.watching()),
    ] {
        gauges.put(name, value as f64);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lictor_catalog::{IdempotencyKey, KvWrite, Once};
    use lictor_machine::{Index, NodeId};
    use lictor_raft::{Configuration, LogId, PeerStatus, Term};

    use super::*;

    fn status(role: Role, commit: u64, heard: &[(bool, u64)]) -> Status {
        let at = |index| LogId {
            index: Index(index),
            term: Term(1),
        };
        Status {
            id: NodeId(1),
            role,
            term: Term(1),
            vote: None,
            leader: None,
            commit: Index(commit),
            applied: Index(commit),
            last: at(commit),
            base: at(0),
            durable: Index(commit),
            writes_in_flight: 0,
            members: Configuration::default(),
            members_id: at(0),
            peers: heard
                .iter()
                .map(|(voter, millis)| PeerStatus {
                    id: NodeId(2),
                    voter: *voter,
                    matched: Index(0),
                    next: Index(1),
                    last_heard: lictor_machine::Instant::ZERO + Duration::from_millis(*millis),
                    bytes_in_flight: 0,
                    snapshot: false,
                })
                .collect(),
        }
    }

    #[test]
    fn a_write_under_a_key_counts_as_what_it_changes() {
        let registry = Registry::new();
        let counts = RequestCounts::new(&registry);
        let writes = [
            Action::Kv(KvWrite::Delete(Bytes::from_static(b"a"))),
            Action::Txn(Vec::new()),
            Action::EndSessions(Vec::new()),
        ];
        let under_keys = writes.iter().map(|write| {
            let key = IdempotencyKey::of(&[b"k"]);
            Action::Once(Box::new(Once::new(key, write).unwrap()))
        });
        for write in under_keys {
            counts.of(&write).record(1.0);
        }
        let samples = registry.report().samples;
        let counted = samples.iter().filter(|series| series.total.count > 0);
        let counted: Vec<&str> = counted.map(|series| &*series.name).collect();
        assert_eq!(
            counted,
            ["consul.kvs.apply", "consul.session.apply", "consul.txn.apply"]
        );
    }

    #[test]
    fn only_the_leader_counts_what_it_commits() {
        let registry = Registry::new();
        let counts = LeaderCounts::new(&registry);
        let at = lictor_machine::Instant::ZERO + Duration::from_millis(100);
        let update = |before: &Status, now: &Status| counts.update(Some(before), now, at);
        update(&status(Role::Follower, 1, &[]), &status(Role::Follower, 5, &[]));
        update(&status(Role::Follower, 5, &[]), &status(Role::Leader, 9, &[]));
        update(&status(Role::Leader, 9, &[]), &status(Role::Leader, 12, &[]));
        let heard = [(true, 90), (true, 60), (false, 1)];
        update(&status(Role::Leader, 12, &[]), &status(Role::Leader, 12, &heard));
        let report = registry.report();
        assert_eq!(report.counters[0].total.sum as u64, 3);
        assert_eq!(
            report.samples[0].total.count, 1,
            "a leader alone has nobody to hear"
        );
        assert_eq!(report.samples[0].total.sum.round() as u64, 40);
    }
}
