//! Answers the asks of others, as this agent answers its own API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt as _;
use lictor_http::{Backend, Failure, offload};
use lictor_machine::NodeId;
use lictor_runtime::Runtime;
use lictor_transport_quic::{Plane, ReplyHandle};
use serde::Serialize;

use super::caller::Caller;
use super::wire::{self, Ask, Question};
use crate::snapshot::passing::{ArchiveQuestion, Desk};

/// How many asks may be open at once; most of them wait for a change.
const OPEN_MAX: usize = 100_000;

/// Answers asks; on servers only.
#[derive(Clone)]
pub(crate) struct Service {
    backend: Arc<dyn Backend>,
    /// For what other data centers are asked.
    caller: Caller,
    datacenter: String,
    runtime: Runtime,
    open: Arc<AtomicUsize>,
    archives: Arc<Desk>,
}

/// One of those that are open.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// Answers for `datacenter` by `backend`, and has others' asks passed on by `caller`.
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        caller: Caller,
        datacenter: String,
        me: NodeId,
        runtime: Runtime,
    ) -> Self {
        Self {
            backend,
            caller,
            datacenter,
            archives: Desk::new(me, runtime.clone()),
            runtime,
            open: Arc::default(),
        }
    }

    /// Answers an ask that came on `plane`, on a task of its own, which ends when the caller gives up. An error says that
    /// it is none.
    pub(crate) fn answer(
        &self,
        plane: Plane,
        ask: Bytes,
        reply: ReplyHandle,
    ) -> Result<(), wire::DecodeError> {
        let decoded = wire::decode_ask(&ask)?;
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&self.open));
        let service = self.clone();
        let task = async move {
            let _open = open;
            let answer = async {
                Some(if before < OPEN_MAX {
                    service.think(plane, decoded, ask, &reply).await
                } else {
                    refuse(Failure::Busy {
                        limit: "requests of other agents".into(),
                        retry_after: Duration::from_secs(1),
                    })
                })
            };
            let given_up = async {
                reply.abandoned().await;
                None
            };
            if let Some(answer) = answer.or(given_up).await {
                // One who gave up just now does not mind.
                let _ = reply.send(answer);
            }
        };
        self.runtime.spawn(task).detach();
        Ok(())
    }

    async fn think(&self, plane: Plane, ask: Ask, encoded: Bytes, reply: &ReplyHandle) -> Bytes {
        let Ask { datacenter, question } = ask;
        if question == Question::Ping {
            return answer(Ok(()));
        }
        if datacenter == self.datacenter {
            return self.answer_here(question, reply).await;
        }
        // What came from another data center goes no further: nobody sends asks around in circles.
        if plane != Plane::Rpc {
            return refuse(Failure::NoPathToDatacenter);
        }
        let relayed = self.caller.relay(&datacenter, &question, encoded).await;
        relayed.unwrap_or_else(refuse)
    }

    async fn answer_here(&self, question: Question, reply: &ReplyHandle) -> Bytes {
        let backend = &self.backend;
        match question {
            Question::Ping => answer(Ok(())),
            Question::Read { query, mut options } => {
                options.datacenter = None;
                let reading = backend.read(query, options).await;
                let size = wire::reading_bytes(&reading);
                long_answer(reading, size, reply).await
            }
            Question::ReadTxn { ops, mut options } => {
                options.datacenter = None;
                let reading = backend.read_txn(ops, options).await;
                let size = wire::txn_bytes(&reading);
                long_answer(reading, size, reply).await
            }
            Question::Write { action, mut options } => {
                options.datacenter = None;
                let outcome = backend.write(action, options).await;
                let size = wire::outcome_bytes(&outcome);
                long_answer(outcome, size, reply).await
            }
            Question::Leader => answer(backend.leader(None).await),
            Question::Peers => answer(backend.peers(None).await),
            Question::FireEvent { event, mut options } => {
                options.datacenter = None;
                answer(backend.fire_event(event, options).await)
            }
            Question::Datacenters => answer(backend.datacenters().await),
            Question::WanCoordinates => answer(backend.wan_coordinates().await),
            Question::UpdateCoordinate { update, mut options } => {
                options.datacenter = None;
                answer(backend.update_coordinate(update, options).await)
            }
            Question::RaftServers { mut options } => {
                options.datacenter = None;
                answer(backend.raft_servers(options).await)
            }
            Question::RemoveRaftServer { server, mut options } => {
                options.datacenter = None;
                answer(backend.remove_raft_server(server, options).await)
            }
            Question::RenewSession { session, mut options } => {
                options.datacenter = None;
                answer(backend.renew_session(session, options).await)
            }
            Question::ExecuteQuery { execute, mut options } => {
                options.datacenter = None;
                let executed = backend.execute_query(*execute, options).await;
                let size = wire::executed_bytes(&executed);
                long_answer(executed, size, reply).await
            }
            Question::Archive(question) => self.pass_archive(question).await,
            Question::ServersHealth { mut options } => {
                options.datacenter = None;
                answer(backend.servers_health(options).await)
            }
        }
    }
}

impl Service {
    async fn pass_archive(&self, question: ArchiveQuestion) -> Bytes {
        let (archives, backend) = (&self.archives, &self.backend);
        match question {
            ArchiveQuestion::Save { mut options } => {
                options.datacenter = None;
                answer(archives.save(backend, options).await)
            }
            ArchiveQuestion::Next { ticket, number } => answer(archives.next(ticket, number).await),
            ArchiveQuestion::Restore { mut options } => {
                options.datacenter = None;
                answer(archives.restore(backend, options))
            }
            ArchiveQuestion::Piece {
                ticket,
                number,
                bytes,
            } => answer(archives.piece(ticket, number, bytes).await),
            ArchiveQuestion::Finish { ticket } => answer(archives.finish(ticket).await),
        }
    }
}

fn answer<T: Serialize>(answer: Result<T, Failure>) -> Bytes {
    wire::encode_answer(&answer, 0).into()
}

/// Encodes an answer of about `size` bytes when there is room for it, and not on a thread that others wait for.
async fn long_answer<T: Serialize + Send + 'static>(
    answer: Result<T, Failure>,
    size: usize,
    reply: &ReplyHandle,
) -> Bytes {
    let _room = reply.room_for(size).await;
    offload(size, move || Bytes::from(wire::encode_answer(&answer, size))).await
}

fn refuse(failure: Failure) -> Bytes {
    answer::<()>(Err(failure))
}
