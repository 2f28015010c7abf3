//! What a server answers for its own data center: reads from the published state, once it is fresh enough, and the rest through
//! the server within.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lictor_catalog::{
    Action, Execute, Execution, Found, Outcome, Query, Session, SessionId, TxnError, TxnOp, TxnResult,
};
use lictor_http::{
    Failure, RaftServer, ReadMode, ReadOptions, Reading, ServerHealth, ServerRef, ServersHealth,
    UNKNOWN_OUTCOME,
};
use lictor_machine::{Index, Instant, NodeId, UnixMillis};
use lictor_node::{Answer, OperatorAnswer, OperatorRequest, Request, RequestError, Standing};
use lictor_raft::{self as raft, Role};
use lictor_runtime::{Clock as _, SystemClock};

use crate::handle::Handle;
use crate::metrics::{ReadCounts, RequestCounts};
use crate::snapshot::Archives;
use crate::storage::Space;
use crate::view::View;

/// A server, as its own data center sees it. Data centers in options are not looked at.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) view: Arc<View>,
    pub(crate) handle: Handle,
    pub(crate) space: Space,
    pub(crate) archives: Arc<Archives>,
    pub(crate) counts: Arc<RequestCounts>,
}

/// How good an answer is.
#[derive(Clone, Copy)]
pub(crate) struct Freshness {
    pub(crate) known_leader: bool,
    pub(crate) last_contact: Duration,
}

impl Server {
    /// See [`lictor_http::Backend::read`]. Borrows what is asked, so that those who wait hold it once.
    pub(crate) async fn read(&self, query: &Query, options: &ReadOptions) -> Result<Reading<Found>, Failure> {
        self.counts.requests.increment();
        self.counts.queries.increment();
        let begun = ReadCounts::begin(query);
        let Freshness {
            known_leader,
            last_contact,
        } = self.gate(options.mode).await?;
        if options.min_index > Index::ZERO {
            let waiting = self.view.wait_for_change(query, options.min_index, options.wait);
            waiting.await.map_err(|_| Failure::Busy {
                limit: "blocking queries".into(),
                retry_after: Duration::from_secs(1),
            })?;
        }
        let (index, value) = self.view.state().query(query);
        self.counts.reads.answered(query, &value, begun);
        Ok(Reading {
            index,
            known_leader,
            last_contact,
            value,
        })
    }

    /// See [`lictor_http::Backend::read_txn`].
    pub(crate) async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        options: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure> {
        self.counts.requests.increment();
        self.counts.queries.increment();
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

    /// Carries a prepared query out; `None` if there is none of this name. See [`lictor_http::Backend::execute_query`].
    pub(crate) async fn execute_query(
        &self,
        execute: &Execute,
        mode: ReadMode,
    ) -> Result<Reading<Option<Execution>>, Failure> {
        self.counts.requests.increment();
        self.counts.queries.increment();
        let begun = std::time::Instant::now();
        let Freshness {
            known_leader,
            last_contact,
        } = self.gate(mode).await?;
        let state = self.view.state();
        let value = state.execute(execute).map_err(Failure::Refused)?;
        self.counts.reads.executed(execute, begun);
        Ok(Reading {
            index: state.index(),
            known_leader,
            last_contact,
            value,
        })
    }

    /// See [`lictor_http::Backend::write`].
    pub(crate) async fn write(&self, action: Action) -> Result<Outcome, Failure> {
        self.counts.requests.increment();
        let (start, of, leading) = (std::time::Instant::now(), self.counts.of(&action), self.leads());
        match self.handle.request(Request::Write(action)).await {
            Answer::Written { outcome, .. } => {
                self.counts.written(of, start, leading);
                Ok(outcome)
            }
            other @ (Answer::Readable { .. }
            | Answer::Transferred
            | Answer::Operator(_)
            | Answer::Renewed(_)
            | Answer::Failed(_)) => Err(self.unanswered(other)),
        }
    }

    /// See [`lictor_http::Backend::renew_session`].
    pub(crate) async fn renew_session(&self, session: SessionId) -> Result<Option<Arc<Session>>, Failure> {
        match self.handle.request(Request::RenewSession(session)).await {
            Answer::Renewed(session) => Ok(session),
            other @ (Answer::Written { .. }
            | Answer::Readable { .. }
            | Answer::Transferred
            | Answer::Operator(_)
            | Answer::Failed(_)) => Err(self.unanswered(other)),
        }
    }

    /// Whether this server is the leader, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.view.standing().role == Role::Leader
    }

    /// Where the leader is, if there is one.
    pub(crate) fn leader(&self) -> Option<SocketAddr> {
        let leader = self.view.standing().leader;
        leader.and_then(|leader| self.view.address(leader))
    }

    /// Where the voting servers are.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        let standing = self.view.standing();
        let voters = standing.members.voters.iter();
        voters.filter_map(|voter| self.view.address(*voter)).collect()
    }

    /// See [`lictor_http::Backend::raft_servers`].
    pub(crate) async fn raft_servers(&self, mode: ReadMode) -> Result<Vec<RaftServer>, Failure> {
        let stale = matches!(mode, ReadMode::Stale { .. });
        match self.operate(OperatorRequest::Servers { stale }).await? {
            OperatorAnswer::Servers(servers) => Ok(servers.into_iter().map(raft_server).collect()),
            OperatorAnswer::Health(_) | OperatorAnswer::Removed => Err(Failure::Stopping),
        }
    }

    /// See [`lictor_http::Backend::remove_raft_server`].
    pub(crate) async fn remove_raft_server(&self, server: ServerRef) -> Result<(), Failure> {
        let servers = self.raft_servers(ReadMode::Default).await?;
        let named = |candidate: &&RaftServer| match &server {
            ServerRef::Id(id) => id.parse::<NodeId>() == Ok(candidate.id),
            ServerRef::Address(address) => {
                let named = address.parse::<SocketAddr>();
                named.is_ok_and(|named| candidate.address == Some(named))
            }
        };
        let Some(id) = servers.iter().find(named).map(|found| found.id) else {
            return Err(Failure::NoSuchServer(server));
        };
        match self.operate(OperatorRequest::Remove(id)).await? {
            OperatorAnswer::Removed => Ok(()),
            OperatorAnswer::Servers(_) | OperatorAnswer::Health(_) => Err(Failure::Stopping),
        }
    }

    /// See [`lictor_http::Backend::servers_health`].
    pub(crate) async fn servers_health(&self) -> Result<ServersHealth, Failure> {
        match self.operate(OperatorRequest::Health).await? {
            OperatorAnswer::Health(health) => Ok(servers_health(health, SystemClock.now().wall)),
            OperatorAnswer::Servers(_) | OperatorAnswer::Removed => Err(Failure::Stopping),
        }
    }

    async fn operate(&self, request: OperatorRequest) -> Result<OperatorAnswer, Failure> {
        match self.handle.request(Request::Operator(request)).await {
            Answer::Operator(answer) => Ok(answer),
            other @ (Answer::Written { .. }
            | Answer::Readable { .. }
            | Answer::Transferred
            | Answer::Renewed(_)
            | Answer::Failed(_)) => Err(self.unanswered(other)),
        }
    }

    /// What the API says of an answer that is not the one to this request.
    fn unanswered(&self, answer: Answer) -> Failure {
        match answer {
            Answer::Failed(error) => self.failure(error),
            // The node answers what it was asked.
            Answer::Written { .. }
            | Answer::Readable { .. }
            | Answer::Transferred
            | Answer::Operator(_)
            | Answer::Renewed(_) => Failure::Stopping,
        }
    }

    /// Waits until the published state is fresh enough for `mode`.
    pub(crate) async fn gate(&self, mode: ReadMode) -> Result<Freshness, Failure> {
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
            // Boxed: most reads need no permission, and those who wait for a change would keep room for this all the while.
            match Box::pin(self.handle.request(Request::Read(mode))).await {
                Answer::Readable { .. } => {}
                Answer::Failed(error) => return Err(self.failure(error)),
                Answer::Written { .. } | Answer::Transferred | Answer::Operator(_) | Answer::Renewed(_) => {
                    return Err(Failure::Stopping);
                }
            }
        }
        Ok(fresh)
    }

    /// What the API says of a node's error.
    fn failure(&self, error: RequestError) -> Failure {
        match (self.space.complaint(), error) {
            // Nobody leads because nobody can write: say so.
            (Some(complaint), RequestError::NoLeader) => Failure::Storage(complaint),
            // Here it waits for space, or did; clients know the words that say that it may still come to pass.
            (Some(complaint), error @ RequestError::LeadershipLost) => {
                Failure::Storage(format!("{error}: {complaint}; {UNKNOWN_OUTCOME}"))
            }
            (_, error) => failure(error),
        }
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

fn raft_server(server: lictor_node::RaftServer) -> RaftServer {
    let lictor_node::RaftServer {
        id,
        name,
        address,
        leader,
        voter,
    } = server;
    RaftServer {
        id,
        name,
        address,
        leader,
        voter,
    }
}

fn servers_health(health: lictor_node::ServersHealth, now: UnixMillis) -> ServersHealth {
    let servers: Vec<_> = health
        .servers
        .into_iter()
        .map(|server| server_health(server, now))
        .collect();
    ServersHealth {
        healthy: servers.iter().all(|server| server.healthy),
        failure_tolerance: health.failure_tolerance as u64,
        servers,
    }
}

fn server_health(health: lictor_node::ServerHealth, now: UnixMillis) -> ServerHealth {
    let stable_for = u64::try_from(health.stable_for.as_millis()).unwrap_or(u64::MAX);
    // What follows the colon says which program it is; clients look for a plain version.
    let version = health.build.split(':').next().unwrap_or_default();
    ServerHealth {
        server: raft_server(health.server),
        member: health.member,
        version: version.to_owned(),
        last_contact: health.last_contact,
        last_term: health.last_term.0,
        last_index: health.last_index,
        healthy: health.healthy,
        stable_since: UnixMillis(now.0.saturating_sub(stable_for)),
    }
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
        let backend = Server {
            view: Arc::new(View::new(State::new(), nobody())),
            handle: Handle::new(inbox, completions),
            space,
            archives: Arc::new(Archives::new(None, crate::snapshot::Limits::default(), 0)),
            counts: Arc::new(RequestCounts::new(&lictor_metrics::Registry::new())),
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
                .write(Action::Kv(KvWrite::Delete("a".into())))
                .await
                .unwrap_err();
            let read = backend
                .read(&Query::KvGet("a".into()), &ReadOptions::default())
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
        let lost = format!("leadership lost while committing log: {full}; {UNKNOWN_OUTCOME}");
        for (complaint, error, expected) in [
            (None, RequestError::NoLeader, Failure::NoLeader),
            (None, RequestError::LeadershipLost, Failure::LeadershipLost),
            (Some(full), RequestError::NoLeader, storage(full)),
            (Some(full), RequestError::LeadershipLost, storage(&lost)),
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
