//! Between the pools and the transport: packets ride datagrams, calls ride streams.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use lictor_gossip::{Answer, Effect, Event, InboundId, Input, MemberEvent, Sender, Target, UserEvent};
use lictor_machine::Token;
use lictor_node::agent::{self, Pool};
use lictor_runtime::Runtime;
use lictor_transport_quic::{PeerIdentity, Plane, ReplyHandle, Role, Transport};

use crate::handle::{Handle, Tag};
use crate::memory::Keeper;
use crate::network::Purpose;
use crate::pools::Pools;

/// Carries out what the members of the pools want done.
#[derive(Debug)]
pub(crate) struct GossipOutlet {
    transport: Transport,
    runtime: Runtime,
    handle: Handle,
    pools: Arc<Pools>,
    keeper: Keeper,
    news: News,
    requests: HashMap<Token, oneshot::Sender<Answer>>,
    calls: BTreeMap<(InboundId, Pool), ReplyHandle>,
}

/// How many calls of others may wait for their reply. Most are answered at once; those that never will be make room.
const CALLS_MAX: usize = 1024;

/// Where what other parts of the agent may want to know goes. Both must be unbounded, or be taken from without waiting for the loop.
#[derive(Debug)]
pub(crate) struct News {
    /// The pools change.
    pub(crate) members: async_channel::Sender<(Pool, MemberEvent)>,
    /// Somebody told everybody something. To be acted upon once the keeper has settled.
    pub(crate) events: async_channel::Sender<UserEvent>,
}

impl GossipOutlet {
    /// Carries out what is wanted by these means.
    pub(crate) fn new(
        transport: Transport,
        runtime: Runtime,
        handle: Handle,
        pools: Arc<Pools>,
        keeper: Keeper,
        news: News,
    ) -> Self {
        Self {
            transport,
            runtime,
            handle,
            pools,
            keeper,
            news,
            requests: HashMap::new(),
            calls: BTreeMap::new(),
        }
    }

    pub(crate) fn asked(&mut self, token: Token, sender: oneshot::Sender<Answer>) {
        self.requests.insert(token, sender);
    }

    pub(crate) fn called(&mut self, pool: Pool, id: InboundId, reply: ReplyHandle) {
        if self.calls.len() >= CALLS_MAX {
            // Its caller learns that no reply will come.
            self.calls.pop_first();
        }
        self.calls.insert((id, pool), reply);
    }

    pub(crate) fn effect(&mut self, pool: Pool, effect: Effect) {
        match effect {
            Effect::Packet { to, packet } => {
                // What cannot be sent is lost, which the protocol reckons with.
                let _ = self.transport.datagram(to, plane(pool), packet);
            }
            Effect::Call {
                id,
                to,
                request,
                timeout,
            } => {
                let target = match to {
                    Target::Node(node) => lictor_transport_quic::Target::Node(node),
                    Target::Address(address) => lictor_transport_quic::Target::Address(address),
                };
                let request = match pool {
                    Pool::Lan => request,
                    Pool::Wan => Purpose::Gossip.wrap(request.to_vec()),
                };
                let (transport, handle) = (self.transport.clone(), self.handle.clone());
                let calling = async move {
                    let answer = transport.call(target, plane(pool), request, timeout).await;
                    let result = answer
                        .map(|(peer, answer)| (sender(pool, &peer), answer))
                        .map_err(|error| error.to_string());
                    let input = Input::CallDone { id, result };
                    handle.complete(agent::Input::Gossip { pool, input });
                };
                self.runtime.spawn(calling).detach();
            }
            Effect::Reply { id, reply } => {
                if let Some(handle) = self.calls.remove(&(id, pool)) {
                    // A caller that has given up hears nothing.
                    let _ = handle.send(reply);
                }
            }
            Effect::Address { id, address } => match pool {
                Pool::Lan => self.transport.set_address(id, address),
                Pool::Wan => self.transport.set_wan_address(id, address),
            },
            Effect::Forget(id) => match pool {
                Pool::Lan => self.transport.forget(id),
                Pool::Wan => self.transport.forget_wan(id),
            },
            Effect::Member(event) => {
                self.pools.apply(pool, &event);
                log_member(pool, &event);
                // At its end the agent listens no more.
                let _ = self.news.members.try_send((pool, event));
            }
            Effect::UserEvent(event) => {
                let _ = self.news.events.try_send(event);
            }
            Effect::Query(query) => {
                tracing::debug!(name = query.name, "a query that this agent does not know");
            }
            Effect::QueryResponse { .. } | Effect::QueryAck { .. } => {}
            Effect::Answer { token, answer } => {
                if let Some(sender) = self.requests.remove(&token) {
                    let _ = sender.send(answer);
                }
            }
            Effect::Remember(memory) => self.keeper.keep(pool, memory),
            Effect::Event(event) => log_event(pool, &event),
            // The agent's machine keeps it to itself.
            Effect::Left => {}
        }
    }
}

/// The plane on which a pool's members talk.
const fn plane(pool: Pool) -> Plane {
    match pool {
        Pool::Lan => Plane::Gossip,
        Pool::Wan => Plane::Wan,
    }
}

/// The pool whose members talk on a plane.
pub(crate) const fn pool_of(plane: Plane) -> Option<Pool> {
    match plane {
        Plane::Gossip => Some(Pool::Lan),
        Plane::Wan => Some(Pool::Wan),
        Plane::Raft | Plane::Rpc => None,
    }
}

/// A peer as a member of a pool. In the WAN pool a name bears its data center.
fn sender(pool: Pool, peer: &PeerIdentity) -> Sender {
    let identity = &peer.identity;
    Sender {
        id: identity.node,
        name: match pool {
            Pool::Lan => identity.name.clone(),
            Pool::Wan => wan_name(&identity.name, &identity.datacenter),
        },
        server: identity.role == Role::Server,
        address: peer.address,
    }
}

/// The name of a server in the WAN pool.
pub(crate) fn wan_name(name: &str, datacenter: &str) -> String {
    format!("{name}.{datacenter}")
}

/// Brings a packet to its pool; it is dropped when there is no room, as any packet may be.
pub(crate) fn packet(handle: &Handle, pool: Pool, peer: &PeerIdentity, packet: Bytes) {
    let from = sender(pool, peer);
    let input = Input::Packet { from, packet };
    handle.offer(agent::Input::Gossip { pool, input });
}

/// Brings a call to its pool.
pub(crate) async fn call(
    handle: &Handle,
    pool: Pool,
    peer: &PeerIdentity,
    id: InboundId,
    request: Bytes,
    reply: ReplyHandle,
) {
    let from = sender(pool, peer);
    let input = Input::Call { id, from, request };
    let tag = Tag::GossipCall(pool, id, reply);
    handle.call(agent::Input::Gossip { pool, input }, tag).await;
}

fn log_member(pool: Pool, event: &MemberEvent) {
    let member = event.member();
    let (name, address, id) = (&member.name, member.address, member.id);
    let pool = match pool {
        Pool::Lan => "lan",
        Pool::Wan => "wan",
    };
    match event {
        MemberEvent::Joined(_) => tracing::info!(pool, %name, %address, %id, "member joined"),
        MemberEvent::Updated(_) => {
            tracing::debug!(pool, %name, %address, %id, state = ?member.state, "member changed");
        }
        MemberEvent::Failed(_) => tracing::warn!(pool, %name, %address, %id, "member failed"),
        MemberEvent::Left(_) => tracing::info!(pool, %name, %address, %id, "member left"),
        MemberEvent::Reaped(_) => tracing::info!(pool, %name, %id, "member forgotten"),
    }
}

fn log_event(pool: Pool, event: &Event) {
    match event {
        Event::Refuted { incarnation } => {
            tracing::info!(?pool, %incarnation, "others took this agent for dead, and were contradicted");
        }
        Event::NameConflict {
            holder,
            other,
            other_address,
        } => tracing::warn!(
            ?pool, name = %holder.name, holder = %holder.id, at = %holder.address, %other, %other_address,
            "two agents have one name: give one of them another -node"
        ),
        Event::IdConflict {
            holder,
            other_address,
        } => tracing::warn!(
            ?pool, id = %holder.id, name = %holder.name, at = %holder.address, %other_address,
            "two agents have one node id: was a data directory copied? Give one of them an empty one"
        ),
        Event::Degraded { id, name } => tracing::warn!(
            ?pool, %id, %name,
            "a member answers on streams and not by datagrams: are large UDP packets blocked on the way?"
        ),
        Event::Refused { from, reason } => {
            tracing::warn!(?pool, %from, %reason, "refused what a member sent");
        }
        other => tracing::debug!(?pool, ?other, "gossip"),
    }
}
