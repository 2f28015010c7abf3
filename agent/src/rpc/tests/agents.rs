//! Agents with real transports: servers that answer, servers that do not, and whoever asks them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lictor_gossip::{Incarnation, Member, MemberEvent, MemberState, Tags};
use lictor_http::Backend;
use lictor_machine::NodeId;
use lictor_node::agent::{DATACENTER, Pool as CorePool, ROLE, SERVER};
use lictor_transport_quic::{Event, Identity, Incoming, Limits, Options, Plane, Role, Transport, Trust};

use super::fake::Fake;
use super::runtime;
use crate::network::Purpose;
use crate::routes::Routes;
use crate::rpc::caller::{Caller, Patience};
use crate::rpc::service::Service;
use crate::rpc::wire::{self, Question};

/// An agent: its transport, and what it takes of it.
pub(super) struct Agent {
    id: u128,
    datacenter: &'static str,
    pub(super) transport: Transport,
    incoming: Option<Incoming>,
    /// Whether a server that answers has ceased to.
    pub(super) silent: Arc<AtomicBool>,
    pub(super) routes: Arc<Routes>,
}

impl Agent {
    pub(super) fn start(id: u128, role: Role, datacenter: &'static str) -> Self {
        let (transport, incoming) = Transport::bind(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: Identity {
                node: NodeId(id),
                name: format!("n{id}"),
                datacenter: datacenter.into(),
                role,
            },
            trust: Trust::shared_key(&[7; 32]).unwrap(),
            runtime: runtime(),
            limits: Limits::default(),
        })
        .unwrap();
        Self {
            id,
            datacenter,
            transport,
            incoming: Some(incoming),
            silent: Arc::default(),
            routes: Arc::new(Routes::new(datacenter.into(), None, 1)),
        }
    }

    /// A server that answers by `backend`.
    pub(super) fn serving(id: u128, datacenter: &'static str, backend: &Arc<Fake>) -> Self {
        let mut agent = Self::start(id, Role::Server, datacenter);
        let service = Service::new(
            Arc::clone(backend) as Arc<dyn Backend>,
            agent.caller(Plane::Wan),
            datacenter.into(),
            NodeId(id),
            runtime(),
        );
        let mut incoming = agent.incoming.take().unwrap();
        let silent = Arc::clone(&agent.silent);
        let task = async move {
            let mut left_open = Vec::new();
            while let Some(event) = incoming.next().await {
                if silent.load(Ordering::SeqCst) {
                    left_open.push(event);
                } else if let Event::Call {
                    plane,
                    request,
                    reply,
                    ..
                } = event
                {
                    let (purpose, ask) = Purpose::unwrap(request).unwrap();
                    assert_eq!(purpose, Purpose::Agent);
                    service.answer(plane, ask, reply).unwrap();
                }
            }
        };
        runtime().spawn(task).detach();
        agent
    }

    /// A server that takes calls and drops them: whoever made them cannot know what became of them.
    pub(super) fn dropping(id: u128) -> (Self, Arc<AtomicUsize>) {
        let mut agent = Self::start(id, Role::Server, "dc1");
        let mut incoming = agent.incoming.take().unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let task = async move {
            while let Some(event) = incoming.next().await {
                let Event::Call { request, reply, .. } = event else {
                    continue;
                };
                let (_, ask) = Purpose::unwrap(request).unwrap();
                let question = wire::decode_ask(&ask).unwrap().question;
                if question == Question::Ping {
                    reply.send(wire::encode_answer(&Ok(()), 0).into());
                } else if question == Question::Leader {
                    reply.send(wire::encode_answer(&Ok(None::<SocketAddr>), 0).into());
                } else {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        runtime().spawn(task).detach();
        (agent, dropped)
    }

    pub(super) fn client() -> Self {
        Self::start(99, Role::Client, "dc1")
    }

    /// Learns of another agent, which is asked first if it is the first.
    pub(super) fn knows(&self, other: &Self) {
        let at = other.transport.local_address().unwrap();
        self.knows_at(other.id, other.datacenter, at);
    }

    pub(super) fn knows_at(&self, id: u128, datacenter: &str, at: SocketAddr) {
        self.transport.set_address(NodeId(id), at);
        self.transport.set_wan_address(NodeId(id), at);
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let member = Arc::new(Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: at,
            tags: Tags::from([tag(ROLE, SERVER), tag(DATACENTER, datacenter)]),
            incarnation: Incarnation(1),
            state: MemberState::Alive,
        });
        let pool = if datacenter == self.datacenter {
            CorePool::Lan
        } else {
            CorePool::Wan
        };
        self.routes.observe(pool, &MemberEvent::Joined(member));
    }

    pub(super) fn caller(&self, plane: Plane) -> Caller {
        self.patient_caller(plane, Duration::from_millis(800))
    }

    /// A caller in a cluster with this election timeout.
    pub(super) fn patient_caller(&self, plane: Plane, election_timeout: Duration) -> Caller {
        Caller::new(
            self.transport.clone(),
            Arc::clone(&self.routes),
            plane,
            Patience::new(Duration::from_secs(7), election_timeout),
            runtime(),
            crate::metrics::CallCounts::new(&lictor_metrics::Registry::new()),
        )
    }
}

/// An address where nobody is.
pub(super) fn nowhere() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}
