//! The HTTP API's questions: reads from the published state, once it is fresh enough, and writes through the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::FutureExt as _;
use lictor_catalog::{Action, Found, NodeCoordinate, Outcome, Query, TxnError, TxnOp, TxnResult};
use lictor_gossip::Member;
use lictor_http::{
    About, Backend, DatacenterCoordinates, EventLog, Failure, Pool, RaftServer, ReadMode, ReadOptions,
    Reading, ServerRef, ServersHealth, UserEvent, WriteOptions,
};
use lictor_machine::{Index, Instant};
use lictor_node::{Answer, Request, RequestError, Standing};
use lictor_raft::{self as raft, Role};
use lictor_runtime::{Clock as _, SystemClock};

use crate::handle::Handle;
use crate::storage::Space;
use crate::view::View;

/// Speaks for a server.
#[derive(Debug)]
pub(crate) struct ServerBackend {
    pub(crate) view: Arc<View>,
    pub(crate) handle: Handle,
    pub(crate) datacenter: String,
    pub(crate) space: Space,
    pub(crate) events: Arc<EventLog>,
}

/// How good an answer is.
#[derive(Clone, Copy)]
struct Freshness {
    known_leader: bool,
    last_contact: Duration,
}

impl ServerBackend {
    fn check_datacenter(&self, wanted: Option<&str>) -> Result<(), Failure> {
        match wanted {
            Some(other) if !other.is_empty() && !other.eq_ignore_ascii_case(&self.datacenter) => {
                Err(Failure::NoPathToDatacenter)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Waits until the published state is fresh enough for `mode`.
    async fn gate(&self, mode: ReadMode) -> Result<Freshness, Failure> {
        let now = SystemClock.now().mono;
        let (wanted, fresh) = {
            let standing = self.view.standing();
            match mode {
                ReadMode::Stale { max } => match staleness(&standing, now) {
                    Some(age) if max.is_none_or(|max| age <= max) => {
                        let known_leader = standing.leader.is_some();
                        (
                            None,
                            Freshness {
                                known_leader,
                                last_contact: age,
                            },
                        )
                    }
                    // Never heard a leader since the start, or too long ago.
                    Some(_) | None => (Some(raft::ReadMode::Lease), FRESH),
                },
                ReadMode::Default if standing.lease_until.is_some_and(|until| now < until) => (None, FRESH),
                ReadMode::Default => (Some(raft::ReadMode::Lease), FRESH),
                ReadMode::Consistent => (Some(raft::ReadMode::Quorum), FRESH),
            }
        };
        if let Some(mode) = wanted {
            match self.handle.request(Request::Read(mode)).await {
                Answer::Readable { .. } => {}
                Answer::Failed(error) => return Err(self.failure(error)),
                Answer::Written { .. } | Answer::Transferred | Answer::Operator(_) => {
                    return Err(Failure::Stopping);
                }
            }
        }
        Ok(fresh)
    }
}

/// By the leader, or with its consent.
const FRESH: Freshness = Freshness {
    known_leader: true,
    last_contact: Duration::ZERO,
};

/// How long ago the leader was heard; `None` if never since the start.
fn staleness(standing: &Standing, now: Instant) -> Option<Duration> {
    if standing.role == Role::Leader {
        Some(Duration::ZERO)
    } else {
        standing.leader_contact.map(|at| now.since(at))
    }
}

impl ServerBackend {
    /// What the API says of a node's error.
    fn failure(&self, error: RequestError) -> Failure {
        match (self.space.complaint(), error) {
            // Nobody leads because nobody can write: say so.
            (Some(complaint), RequestError::NoLeader) => Failure::Storage(complaint),
            // Here it waits for space, or did; clients know the words that say that it may still come to pass.
            (Some(complaint), RequestError::LeadershipLost) => {
                Failure::Storage(format!("{}: {complaint}", Failure::LeadershipLost))
            }
            (_, error) => failure(error),
        }
    }
}

fn failure(error: RequestError) -> Failure {
    match error {
        RequestError::NoLeader => Failure::NoLeader,
        RequestError::LeadershipLost => Failure::LeadershipLost,
        RequestError::Busy => Failure::Busy {
            limit: "requests in flight".into(),
            retry_after: Duration::from_secs(1),
        },
        RequestError::TooLarge { .. } | RequestError::Refused(_) => Failure::Refused(error.to_string()),
        RequestError::Stopped(_) => Failure::Stopping,
        RequestError::NotTransferred(_) => Failure::Unreachable(error.to_string()),
    }
}

#[async_trait]
impl Backend for ServerBackend {
    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reading<Found>, Failure> {
        self.check_datacenter(options.datacenter.as_deref())?;
        let fresh = self.gate(options.mode).await?;
        let answer = |(index, value)| {
            let Freshness {
                known_leader,
                last_contact,
            } = fresh;
            Ok(Reading {
                index,
                known_leader,
                last_contact,
                value,
            })
        };
        let mut found = self.view.state().query(&query);
        if options.min_index == Index::ZERO || found.0 > options.min_index {
            return answer(found);
        }
        let timeout = async_io::Timer::after(options.wait);
        futures_lite::pin!(timeout);
        loop {
            // First listen, then look: a change in between is not missed.
            let mut watch = self.view.watch(query.interest()).map_err(|_| Failure::Busy {
                limit: "blocking queries".into(),
                retry_after: Duration::from_secs(1),
            })?;
            found = self.view.state().query(&query);
            if found.0 > options.min_index {
                return answer(found);
            }
            let changed = async {
                watch.changed().await;
                true
            };
            let timed_out = async {
                (&mut timeout).await;
                false
            };
            if !changed.or(timed_out).await {
                return answer(found);
            }
        }
    }

    async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        options: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure> {
        self.check_datacenter(options.datacenter.as_deref())?;
        let Freshness {
            known_leader,
            last_contact,
        } = self.gate(options.mode).await?;
        let state = self.view.state();
        let value = state.txn_read(&ops);
        Ok(Reading {
            index: state.index(),
            known_leader,
            last_contact,
            value,
        })
    }

    async fn write(&self, action: Action, options: WriteOptions) -> Result<Outcome, Failure> {
        self.check_datacenter(options.datacenter.as_deref())?;
        match self.handle.request(Request::Write(action)).await {
            Answer::Written { outcome, .. } => Ok(outcome),
            Answer::Failed(error) => Err(self.failure(error)),
            Answer::Readable { .. } | Answer::Transferred | Answer::Operator(_) => Err(Failure::Stopping),
        }
    }

    async fn leader(&self, datacenter: Option<&str>) -> Result<Option<SocketAddr>, Failure> {
        self.check_datacenter(datacenter)?;
        let leader = self.view.standing().leader;
        Ok(leader.and_then(|leader| self.view.address(leader)))
    }

    async fn peers(&self, datacenter: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
        self.check_datacenter(datacenter)?;
        let voters = self.view.standing().members.voters.clone();
        Ok(voters
            .into_iter()
            .filter_map(|voter| self.view.address(voter))
            .collect())
    }

    async fn about(&self) -> Result<About, Failure> {
        not_ready()
    }

    async fn members(&self, _pool: Pool) -> Result<Option<Vec<Arc<Member>>>, Failure> {
        not_ready()
    }

    async fn join(&self, _pool: Pool, _address: &str) -> Result<(), Failure> {
        not_ready()
    }

    async fn leave(&self) -> Result<(), Failure> {
        not_ready()
    }

    async fn force_leave(&self, _pool: Pool, _name: &str, _prune: bool) -> Result<(), Failure> {
        not_ready()
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    async fn fire_event(&self, _event: UserEvent, _options: WriteOptions) -> Result<(), Failure> {
        not_ready()
    }

    async fn datacenters(&self) -> Result<Vec<String>, Failure> {
        not_ready()
    }

    async fn wan_coordinates(&self) -> Result<Vec<DatacenterCoordinates>, Failure> {
        not_ready()
    }

    async fn update_coordinate(
        &self,
        _update: NodeCoordinate,
        _options: WriteOptions,
    ) -> Result<(), Failure> {
        not_ready()
    }

    async fn raft_servers(&self, _options: ReadOptions) -> Result<Vec<RaftServer>, Failure> {
        not_ready()
    }

    async fn remove_raft_server(&self, _server: ServerRef, _options: WriteOptions) -> Result<(), Failure> {
        not_ready()
    }

    async fn servers_health(&self, _options: ReadOptions) -> Result<ServersHealth, Failure> {
        not_ready()
    }
}

/// What this agent does not do yet.
fn not_ready<T>() -> Result<T, Failure> {
    Err(Failure::Refused("this agent does not answer that yet".into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_lite::future::{block_on, zip};
    use lictor_catalog::{KvWrite, State};
    use lictor_machine::Token;
    use lictor_raft::{Configuration, Term};
    use lictor_runtime::channel;

    use super::*;
    use crate::handle::Tag;

    fn nobody() -> Standing {
        Standing {
            role: Role::Follower,
            term: Term::ZERO,
            leader: None,
            lease_until: None,
            leader_contact: None,
            members: Configuration::default(),
        }
    }

    /// What the API makes of a node's error, for a write and for a read, while the disk is in this state.
    fn answered(complaint: Option<&str>, error: &RequestError) -> [Failure; 2] {
        let (inbox, completions, mut inputs) = channel(8);
        let space = Space::default();
        space.missing(complaint.map(str::to_owned));
        let backend = ServerBackend {
            view: Arc::new(View::new(State::new(), nobody())),
            handle: Handle::new(inbox, completions),
            datacenter: "dc1".into(),
            space,
            events: Arc::default(),
        };
        let node = async {
            let mut asked = BTreeSet::<Token>::new();
            while asked.len() < 2 {
                let mut taken = Vec::new();
                inputs.take(&mut taken, 8).await;
                for posted in taken {
                    let Tag::Request(token, sender) = posted.tag else {
                        panic!("no request: {:?}", posted.input)
                    };
                    assert!(asked.insert(token));
                    sender.send(Answer::Failed(error.clone())).unwrap();
                }
            }
        };
        let requests = async {
            let write = backend
                .write(Action::Kv(KvWrite::Delete("a".into())), WriteOptions::default())
                .await
                .unwrap_err();
            let read = backend
                .read(Query::KvGet("a".into()), ReadOptions::default())
                .await
                .unwrap_err();
            [write, read]
        };
        block_on(zip(requests, node)).0
    }

    #[test]
    fn a_full_disk_is_named_where_it_is_the_reason() {
        let full = "/data/raft: no space left";
        let storage = |text: &str| Failure::Storage(text.to_owned());
        let lost = "leadership lost while committing log: /data/raft: no space left";
        for (complaint, error, expected) in [
            (None, RequestError::NoLeader, Failure::NoLeader),
            (None, RequestError::LeadershipLost, Failure::LeadershipLost),
            (Some(full), RequestError::NoLeader, storage(full)),
            (Some(full), RequestError::LeadershipLost, storage(lost)),
            (
                Some(full),
                RequestError::Stopped("by hand".into()),
                Failure::Stopping,
            ),
        ] {
            assert_eq!(
                answered(complaint, &error),
                [expected.clone(), expected],
                "{complaint:?}, {error:?}"
            );
        }
    }
}
