//! What an agent answers by itself, in either mode: about itself, and its pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_channel::Sender;
use async_trait::async_trait;
use lictor_gossip::{self as gossip, Coordinate, Member};
use lictor_http::{
    About, DatacenterCoordinates, EventError, EventLog, Failure, Host, LocalService, LogReaders, ThisAgent,
    UserEvent,
};
use lictor_local::{LocalView, Request};
use lictor_machine::{NodeId, Token};
use lictor_metrics::Registry;
use lictor_node::agent::{Pool, ServerFacts};

use crate::config::JoinAddress;
use crate::gossip::wan_name;
use crate::handle::Handle;
use crate::host;
use crate::joining;
use crate::pools::Pools;
use crate::reload::Reload;
use crate::remote_exec;
use crate::running::{Entry, Running};
use crate::signals::Asked;
use crate::vitals::Watch;

/// The agent as it is by itself.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) id: NodeId,
    pub(crate) node_name: String,
    pub(crate) datacenter: String,
    pub(crate) server: bool,
    /// The port at which others are joined, if no other is named.
    pub(crate) port: u16,
    pub(crate) node_meta: BTreeMap<String, String>,
    pub(crate) settings: lictor_http::Settings,
    pub(crate) handle: Handle,
    pub(crate) pools: Arc<Pools>,
    pub(crate) events: EventLog,
    pub(crate) running: Arc<Running>,
    pub(crate) reload: Arc<Reload>,
    /// Whether checks that run programs may be registered through the API.
    pub(crate) scripts_from_api: bool,
    pub(crate) vitals: Watch,
    pub(crate) metrics: Registry,
    /// Those who read along what is logged.
    pub(crate) log: Arc<LogReaders>,
    /// Where to ask for the agent's end.
    pub(crate) end: Sender<Asked>,
    /// Closed once the agent has left.
    pub(crate) left: async_channel::Receiver<()>,
}

#[async_trait]
impl ThisAgent for Local {
    fn about(&self) -> Result<About, Failure> {
        let member = self.pools.member(Pool::Lan, self.id).ok_or(Failure::Stopping)?;
        let vitals = self.vitals.last();
        let mut stats = self.vitals.sections();
        let section = |pairs: &[(&str, String)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()));
            pairs.collect::<BTreeMap<String, String>>()
        };
        stats.insert(
            "build".to_owned(),
            section(&[
                ("version", lictor_http::CONSUL_VERSION.to_owned()),
                ("lictor", env!("CARGO_PKG_VERSION").to_owned()),
            ]),
        );
        let servers = self.datacenter_servers(&self.datacenter).len();
        let mut consul = vec![("server", self.server.to_string())];
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        stats.insert(
            "runtime".to_owned(),
            section(&[
                ("arch", go_name(std::env::consts::ARCH).to_owned()),
                ("cpu_count", cpus.to_string()),
                ("os", go_name(std::env::consts::OS).to_owned()),
            ]),
        );
        if self.server {
            let leader = vitals.as_ref().and_then(|vitals| vitals.raft.as_ref()?.leader);
            let member = leader.and_then(|leader| self.pools.member(Pool::Lan, leader));
            let address = member.map(|member| member.address.to_string());
            consul.push(("leader_addr", address.unwrap_or_default()));
            let leader = leader.map(|leader| leader == self.id);
            consul.push(("leader", leader.unwrap_or(false).to_string()));
            consul.push(("known_datacenters", self.datacenters().len().to_string()));
            consul.push(("bootstrap", (self.settings.bootstrap_expect == 1).to_string()));
        } else {
            consul.push(("known_servers", servers.to_string()));
        }
        stats.insert("consul".to_owned(), section(&consul));
        Ok(About {
            datacenter: self.datacenter.clone(),
            node_name: self.node_name.clone(),
            node_id: self.id,
            server: self.server,
            settings: self.settings.clone(),
            coordinate: vitals
                .filter(|_| !self.settings.disable_coordinates)
                .map(|vitals| vitals.lan.coordinate),
            member,
            stats,
            meta: self.node_meta.clone(),
        })
    }

    fn members(&self, pool: lictor_http::Pool) -> Option<Vec<Arc<Member>>> {
        let members = self.pools.members(core_pool(pool));
        (!members.is_empty()).then_some(members)
    }

    async fn join(&self, pool: lictor_http::Pool, address: &str) -> Result<(), Failure> {
        let address =
            JoinAddress::parse(address, self.port).map_err(|error| Failure::Several(vec![error]))?;
        self.in_pool(pool)?;
        let pool = core_pool(pool);
        let (mut addresses, reasons) = joining::resolve_all(&[address]).await;
        // Scripts have every agent join the same addresses, its own among them.
        if let Some(me) = self.pools.member(pool, self.id)
            && addresses.contains(&me.address)
        {
            addresses.retain(|address| *address != me.address);
            if addresses.is_empty() {
                return Ok(());
            }
        }
        joining::ask(pool, addresses, reasons, &self.handle)
            .await
            .map(drop)
            .map_err(Failure::Several)
    }

    async fn leave(&self) -> Result<(), Failure> {
        // If nobody listens any more, the agent is on its way out already.
        let _ = self.end.send(Asked::Leave).await;
        // Nothing is ever sent here; it is closed when the time has come.
        let _ = self.left.recv().await;
        Ok(())
    }

    async fn force_leave(&self, pool: lictor_http::Pool, name: &str, prune: bool) -> Result<(), Failure> {
        self.in_pool(pool)?;
        let far = wan_name(name, &self.datacenter);
        let places: &[(Pool, &str)] = match pool {
            lictor_http::Pool::Lan if self.server => &[(Pool::Lan, name), (Pool::Wan, &far)],
            lictor_http::Pool::Lan => &[(Pool::Lan, name)],
            lictor_http::Pool::Wan => &[(Pool::Wan, name)],
        };
        for (pool, name) in places {
            let known = self
                .pools
                .members(*pool)
                .iter()
                .any(|member| member.name == *name);
            if !known {
                continue;
            }
            let ask = |token: Token| gossip::Input::ForceLeave {
                token,
                name: (*name).to_owned(),
                prune,
            };
            if let gossip::Answer::Failed(reason) = self.handle.gossip(*pool, ask).await {
                return Err(Failure::Refused(reason));
            }
        }
        Ok(())
    }

    fn metrics(&self) -> &Registry {
        &self.metrics
    }

    fn log(&self) -> &Arc<LogReaders> {
        &self.log
    }

    async fn host(&self) -> Host {
        let place = self.settings.data_dir.clone();
        blocking::unblock(move || host::look(place.as_deref())).await
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    fn running(&self) -> Arc<LocalView> {
        self.running.view()
    }

    async fn running_after(&self, seen: &Arc<LocalView>) -> Arc<LocalView> {
        self.running.after(seen).await
    }

    async fn change(&self, request: Request) -> Result<(), Failure> {
        if !self.scripts_from_api && request.runs_programs() {
            return Err(Failure::Refused(
                "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
                    .to_owned(),
            ));
        }
        let entry = Entry::of(&request, &self.running.view());
        match self.handle.local(request).await {
            Some(result) => {
                result?;
                entry.into_iter().for_each(Entry::tell);
                Ok(())
            }
            None => Err(Failure::Stopping),
        }
    }

    async fn reload(&self) -> Result<(), Failure> {
        self.reload.run().await.map_err(Failure::Refused)
    }
}

/// What an event is to an agent.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing: it is for others.
    ForOthers,
    /// Something that its clients are told.
    Event(String),
    /// That somebody wants a command carried out. Clients are not told.
    Command(UserEvent),
}

impl Local {
    /// Takes in an event, if this agent is among those whom it concerns.
    pub(crate) fn receive(&self, told: &gossip::UserEvent) -> Result<Heard, EventError> {
        let event = UserEvent::from_gossip(told)?;
        let view = self.running.view();
        let services: Vec<(&str, Vec<String>)> = view
            .services
            .iter()
            .map(|(_, service)| {
                let tags = service.def.tags.iter().map(ToString::to_string);
                (&*service.def.name, tags.collect())
            })
            .collect();
        let services: Vec<LocalService<'_>> = services
            .iter()
            .map(|(name, tags)| LocalService { name, tags })
            .collect();
        if !event.is_for(&self.node_name, &services)? {
            return Ok(Heard::ForOthers);
        }
        if event.name == remote_exec::EVENT {
            return Ok(Heard::Command(event));
        }
        let name = event.name.clone();
        self.events.add(event);
        Ok(Heard::Event(name))
    }

    /// Tells an event to all agents of this data center.
    pub(crate) async fn fire_event(&self, event: &UserEvent) -> Result<(), Failure> {
        let (name, payload) = event.to_gossip();
        let ask = |token| gossip::Input::UserEvent {
            token,
            name,
            payload,
            coalesce: false,
        };
        match self.handle.gossip(Pool::Lan, ask).await {
            gossip::Answer::Failed(reason) => Err(Failure::Refused(reason)),
            gossip::Answer::Done | gossip::Answer::Joined { .. } | gossip::Answer::QueryDone => Ok(()),
        }
    }

    /// Whether an agent of this data center goes by this name.
    pub(crate) fn knows(&self, node: &str) -> bool {
        let members = self.pools.members(Pool::Lan);
        members
            .iter()
            .any(|member| member.name.eq_ignore_ascii_case(node))
    }

    /// The servers of a data center, as far as this agent is in a pool with them.
    fn datacenter_servers(&self, datacenter: &str) -> Vec<(Arc<Member>, ServerFacts)> {
        let pool = if datacenter.eq_ignore_ascii_case(&self.datacenter) {
            Pool::Lan
        } else {
            Pool::Wan
        };
        let members = self.pools.members(pool).into_iter();
        members
            .filter_map(|member| {
                let facts = ServerFacts::from_member(&member)?;
                Some((member, facts))
            })
            .filter(|(_, facts)| facts.datacenter.eq_ignore_ascii_case(datacenter))
            .collect()
    }

    /// All data centers that this agent knows, the nearest first: by the median of the estimated round-trip times to their servers. Those
    /// of which nothing is known come last, by name. On a server.
    pub(crate) fn datacenters(&self) -> Vec<String> {
        let mut known: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        known.insert(self.datacenter.clone(), vec![f64::NEG_INFINITY]);
        let here = self.pools.coordinate(self.id);
        for member in self.pools.members(Pool::Wan) {
            let Some(facts) = ServerFacts::from_member(&member).filter(|facts| !facts.datacenter.is_empty())
            else {
                continue;
            };
            if matches!(facts.state, gossip::MemberState::Left) {
                continue;
            }
            let times = known.entry(facts.datacenter).or_default();
            let there = self.pools.coordinate(member.id);
            times.extend(
                here.zip(there)
                    .map(|(here, there)| here.distance_to(&there).as_secs_f64()),
            );
        }
        let mut by_distance: Vec<(f64, String)> = known
            .into_iter()
            .map(|(name, mut times)| {
                times.sort_by(f64::total_cmp);
                (times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY), name)
            })
            .collect();
        by_distance.sort_by(|(a, a_name), (b, b_name)| a.total_cmp(b).then_with(|| a_name.cmp(b_name)));
        by_distance.into_iter().map(|(_, name)| name).collect()
    }

    /// Where the servers of all data centers are. On a server.
    pub(crate) fn wan_coordinates(&self) -> Vec<DatacenterCoordinates> {
        let mut found: BTreeMap<String, Vec<(String, Coordinate)>> = BTreeMap::new();
        for member in self.pools.members(Pool::Wan) {
            if let Some(facts) = ServerFacts::from_member(&member) {
                let servers = found.entry(facts.datacenter).or_default();
                servers.extend(self.pools.coordinate(facts.id).map(|at| (facts.name, at)));
            }
        }
        found
            .into_iter()
            .map(|(datacenter, servers)| DatacenterCoordinates { datacenter, servers })
            .collect()
    }

    fn in_pool(&self, pool: lictor_http::Pool) -> Result<(), Failure> {
        if pool == lictor_http::Pool::Wan && self.pools.members(Pool::Wan).is_empty() {
            return Err(Failure::Refused(
                "this agent is not in the WAN pool: only servers are".to_owned(),
            ));
        }
        Ok(())
    }
}

/// The name of a processor or a system as those who parse these texts know it.
fn go_name(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "macos" => "darwin",
        other => other,
    }
}

/// The pool that the API means.
pub(crate) const fn core_pool(pool: lictor_http::Pool) -> Pool {
    match pool {
        lictor_http::Pool::Lan => Pool::Lan,
        lictor_http::Pool::Wan => Pool::Wan,
    }
}
