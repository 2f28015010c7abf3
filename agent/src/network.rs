//! Between the node and the transport.
//!
//! On the planes that carry requests, RPC and WAN, a call's first byte says whom it is for ([`Purpose`]); its answer is
//! bare. Whoever serves a purpose gets what is behind that byte, and may rely on the plane's rule of who may call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use lictor_machine::NodeId;
use lictor_node::agent::Pool;
use lictor_node::{Call, CallId, ClusterId, InboundId, Input, Reply, wire};
use lictor_raft::{Lane, Message};
use lictor_runtime::Runtime;
use lictor_transport_quic::{
    CallError, CallFailure, ConnectError, Event, Identity, Incoming, Plane, Role, SendError, Target,
    Transport,
};

use crate::gossip;
use crate::handle::{Handle, Tag};
use crate::rpc::service::Service;

/// Whom a call on the RPC or WAN plane is for: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// For the node's core ([`lictor_node::wire`]).
    Core = 0,
    /// For the pool's gossip, where the plane is shared with it.
    Gossip = 1,
    /// For the agent: a request of its API, passed on by another agent.
    Agent = 2,
}

impl Purpose {
    /// A call for this purpose.
    pub(crate) fn wrap(self, mut body: Vec<u8>) -> Bytes {
        body.insert(0, self as u8);
        Bytes::from(body)
    }

    /// The first byte of a call for this purpose, for the rest to be put behind it.
    pub(crate) fn begin(self) -> Vec<u8> {
        vec![self as u8]
    }

    /// Takes a call apart; `None` if it is empty, or for nobody that is known here.
    pub(crate) fn unwrap(mut call: Bytes) -> Option<(Self, Bytes)> {
        let purpose = match call.first()? {
            0 => Self::Core,
            1 => Self::Gossip,
            2 => Self::Agent,
            _ => return None,
        };
        call.advance(1);
        Some((purpose, call))
    }
}

/// How long a complaint about the same peer for the same reason is not repeated.
const REPEAT_AFTER: Duration = Duration::from_mins(1);

/// The node's way out to other agents.
#[derive(Debug)]
pub(crate) struct Network {
    transport: Transport,
    runtime: Runtime,
    handle: Handle,
    complaints: Arc<Complaints>,
}

impl Network {
    pub(crate) fn new(transport: Transport, runtime: Runtime, handle: Handle) -> Self {
        Self {
            transport,
            runtime,
            handle,
            complaints: Arc::default(),
        }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Queues a Raft message. If it is lost, the node is told.
    pub(crate) fn send(&self, to: NodeId, cluster: ClusterId, message: &Message) {
        let lane = match message.body.lane() {
            Lane::Control => 0,
            Lane::Append => 1,
            Lane::Snapshot => 2,
        };
        let frame = Bytes::from(wire::encode_raft(cluster, message));
        if let Err(error) = self.transport.send(to, Plane::Raft, lane, frame) {
            if !matches!(error, SendError::Unreachable(ConnectError::BackingOff { .. })) {
                self.complaints.about(Target::Node(to), &error.to_string());
            }
            self.handle.complete(Input::Unreachable { peer: to });
        }
    }

    /// Calls another agent; the node gets the outcome.
    pub(crate) fn call(&self, id: CallId, to: lictor_node::Target, call: &Call, timeout: Duration) {
        let target = match to {
            lictor_node::Target::Node(node) => Target::Node(node),
            lictor_node::Target::Address(address) => Target::Address(address),
        };
        let request = Purpose::Core.wrap(wire::encode_call(call));
        let (transport, handle, complaints) = (
            self.transport.clone(),
            self.handle.clone(),
            Arc::clone(&self.complaints),
        );
        let calling = async move {
            let answer = transport.call(target, Plane::Rpc, request, timeout).await;
            let result = match answer {
                Ok((peer, answer)) => read_reply(&peer.identity, &answer).map_err(|detail| {
                    complaints.about(target, &format!("its answer cannot be read: {detail}"));
                    lictor_node::CallFailure {
                        maybe_sent: true,
                        detail,
                    }
                }),
                Err(error) => {
                    if !is_echo(&error) {
                        complaints.about(target, &error.to_string());
                    }
                    let maybe_sent = matches!(error, CallError::MaybeSent(_));
                    Err(lictor_node::CallFailure {
                        maybe_sent,
                        detail: error.to_string(),
                    })
                }
            };
            handle.complete(Input::CallDone { id, result });
        };
        self.runtime.spawn(calling).detach();
    }
}

/// Brings what other agents send to the node, until the transport is closed.
///
/// On a server `service` answers what other agents pass on of their API.
pub(crate) async fn receive(mut incoming: Incoming, handle: Handle, service: Option<Service>) {
    let complaints = Complaints::default();
    let mut calls = 0;
    while let Some(event) = incoming.next().await {
        match event {
            Event::Frame {
                peer,
                plane: Plane::Raft,
                lane: _,
                frame,
            } => match wire::decode_raft(&frame) {
                Ok((cluster, message)) => {
                    handle
                        .post(Input::Raft {
                            from: peer.node(),
                            cluster,
                            message,
                        })
                        .await;
                }
                Err(error) => complaints.about(
                    Target::Node(peer.node()),
                    &format!("a Raft message cannot be read: {error}"),
                ),
            },
            Event::Datagram {
                peer,
                plane,
                datagram,
            } => match gossip::pool_of(plane) {
                Some(pool) => gossip::packet(&handle, pool, &peer, datagram),
                None => complaints.about(
                    Target::Node(peer.node()),
                    &format!("no packets are expected on the {} plane", plane.alpn()),
                ),
            },
            Event::Call {
                peer,
                plane: Plane::Gossip,
                request,
                reply,
            } => {
                calls += 1;
                let id = lictor_gossip::InboundId(calls);
                gossip::call(&handle, Pool::Lan, &peer, id, request, reply).await;
            }
            Event::Call {
                peer,
                plane: plane @ (Plane::Rpc | Plane::Wan),
                request,
                reply,
            } => {
                // Wherever the reply handle is dropped, the caller learns that there will be no answer.
                let refused = match (Purpose::unwrap(request), plane) {
                    (Some((Purpose::Core, request)), Plane::Rpc) => {
                        match read_call(&peer.identity, &request) {
                            Ok(call) => {
                                calls += 1;
                                let id = InboundId(calls);
                                let from = peer.node();
                                handle
                                    .call(Input::Call { id, from, call }, Tag::Call(id, reply))
                                    .await;
                                continue;
                            }
                            Err(error) => format!("a call cannot be read: {error}"),
                        }
                    }
                    (Some((Purpose::Gossip, request)), Plane::Wan) => {
                        calls += 1;
                        let id = lictor_gossip::InboundId(calls);
                        gossip::call(&handle, Pool::Wan, &peer, id, request, reply).await;
                        continue;
                    }
                    (Some((Purpose::Agent, request)), plane) => match &service {
                        Some(service) => match service.answer(plane, request, reply) {
                            Ok(()) => continue,
                            Err(error) => format!("a request that it passes on cannot be read: {error}"),
                        },
                        None => "it passes a request on to this agent, which is no server".to_owned(),
                    },
                    (Some((purpose @ (Purpose::Core | Purpose::Gossip), _)), plane) => {
                        format!(
                            "nobody here takes {purpose:?} calls on the {} plane",
                            plane.alpn()
                        )
                    }
                    (None, _) => "a call does not say whom it is for".to_owned(),
                };
                complaints.about(Target::Node(peer.node()), &refused);
            }
            Event::Unreachable {
                target,
                plane,
                reason,
                ..
            } => {
                complaints.about(target, &reason.to_string());
                if let (Target::Node(peer), Plane::Raft) = (target, plane) {
                    handle.complete(Input::Unreachable { peer });
                }
            }
            Event::Frame { peer, plane, .. } | Event::Call { peer, plane, .. } => {
                complaints.about(
                    Target::Node(peer.node()),
                    &format!("nothing is expected on the {} plane", plane.alpn()),
                );
            }
        }
    }
}

/// Reads a call of `peer`. Servers found and join clusters; to anybody else's word on that nobody listens.
fn read_call(peer: &Identity, request: &[u8]) -> Result<Call, String> {
    let call = wire::decode_call(request).map_err(|error| error.to_string())?;
    match call {
        Call::Hello(_) | Call::Found(_) | Call::Adopt(_) if peer.role != Role::Server => {
            Err("it greets as a server, and its certificate is not a server's".to_owned())
        }
        Call::Hello(_)
        | Call::Found(_)
        | Call::Adopt(_)
        | Call::Write(_)
        | Call::Operator(_)
        | Call::RenewSession(_) => Ok(call),
    }
}

/// Reads the reply of `peer`, which speaks for nobody but itself.
fn read_reply(peer: &Identity, answer: &[u8]) -> Result<Reply, String> {
    let reply = wire::decode_reply(answer).map_err(|error| error.to_string())?;
    match &reply {
        Reply::Hello(hello) if hello.me.id != peer.node => Err(format!(
            "it says that it is {}, and its certificate that it is {}",
            hello.me.id, peer.node
        )),
        Reply::Hello(_)
        | Reply::Found(_)
        | Reply::Written { .. }
        | Reply::NotLeader(_)
        | Reply::Failed(_)
        | Reply::Adopted(_)
        | Reply::Operator(_)
        | Reply::Renewed(_) => Ok(reply),
    }
}

/// Whether the call failed only because an attempt before it had, of which enough was said then.
fn is_echo(error: &CallError) -> bool {
    let (CallError::NotSent(failure) | CallError::MaybeSent(failure)) = error;
    matches!(failure, CallFailure::Connect(ConnectError::BackingOff { .. }))
}

/// Logs trouble with peers, without repeating itself.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// When what was last said.
    last: Mutex<BTreeMap<(Target, String), Instant>>,
}

impl Complaints {
    pub(crate) fn about(&self, target: Target, reason: &str) {
        if self.is_fresh(target, reason, Instant::now()) {
            tracing::warn!(peer = %target, reason, "trouble with another agent");
        }
    }

    /// Whether this was not said lately; from now on it was.
    fn is_fresh(&self, target: Target, reason: &str, now: Instant) -> bool {
        const REMEMBERED_MAX: usize = 1024;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let about = (target, reason.to_owned());
        if last
            .get(&about)
            .is_some_and(|at| now.duration_since(*at) < REPEAT_AFTER)
        {
            return false;
        }
        if last.len() >= REMEMBERED_MAX {
            last.clear();
        }
        last.insert(about, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use lictor_catalog::{Action, KvWrite};
    use lictor_node::{Hello, PeerAddress};

    use super::*;

    fn identity(node: u128, role: Role) -> Identity {
        Identity {
            node: NodeId(node),
            name: "n".into(),
            datacenter: "dc1".into(),
            role,
        }
    }

    fn hello(node: u128) -> Hello {
        Hello {
            me: PeerAddress {
                id: NodeId(node),
                name: "n".into(),
                address: "127.0.0.1:8300".parse().unwrap(),
            },
            expect: 3,
            cluster: None,
            given_up: 0,
            peers: Vec::new(),
        }
    }

    #[test]
    fn a_call_says_whom_it_is_for() {
        for purpose in [Purpose::Core, Purpose::Gossip, Purpose::Agent] {
            let call = purpose.wrap(vec![7, 8]);
            assert_eq!(
                Purpose::unwrap(call),
                Some((purpose, Bytes::from_static(&[7, 8])))
            );
        }
        assert_eq!(Purpose::unwrap(Bytes::new()), None);
        assert_eq!(Purpose::unwrap(Bytes::from_static(&[3, 1])), None);
    }

    #[test]
    fn only_servers_take_part_in_a_founding() {
        let greeting = wire::encode_call(&Call::Hello(hello(1)));
        assert!(read_call(&identity(1, Role::Server), &greeting).is_ok());
        assert!(read_call(&identity(1, Role::Client), &greeting).is_err());
        let write = wire::encode_call(&Call::Write(Action::Kv(KvWrite::Delete("k".into()))));
        assert!(read_call(&identity(1, Role::Client), &write).is_ok());
        assert!(read_call(&identity(1, Role::Server), b"").is_err());
    }

    #[test]
    fn nobody_answers_in_the_name_of_another() {
        let answer = wire::encode_reply(&Reply::Hello(hello(1)));
        assert!(read_reply(&identity(1, Role::Server), &answer).is_ok());
        let refused = read_reply(&identity(2, Role::Server), &answer).unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
        assert!(read_reply(&identity(1, Role::Server), b"").is_err());
    }

    #[test]
    fn nothing_is_said_twice_in_a_minute() {
        let complaints = Complaints::default();
        let (one, two) = (Target::Node(NodeId(1)), Target::Node(NodeId(2)));
        let start = Instant::now();
        assert!(complaints.is_fresh(one, "silent", start));
        assert!(complaints.is_fresh(two, "silent", start));
        assert!(complaints.is_fresh(one, "late", start));
        // Two reasons that take turns are as tiresome as one.
        for second in 1..REPEAT_AFTER.as_secs() {
            let now = start + Duration::from_secs(second);
            assert!(!complaints.is_fresh(one, "silent", now));
            assert!(!complaints.is_fresh(one, "late", now));
        }
        assert!(complaints.is_fresh(one, "silent", start + REPEAT_AFTER));
    }

    #[test]
    fn an_attempt_that_is_not_made_yet_is_no_news() {
        let silence = ConnectError::TimedOut(Duration::from_secs(1));
        let backing_off = ConnectError::BackingOff {
            retry_in: Duration::from_millis(7),
            last: Arc::new(silence.clone()),
        };
        assert!(is_echo(&CallError::NotSent(backing_off.into())));
        assert!(!is_echo(&CallError::NotSent(silence.into())));
        assert!(!is_echo(&CallError::MaybeSent(CallFailure::Deadline)));
    }
}
