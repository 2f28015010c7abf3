//! The whole of an agent: the pools that it is in, and the server within, if it is one.
//!
//! [`Agent`] is a [`Machine`] made of machines. What it adds is what they have to tell each other: gossip tells the server which other
//! servers there are; the server tells gossip which cluster it is in, and whom to give up; the LAN pool tells the WAN pool whom
//! to join; and all of them leave in the right order.

mod coordinates;
mod facts;
mod io;
mod leave;
mod members;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use lictor_gossip::{self as gossip, Gossip, Member, MemberEvent, Memory, Tags};
use lictor_machine::{Clamped, Deadline, Instant, Machine, Now, Token, UnixMillis};

use crate::local::{self, Local};
use crate::node::{Node, NodeFault};
use crate::reconcile::Reconciler;
use crate::{ClusterId, io as server};
use leave::Leaving;

pub use facts::{BUILD, CLIENT, CLUSTER, DATACENTER, ROLE, SERVER, ServerFacts, WAN_ADDRESS};
pub use io::{Config, Distance, Effect, Input, Pool, Reject, Timer};

/// Tokens of this module begin here; a driver's requests to a pool use lower ones.
const OWN_TOKENS: u64 = 1 << 63;

/// One agent, without its sockets and disks. See the module's documentation.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    clock: Clamped,
    wall: UnixMillis,
    lan: Gossip,
    wan: Option<Gossip>,
    server: Option<Box<Node>>,
    local: Option<Box<Local>>,
    reconciler: Reconciler,
    /// What this agent says of itself, but for its cluster.
    tags: Tags,
    /// The cluster that the tags of this agent name.
    announced: Option<ClusterId>,
    out: VecDeque<Effect>,
    duty_at: Option<Instant>,
    leaving: Leaving,
}

/// What an agent keeps of its pools over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memories {
    /// Of the LAN pool.
    pub lan: Memory,
    /// Of the WAN pool.
    pub wan: Memory,
}

impl Agent {
    /// Starts an agent; with a server within, it must have been started at the same time, and `config.wan` names its WAN pool.
    pub fn start(
        mut config: Config,
        server: Option<Node>,
        memories: Memories,
        now: Now,
    ) -> Result<Self, gossip::ConfigError> {
        let server = server.map(Box::new);
        let tags = config.lan.tags.clone();
        let announced = server.as_ref().and_then(|server| server.notes().cluster);
        config.lan.tags = facts::with_cluster(&tags, announced);
        let lan = Gossip::start(config.lan.clone(), memories.lan, now)?;
        let wan = config
            .wan
            .clone()
            .filter(|_| server.is_some())
            .map(|wan| Gossip::start(wan, memories.wan, now))
            .transpose()?;
        let duty_at = server.is_some().then_some(now.mono);
        let mut agent = Self {
            config,
            clock: Clamped::new(now.mono),
            wall: now.wall,
            lan,
            wan,
            server,
            local: None,
            reconciler: Reconciler::default(),
            tags,
            announced,
            out: VecDeque::new(),
            duty_at,
            leaving: Leaving::No,
        };
        let me = MemberEvent::Joined(agent.lan.me().clone());
        agent.tell_server(&me);
        // A pool tells of others; that this agent is in it is for the agent to say.
        for pool in [Pool::Lan, Pool::Wan] {
            let me = agent
                .pool(pool)
                .map(|member| MemberEvent::Joined(member.me().clone()));
            let effect = me.map(gossip::Effect::Member);
            agent
                .out
                .extend(effect.map(|effect| Effect::Gossip { pool, effect }));
        }
        Ok(agent)
    }

    /// The agent, with what runs on it: registrations are taken, checked, and brought into the catalog.
    #[must_use]
    pub fn with_local(mut self, local: Local) -> Self {
        self.local = Some(Box::new(local));
        self
    }

    /// What runs on this agent.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_deref()
    }

    /// The member that this agent is of a pool; `None` if it is not in it.
    pub fn pool(&self, pool: Pool) -> Option<&Gossip> {
        match pool {
            Pool::Lan => Some(&self.lan),
            Pool::Wan => self.wan.as_ref(),
        }
    }

    /// The server within.
    pub fn server(&self) -> Option<&Node> {
        self.server.as_deref()
    }

    fn now(&self) -> Now {
        Now {
            mono: self.clock.latest(),
            wall: self.wall,
        }
    }

    fn gossip_input(&mut self, pool: Pool, input: gossip::Input) {
        let now = self.now();
        let member = match pool {
            Pool::Lan => Some(&mut self.lan),
            Pool::Wan => self.wan.as_mut(),
        };
        if let Some(member) = member {
            // What a member refuses it counts, and says in an event.
            let _ = member.handle(now, input);
        }
    }

    fn local_input(&mut self, input: local::Input) -> Result<(), Reject> {
        let now = self.now();
        let size = self.lan.size();
        let local = self.local.as_mut().ok_or(Reject::NoLocal)?;
        local.set_cluster_size(size);
        Ok(local.handle(now, input)?)
    }

    fn server_input(&mut self, input: server::Input) {
        let now = self.now();
        if let Some(server) = &mut self.server {
            // It refuses only when it has stopped, which the driver sees by itself.
            let _ = server.handle(now, input);
        }
    }

    /// Carries out, or passes on, one effect of the server within.
    fn translate_server(&mut self, effect: server::Effect) {
        if matches!(effect, server::Effect::StoreWhole { .. }) {
            self.reconciler.catalog_replaced(self.clock.latest());
        }
        match effect {
            server::Effect::Expel(id) => {
                for pool in [Pool::Lan, Pool::Wan] {
                    let name = self
                        .pool(pool)
                        .and_then(|member| member.member(id))
                        .map(|member| member.name.clone());
                    if let Some(name) = name {
                        let token = Token(OWN_TOKENS);
                        self.gossip_input(
                            pool,
                            gossip::Input::ForceLeave {
                                token,
                                name,
                                prune: false,
                            },
                        );
                    }
                }
            }
            server::Effect::Removed => self.removed(),
            server::Effect::Stopped => self.server_stopped(),
            effect @ (server::Effect::Persist(_)
            | server::Effect::SaveNotes(_)
            | server::Effect::Send { .. }
            | server::Effect::Fetch { .. }
            | server::Effect::Store(_)
            | server::Effect::ReplaceState(_)
            | server::Effect::StoreWhole { .. }
            | server::Effect::Publish(_)
            | server::Effect::Standing(_)
            | server::Effect::Call { .. }
            | server::Effect::Reply { .. }
            | server::Effect::Answer { .. }
            | server::Effect::Address(_)
            | server::Effect::Event(_)) => self.out.push_back(Effect::Server(effect)),
        }
    }

    /// Carries out, or passes on, one effect of a pool.
    fn translate_gossip(&mut self, pool: Pool, effect: gossip::Effect) {
        match &effect {
            gossip::Effect::Member(event) => {
                if pool == Pool::Lan {
                    let event = event.clone();
                    self.tell_server(&event);
                    self.reconciler.member_changed(&event, self.clock.latest());
                    self.forget_coordinates(&event);
                    if matches!(event, MemberEvent::Joined(_)) {
                        self.duty_soon();
                    }
                } else {
                    self.duty_soon();
                }
            }
            gossip::Effect::Answer { token, .. } if token.0 >= OWN_TOKENS => return,
            gossip::Effect::Left => {
                self.pool_left(pool);
                return;
            }
            gossip::Effect::Packet { .. }
            | gossip::Effect::Call { .. }
            | gossip::Effect::Reply { .. }
            | gossip::Effect::Address { .. }
            | gossip::Effect::Forget(_)
            | gossip::Effect::UserEvent(_)
            | gossip::Effect::Query(_)
            | gossip::Effect::QueryResponse { .. }
            | gossip::Effect::QueryAck { .. }
            | gossip::Effect::Answer { .. }
            | gossip::Effect::Remember(_)
            | gossip::Effect::Event(_) => {}
        }
        self.out.push_back(Effect::Gossip { pool, effect });
    }

    /// What gossip says of a server of this data center is the server's business.
    fn tell_server(&mut self, event: &MemberEvent) {
        let Some(facts) = ServerFacts::from_member(event.member()) else {
            return;
        };
        if matches!(event, MemberEvent::Joined(_)) {
            // Without anything that runs here, there is nobody to tell.
            let _ = self.local_input(local::Input::ServersFound);
        }
        match event {
            MemberEvent::Reaped(_) => self.server_input(server::Input::Forgotten(facts.id)),
            MemberEvent::Joined(_)
            | MemberEvent::Updated(_)
            | MemberEvent::Failed(_)
            | MemberEvent::Left(_) => {
                self.server_input(server::Input::Known(facts));
            }
        }
    }

    /// Says in the pools which cluster the server belongs to, as soon as it belongs to one.
    fn announce_cluster(&mut self) {
        let cluster = self.server.as_ref().and_then(|server| server.notes().cluster);
        if cluster != self.announced {
            self.announced = cluster;
            let tags = facts::with_cluster(&self.tags, cluster);
            self.gossip_input(Pool::Lan, gossip::Input::SetTags(tags));
        }
    }

    fn duty_soon(&mut self) {
        if self.duty_at.is_some() {
            self.duty_at = Some(self.clock.latest());
        }
    }

    /// What a server does now and then.
    fn do_duties(&mut self) {
        if self.server.is_none() || self.leaving.has_begun() {
            self.duty_at = None;
            return;
        }
        self.duty_at = Some(self.clock.latest() + self.config.duty_interval);
        self.bring_servers_to_wan();
        self.tell_distances();
        self.write_coordinates();
    }

    /// Has the WAN pool join every server of this data center that is not in it, so that it is enough to name one.
    fn bring_servers_to_wan(&mut self) {
        let Some(wan) = &self.wan else { return };
        let missing = |member: &&Arc<Member>| {
            let there = wan.member(member.id);
            member.state.is_well() && there.is_none_or(|there| !there.state.is_well())
        };
        let servers = self
            .lan
            .members()
            .filter(|member| ServerFacts::from_member(member).is_some());
        let addresses: Vec<SocketAddr> = servers
            .filter(|member| member.id != self.config.lan.id)
            .filter(missing)
            .map(|member| facts::wan_address(member))
            .take(gossip::MAX_JOIN_ADDRESSES)
            .collect();
        if !addresses.is_empty() {
            let token = Token(OWN_TOKENS);
            self.gossip_input(Pool::Wan, gossip::Input::Join { token, addresses });
        }
    }

    fn tell_distances(&mut self) {
        let Some(wan) = &self.wan else { return };
        let mut distances = vec![Distance {
            id: self.config.lan.id,
            coordinate: *wan.coordinate(),
        }];
        distances.extend(wan.members().filter_map(|member| {
            let coordinate = *wan.coordinate_of(member.id)?;
            Some(Distance {
                id: member.id,
                coordinate,
            })
        }));
        self.out.push_back(Effect::Distances(distances));
    }
}

impl Machine for Agent {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Timer;
    type Fault = NodeFault;

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reject> {
        self.clock.advance(now.mono);
        self.wall = now.wall;
        let now = self.now();
        match input {
            Input::Server(input) => {
                let server = self.server.as_mut().ok_or(Reject::NotServer)?;
                server.handle(now, input)?;
                self.announce_cluster();
                self.see_who_leads();
            }
            Input::Gossip {
                input: gossip::Input::Leave | gossip::Input::SetTags(_),
                ..
            } => return Err(Reject::NotByPool),
            Input::Gossip {
                pool: Pool::Lan,
                input,
            } => self.lan.handle(now, input)?,
            Input::Gossip {
                pool: Pool::Wan,
                input,
            } => {
                self.wan.as_mut().ok_or(Reject::NotInPool)?.handle(now, input)?;
            }
            Input::SetTags(tags) => {
                self.tags.clone_from(&tags);
                let tags = facts::with_cluster(&tags, self.announced);
                self.gossip_input(Pool::Lan, gossip::Input::SetTags(tags));
            }
            Input::Local(input) => self.local_input(input)?,
            Input::Leave => self.leave(),
            Input::Stop => self.stop(),
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now) {
        let at = self.clock.advance(now.mono);
        self.wall = now.wall;
        let now = self.now();
        self.lan.handle_timeout(now);
        if let Some(wan) = &mut self.wan {
            wan.handle_timeout(now);
        }
        if let Some(server) = &mut self.server {
            server.handle_timeout(now);
            self.see_who_leads();
        }
        if let Some(local) = &mut self.local {
            local.set_cluster_size(self.lan.size());
            local.handle_timeout(now);
        }
        if self.duty_at.is_some_and(|due| due <= at) {
            self.do_duties();
        }
        if self.reconciler.deadline().is_some_and(|due| due <= at) {
            self.reconcile();
        }
        self.leave_timeout(at);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.out.pop_front() {
                return Some(effect);
            }
            // The server goes first: somebody may wait for an answer.
            if let Some(effect) = self.server.as_mut().and_then(|server| server.poll_effect()) {
                self.translate_server(effect);
            } else if let Some(effect) = self.local.as_mut().and_then(|local| local.poll_effect()) {
                self.out.push_back(Effect::Local(effect));
            } else if let Some(effect) = self.lan.poll_effect() {
                self.translate_gossip(Pool::Lan, effect);
            } else if let Some(effect) = self.wan.as_mut().and_then(Machine::poll_effect) {
                self.translate_gossip(Pool::Wan, effect);
            } else {
                return None;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline<Timer>> {
        let server = self.server.as_ref().and_then(|server| server.poll_timeout());
        let local = self.local.as_ref().and_then(|local| local.poll_timeout());
        let lan = self.lan.poll_timeout();
        let wan = self.wan.as_ref().and_then(Machine::poll_timeout);
        let own = |at: Option<Instant>, reason| at.map(|at| Deadline { at, reason });
        [
            server.map(|deadline| Deadline {
                at: deadline.at,
                reason: Timer::Server(deadline.reason),
            }),
            local.map(|deadline| Deadline {
                at: deadline.at,
                reason: Timer::Local(deadline.reason),
            }),
            own(lan.map(|deadline| deadline.at), Timer::Gossip(Pool::Lan)),
            own(wan.map(|deadline| deadline.at), Timer::Gossip(Pool::Wan)),
            own(self.duty_at, Timer::Duty),
            own(self.reconciler.deadline(), Timer::Reconcile),
            own(self.leaving.deadline(), Timer::Leave),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|deadline| deadline.at)
    }

    fn fault(&self) -> Option<&NodeFault> {
        self.server.as_ref().and_then(|server| server.fault())
    }
}
