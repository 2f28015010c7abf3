//! DNS on this agent: where it listens, what it answers from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use async_trait::async_trait;
use lictor_catalog::{Execute, Target};
use lictor_dns::{
    Ask, Config as Settings, Execution, Failure, Freshness, Handle, Listener, Meters, Reading, Server,
    Snapshot, Source,
};
use lictor_gossip::MemberState;
use lictor_http::{self as http, Backend, ReadMode, ReadOptions};
use lictor_metrics::Registry;
use lictor_node::agent::{Pool, ServerFacts};
use lictor_raft::Role;
use lictor_runtime::{Clock as _, Runtime, SystemClock};

use crate::boot::{self, StartError};
use crate::config::{self, Config};
use crate::local::Local;
use crate::view::View;

/// Binds the sockets.
pub(crate) fn listen(config: &config::Dns) -> io::Result<Vec<Listener>> {
    config.listen.iter().map(|at| Listener::bind(*at)).collect()
}

/// Serves on `listeners`. `view`: the catalog, at a server; `backend` asks for all else.
pub(crate) fn start(
    runtime: &Runtime,
    listeners: Vec<Listener>,
    config: &Config,
    backend: Arc<dyn Backend>,
    view: Option<Arc<View>>,
    local: Arc<Local>,
) -> Result<Server, StartError> {
    let mut settings = settings(config);
    // To ask oneself what one does not know would go on for ever.
    let own: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
    let local_addresses = local_addresses();
    settings.recursors.retain(|recursor| {
        let is_own = is_own(*recursor, &own, &local_addresses);
        if is_own {
            tracing::warn!(%recursor, "a DNS recursor is this agent itself, and is not asked");
        }
        !is_own
    });
    let metrics = local.metrics.clone();
    let meters = Meters::new(&metrics, &local.node_name);
    let source = Arc::new(AgentSource { backend, view, local });
    // As many as there are threads to run them.
    let workers = available_parallelism().map_or(1, |count| count.get().saturating_sub(1).max(1));
    let seed = boot::seed()?;
    let server = Server::start(runtime, listeners, source, settings, workers, meters, seed)?;
    show(&metrics, server.handle());
    Ok(server)
}

/// The addresses of this machine's interfaces.
fn local_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine are unknown: a DNS recursor that is this agent itself may be overlooked");
            Vec::new()
        }
    }
}

/// Whether who asks `recursor` reaches one of the listeners `own`, on a machine that has `local_addresses`.
fn is_own(recursor: SocketAddr, own: &[SocketAddr], local_addresses: &[IpAddr]) -> bool {
    let ip = recursor.ip().to_canonical();
    let is_local = || {
        let mut local = local_addresses.iter().map(IpAddr::to_canonical);
        ip.is_loopback() || ip.is_unspecified() || local.any(|local| local == ip)
    };
    own.iter().any(|own| {
        let at = own.ip().to_canonical();
        // A socket on every IPv6 address takes in IPv4 as well.
        let everywhere = at.is_unspecified() && (at.is_ipv6() || ip.is_ipv4());
        own.port() == recursor.port() && (at == ip || everywhere && is_local())
    })
}

/// Shows what is counted.
fn show(metrics: &Registry, server: Handle) {
    metrics.collect(move |gauges| {
        let Some(stats) = server.stats() else { return };
        let answers = stats.answers;
        for (code, count) in [
            ("noerror", answers.no_error),
            ("nxdomain", answers.no_such_name),
            ("servfail", answers.failed),
            ("refused", answers.refused),
            ("other", answers.other),
        ] {
            let labels = vec![("code".into(), code.into())];
            gauges.put_labelled("lictor.dns.answers", labels, count as f64);
        }
        for (name, count) in [
            ("lictor.dns.udp", stats.udp),
            ("lictor.dns.tcp", stats.tcp),
            ("lictor.dns.connections", stats.connections),
            ("lictor.dns.connections_refused", stats.refused_connections),
            ("lictor.dns.noise", stats.noise),
            ("lictor.dns.cached", stats.hits),
            ("lictor.dns.dropped", stats.dropped),
            ("lictor.dns.crowded", stats.crowded),
            ("lictor.dns.forwarded", stats.forwarded),
            ("lictor.dns.forwarded_in_vain", stats.unforwarded),
        ] {
            gauges.put(name, count as f64);
        }
        gauges.put("lictor.dns.kept", stats.kept as f64);
        gauges.put("lictor.dns.kept_age", stats.oldest_kept.as_secs_f64());
    });
}

/// What the configuration says about answers.
pub(crate) fn settings(config: &Config) -> Settings {
    let dns = &config.dns;
    let domain = |text: &str| {
        text.parse()
            .expect("the configuration has checked that its domains are domains")
    };
    let mut settings = Settings::new(&config.datacenter);
    settings.domain = domain(&dns.domain);
    settings.alt_domain = dns.alt_domain.as_deref().map(domain);
    settings.recursors.clone_from(&dns.recursors);
    settings.recursor_timeout = dns.recursor_timeout;
    settings.recursor_strategy = match dns.recursor_strategy {
        config::RecursorStrategy::Sequential => lictor_dns::RecursorStrategy::Sequential,
        config::RecursorStrategy::Random => lictor_dns::RecursorStrategy::Random,
    };
    settings.node_ttl = dns.node_ttl;
    settings.service_ttl = dns.service_ttl.iter().map(|(name, ttl)| (name, *ttl)).collect();
    settings.allow_stale = dns.allow_stale;
    settings.max_stale = dns.max_stale;
    settings.only_passing = dns.only_passing;
    settings.a_record_limit = dns.a_record_limit as usize;
    settings.udp_answer_limit = dns.udp_answer_limit as usize;
    settings.enable_truncate = dns.enable_truncate;
    settings.disable_compression = dns.disable_compression;
    settings.additional_node_meta = dns.additional_node_meta;
    settings.soa = lictor_dns::Soa {
        refresh: dns.soa.refresh,
        retry: dns.soa.retry,
        expire: dns.soa.expire,
        min_ttl: dns.soa.min_ttl,
    };
    settings.zone = dns.zone.as_ref().map(|zone| lictor_dns::ZonePreference {
        node_meta: zone.node_meta.clone(),
        zone: zone.name.clone(),
        min_instances: zone.min_instances as usize,
    });
    settings.srv_priority_meta.clone_from(&dns.srv_priority_meta);
    settings
}

/// The agent, as its DNS sees it.
struct AgentSource {
    backend: Arc<dyn Backend>,
    /// At a server.
    view: Option<Arc<View>>,
    local: Arc<Local>,
}

#[async_trait]
impl Source for AgentSource {
    fn snapshot(&self) -> Option<Snapshot> {
        let view = self.view.as_ref()?;
        let age = {
            let standing = view.standing();
            if standing.role == Role::Leader {
                Duration::ZERO
            } else {
                SystemClock.now().mono.since(standing.leader_contact?)
            }
        };
        let (state, generation) = view.state_and_generation();
        Some(Snapshot {
            state,
            generation,
            age,
        })
    }

    fn has_datacenter(&self, name: &str) -> bool {
        let is_named = |datacenter: &str| datacenter.eq_ignore_ascii_case(name);
        is_named(&self.local.datacenter)
            || self.local.pools.members(Pool::Wan).iter().any(|member| {
                ServerFacts::from_member(member)
                    .is_some_and(|facts| facts.state != MemberState::Left && is_named(&facts.datacenter))
            })
    }

    async fn find(&self, ask: Ask) -> Result<Reading, Failure> {
        let options = ReadOptions {
            mode: mode(ask.freshness),
            min_index: ask.after,
            wait: ask.wait,
            datacenter: ask.datacenter.clone(),
            token: None,
        };
        let reading = self.backend.read(ask.query, options).await;
        let reading = reading.map_err(|failure| self.failure(failure, ask.datacenter))?;
        Ok(Reading {
            index: reading.index,
            age: reading.last_contact,
            found: Arc::new(reading.value),
        })
    }

    async fn execute(&self, execute: lictor_dns::Execute) -> Result<Option<Execution>, Failure> {
        let options = ReadOptions {
            mode: mode(execute.freshness),
            datacenter: execute.datacenter.clone(),
            ..ReadOptions::default()
        };
        let query = Execute {
            target: Target::Named(execute.name),
            near: String::new(),
            agent: self.local.node_name.clone(),
            client: Some(execute.client),
            connect: false,
            limit: execute.limit,
            // What is not in order is shuffled where it is answered.
            seed: 0,
        };
        let reading = self.backend.execute_query(query, options).await;
        let reading = reading.map_err(|failure| self.failure(failure, execute.datacenter))?;
        Ok(reading.value.map(|executed| {
            let def = &executed.execution.query.def;
            Execution {
                service: def.service.service.to_string(),
                ttl: def.ttl,
                datacenter: executed.datacenter,
                instances: executed.execution.instances,
                ordered: executed.execution.ordered,
            }
        }))
    }
}

impl AgentSource {
    /// How DNS says that others do not answer. `datacenter`: who was asked.
    fn failure(&self, failure: http::Failure, datacenter: Option<String>) -> Failure {
        match (failure, datacenter) {
            // If it is known, it is only that nobody there can be reached.
            (http::Failure::NoPathToDatacenter, Some(name)) if !self.has_datacenter(&name) => {
                Failure::NoSuchDatacenter(name)
            }
            (failure, _) => Failure::Unavailable(failure.to_string()),
        }
    }
}

fn mode(freshness: Freshness) -> ReadMode {
    match freshness {
        Freshness::Stale { max } => ReadMode::Stale {
            max: Some(max).filter(|max| *max < Duration::MAX),
        },
        Freshness::Leader => ReadMode::Default,
    }
}

impl std::fmt::Debug for AgentSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentSource").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_recognises_itself_among_its_recursors() {
        let local: Vec<IpAddr> = ["10.0.0.5", "fd00::5"].map(|ip| ip.parse().unwrap()).into();
        let is_own = |recursor: &str, own: &[&str]| {
            let own: Vec<SocketAddr> = own.iter().map(|own| own.parse().unwrap()).collect();
            is_own(recursor.parse().unwrap(), &own, &local)
        };
        for (recursor, own) in [
            ("127.0.0.1:53", "127.0.0.1:53"),
            ("127.0.0.1:53", "0.0.0.0:53"),
            ("127.0.0.53:53", "0.0.0.0:53"),
            ("0.0.0.0:53", "0.0.0.0:53"),
            ("10.0.0.5:53", "0.0.0.0:53"),
            ("[::ffff:10.0.0.5]:53", "0.0.0.0:53"),
            ("10.0.0.5:53", "[::]:53"),
            ("[::1]:53", "[::]:53"),
            ("[fd00::5]:53", "[::]:53"),
        ] {
            assert!(is_own(recursor, &["192.0.2.1:8600", own]), "{recursor} {own}");
        }
        for (recursor, own) in [
            ("10.0.0.6:53", "0.0.0.0:53"),
            ("10.0.0.5:53", "0.0.0.0:8600"),
            ("10.0.0.5:53", "127.0.0.1:53"),
            ("[fd00::5]:53", "0.0.0.0:53"),
            ("[fd00::6]:53", "[::]:53"),
        ] {
            assert!(!is_own(recursor, &[own]), "{recursor} {own}");
        }
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert!(local_addresses().contains(&loopback));
    }
}
