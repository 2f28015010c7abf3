//! How the agent's machine is, looked at now and then by its loop, for those who ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use lictor_gossip::{Coordinate, Gossip, Stats};
use lictor_metrics::Registry;
use lictor_node::agent::{Agent, Pool};
use lictor_raft::{Extent, Role, Status};
use lictor_runtime::{Clock as _, SystemClock};

use crate::metrics::{LeaderCounts, PoolCounts};

/// How old what is shown may be while the loop has work.
const AGE_MAX: Duration = Duration::from_secs(1);

/// A look at an agent's machine.
#[derive(Debug)]
pub(crate) struct Vitals {
    at: Instant,
    /// Of a server.
    pub(crate) raft: Option<Status>,
    pub(crate) lan: PoolVitals,
    pub(crate) wan: Option<PoolVitals>,
}

/// A look at one pool.
#[derive(Debug)]
pub(crate) struct PoolVitals {
    pub(crate) health: u32,
    pub(crate) coordinate: Coordinate,
    pub(crate) stats: Stats,
    clocks: [u64; 3],
    pub(crate) members: usize,
    pub(crate) failed: usize,
    pub(crate) left: usize,
}

impl PoolVitals {
    fn of(pool: &Gossip) -> Self {
        use lictor_gossip::MemberState::{Failed, Left};
        let count = |state| pool.members().filter(|member| member.state == state).count();
        Self {
            health: pool.health(),
            coordinate: *pool.coordinate(),
            stats: pool.stats(),
            clocks: pool.clock_times(),
            members: pool.members().count(),
            failed: count(Failed),
            left: count(Left),
        }
    }

    fn section(&self) -> BTreeMap<String, String> {
        let [member_time, event_time, query_time] = self.clocks;
        [
            ("encrypted", "true".to_owned()),
            // Events and queries wait in one queue.
            ("event_queue", self.stats.payload_queued.to_string()),
            ("event_time", event_time.to_string()),
            ("failed", self.failed.to_string()),
            ("health_score", self.health.to_string()),
            ("intent_queue", self.stats.broadcasts_queued.to_string()),
            ("left", self.left.to_string()),
            ("member_time", member_time.to_string()),
            ("members", self.members.to_string()),
            ("query_time", query_time.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// Where the last look is found. What happened between two looks is counted.
#[derive(Debug)]
pub(crate) struct Watch {
    last: ArcSwapOption<Vitals>,
    /// Of a server, after the last turn: this is cheap to look at, and what people compare with what they have just written.
    extent: Mutex<Option<Extent>>,
    lan: PoolCounts,
    wan: PoolCounts,
    leader: LeaderCounts,
}

impl Watch {
    /// Nothing was looked at yet.
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self {
            last: ArcSwapOption::empty(),
            extent: Mutex::new(None),
            lan: PoolCounts::new(metrics, Pool::Lan),
            wan: PoolCounts::new(metrics, Pool::Wan),
            leader: LeaderCounts::new(metrics),
        }
    }

    /// Takes a look after a turn; at most things only if the last look is old.
    pub(crate) fn look(&self, agent: &Agent) {
        *self.extent.lock().unwrap_or_else(PoisonError::into_inner) =
            agent.server().map(lictor_node::Node::raft_extent);
        let last = self.last.load();
        if last.as_ref().is_some_and(|last| last.at.elapsed() < AGE_MAX) {
            return;
        }
        let Some(lan) = agent.pool(Pool::Lan) else { return };
        let now = Vitals {
            at: Instant::now(),
            raft: agent.server().map(lictor_node::Node::raft_status),
            lan: PoolVitals::of(lan),
            wan: agent.pool(Pool::Wan).map(PoolVitals::of),
        };
        let last = last.as_deref();
        self.lan.update(last.map(|last| &last.lan.stats), &now.lan.stats);
        if let Some(wan) = &now.wan {
            let last = last.and_then(|last| last.wan.as_ref());
            self.wan.update(last.map(|last| &last.stats), &wan.stats);
        }
        if let Some(raft) = &now.raft {
            let last = last.and_then(|last| last.raft.as_ref());
            self.leader.update(last, raft, SystemClock.now().mono);
        }
        self.last.store(Some(now.into()));
    }

    /// The last look; `None` before the loop's first turn.
    pub(crate) fn last(&self) -> Option<std::sync::Arc<Vitals>> {
        self.last.load_full()
    }

    /// What `/v1/agent/self` and `lictor info` show.
    pub(crate) fn sections(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let Some(last) = self.last() else {
            return BTreeMap::new();
        };
        let mut sections = BTreeMap::new();
        sections.insert("serf_lan".to_owned(), last.lan.section());
        if let Some(wan) = &last.wan {
            sections.insert("serf_wan".to_owned(), wan.section());
        }
        let extent = *self.extent.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(raft), Some(extent)) = (&last.raft, extent) {
            sections.insert("raft".to_owned(), raft_section(raft, extent));
        }
        sections
    }
}

fn raft_section(raft: &Status, extent: Extent) -> BTreeMap<String, String> {
    let state = match raft.role {
        Role::Leader => "Leader",
        Role::Candidate | Role::PreCandidate => "Candidate",
        Role::Follower => "Follower",
    };
    let others = raft.members.voters.iter().filter(|id| **id != raft.id).count();
    let servers = raft.members.members().into_iter().map(|id| {
        let suffrage = if raft.members.is_voter(id) {
            "Voter"
        } else {
            "Nonvoter"
        };
        format!("{{Suffrage:{suffrage} ID:{id}}}")
    });
    let configuration = servers.collect::<Vec<_>>().join(" ");
    [
        ("latest_configuration", format!("[{configuration}]")),
        ("latest_configuration_index", raft.members_id.index.to_string()),
        (
            "fsm_pending",
            extent.commit.0.saturating_sub(extent.applied.0).to_string(),
        ),
        ("protocol_version", "3".to_owned()),
        ("applied_index", extent.applied.to_string()),
        ("commit_index", extent.commit.to_string()),
        ("last_log_index", extent.last.index.to_string()),
        ("last_log_term", extent.last.term.to_string()),
        ("last_snapshot_index", extent.base.index.to_string()),
        ("last_snapshot_term", extent.base.term.to_string()),
        ("num_peers", others.to_string()),
        ("state", state.to_owned()),
        ("term", raft.term.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
