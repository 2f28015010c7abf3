//! What operators may set, and what is set if they do not.

use std::net::SocketAddr;
use std::time::Duration;

use crate::domain::Domain;

/// Everything that decides about answers. All of it but [`Limits`] may change while the server runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data center of this agent, in lower case (`datacenter`).
    pub datacenter: String,
    /// The domain that is answered for (`domain`).
    pub domain: Domain,
    /// A second domain that is answered for in the same way (`alt_domain`).
    pub alt_domain: Option<Domain>,
    /// Who is asked about names of other domains (`recursors`).
    pub recursors: Vec<SocketAddr>,
    /// How long each recursor has (`dns_config.recursor_timeout`).
    pub recursor_timeout: Duration,
    /// In which order they are asked (`dns_config.recursor_strategy`).
    pub recursor_strategy: RecursorStrategy,
    /// How long others may keep what is said of a node, and literal addresses (`dns_config.node_ttl`).
    pub node_ttl: Duration,
    /// How long others may keep what is said of a service (`dns_config.service_ttl`).
    pub service_ttl: ServiceTtls,
    /// Whether any server's catalog is good enough, and what an agent keeps (`dns_config.allow_stale`). Otherwise the leader is asked every
    /// time.
    pub allow_stale: bool,
    /// How old what is answered may be, with [`Self::allow_stale`] (`dns_config.max_stale`). What is older is looked up again; if that fails,
    /// there is no answer.
    pub max_stale: Duration,
    /// Whether instances with a warning are left out (`dns_config.only_passing`).
    pub only_passing: bool,
    /// How many addresses an answer has at most; 0: as many as fit (`dns_config.a_record_limit`).
    pub a_record_limit: usize,
    /// How many records an answer by UDP has at most for clients that take only 512 bytes; 0: as many as fit
    /// (`dns_config.udp_answer_limit`).
    pub udp_answer_limit: usize,
    /// Whether clients are told, by the TC bit, that instances were left out (`dns_config.enable_truncate`). They are always told when
    /// anything else was.
    pub enable_truncate: bool,
    /// Whether names are written in full (`dns_config.disable_compression`).
    pub disable_compression: bool,
    /// Whether a node's metadata come with its addresses (`dns_config.enable_additional_node_meta_txt`).
    pub additional_node_meta: bool,
    /// The numbers in the domain's SOA record (`dns_config.soa`).
    pub soa: Soa,
    /// Whether instances in other data centers are named by their `wan` addresses (`translate_wan_addrs`).
    pub translate_wan_addresses: bool,
    /// Which instances come first; `None`: all are equal.
    pub zone: Option<ZonePreference>,
    /// The key of a service's metadata whose value is the priority of its SRV records; `None`: they all have 1.
    pub srv_priority_meta: Option<String>,
    /// What is put up with from clients.
    pub limits: Limits,
}

impl Config {
    /// The defaults, for a data center.
    pub fn new(datacenter: &str) -> Self {
        Self {
            datacenter: datacenter.to_ascii_lowercase(),
            domain: Domain::default(),
            alt_domain: None,
            recursors: Vec::new(),
            recursor_timeout: Duration::from_secs(2),
            recursor_strategy: RecursorStrategy::Sequential,
            node_ttl: Duration::ZERO,
            service_ttl: ServiceTtls::default(),
            allow_stale: true,
            max_stale: Duration::from_hours(87_600),
            only_passing: false,
            a_record_limit: 0,
            udp_answer_limit: 3,
            enable_truncate: false,
            disable_compression: false,
            additional_node_meta: true,
            soa: Soa::default(),
            translate_wan_addresses: false,
            zone: None,
            srv_priority_meta: None,
            limits: Limits::default(),
        }
    }
}

/// In which order recursors are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RecursorStrategy {
    /// As they are configured.
    #[default]
    Sequential,
    /// In a new random order each time.
    Random,
}

/// The numbers of the SOA record, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa {
    /// From one look of a secondary server to the next (`refresh`).
    pub refresh: u32,
    /// The same after a failure (`retry`).
    pub retry: u32,
    /// When a secondary server gives up (`expire`).
    pub expire: u32,
    /// How long others may remember that there is nothing (`min_ttl`).
    pub min_ttl: u32,
}

impl Default for Soa {
    fn default() -> Self {
        Self {
            refresh: 3600,
            retry: 600,
            expire: 86_400,
            min_ttl: 0,
        }
    }
}

/// How long others may keep what is said of services, by name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceTtls {
    /// By whole names in lower case, sorted.
    exact: Vec<(String, Duration)>,
    /// By how names begin, in lower case, the longest first.
    prefixes: Vec<(String, Duration)>,
}

impl ServiceTtls {
    /// How long, for one service: by its whole name, or else by the longest beginning that fits, or else not at all.
    pub fn of(&self, service: &str) -> Duration {
        if self.exact.is_empty() && self.prefixes.is_empty() {
            return Duration::ZERO;
        }
        let service = service.to_ascii_lowercase();
        if let Ok(at) = self.exact.binary_search_by(|(name, _)| name.cmp(&service)) {
            return self.exact[at].1;
        }
        let fitting = |(prefix, _): &&(String, Duration)| service.starts_with(prefix.as_str());
        self.prefixes
            .iter()
            .find(fitting)
            .map_or(Duration::ZERO, |(_, ttl)| *ttl)
    }
}

impl<N: AsRef<str>> FromIterator<(N, Duration)> for ServiceTtls {
    /// As the configuration has them: a name, or the beginning of names followed by `*`. Of several for one name the last counts.
    fn from_iter<I: IntoIterator<Item = (N, Duration)>>(pairs: I) -> Self {
        let mut ttls = Self::default();
        for (pattern, ttl) in pairs {
            let pattern = pattern.as_ref().to_ascii_lowercase();
            let (list, name) = match pattern.strip_suffix('*') {
                Some(prefix) => (&mut ttls.prefixes, prefix.to_owned()),
                None => (&mut ttls.exact, pattern),
            };
            list.retain(|(other, _)| *other != name);
            list.push((name, ttl));
        }
        ttls.exact.sort();
        ttls.prefixes
            .sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        ttls
    }
}

/// Instances of one's own zone come before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonePreference {
    /// The key of the nodes' metadata whose value is the zone they are in.
    pub node_meta: String,
    /// The zone of this agent.
    pub zone: String,
    /// As long as the own zone has this many instances that can be named, only those are. If it has fewer, those of other zones follow.
    pub min_instances: usize,
}

/// What is put up with from clients. None of them may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queries by UDP that wait to be looked at, for each task that does. A new one takes the place of the oldest.
    pub queue: usize,
    /// A query by UDP that has waited for longer is dropped: whoever asked has asked again.
    pub patience: Duration,
    /// Queries that wait for somebody else: a recursor, another agent. One more is answered with SERVFAIL.
    pub waiting: usize,
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_client: usize,
    /// How long a connection may stay without a query, or a query may take to arrive, or an answer to be taken.
    pub stall: Duration,
    /// Queries on one connection that wait for somebody else; the next is not read before one of them is answered.
    pub pipelined: usize,
    /// Bytes that all encoded answers which are kept have together.
    pub cache_bytes: usize,
    /// Answers of servers that an agent without a catalog keeps.
    pub kept: usize,
    /// How long such an answer is refreshed after it was last wanted.
    pub keep_refreshing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 512,
            patience: Duration::from_millis(100),
            waiting: 1024,
            connections: 1024,
            connections_per_client: 128,
            stall: Duration::from_secs(8),
            pipelined: 32,
            cache_bytes: 32 << 20,
            kept: 4096,
            keep_refreshing: Duration::from_mins(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_counts_before_the_longest_beginning() {
        let seconds = |pattern, seconds| (pattern, Duration::from_secs(seconds));
        let ttls: ServiceTtls = [
            seconds("ab*", 1),
            seconds("ab*", 10),
            seconds("ABC*", 20),
            seconds("abcd", 30),
        ]
        .into_iter()
        .collect();
        let of = |name| ttls.of(name).as_secs();
        assert_eq!(
            ["ab", "abx", "Abc", "abcx", "abcD", "abcde", "other"].map(of),
            [10, 10, 20, 20, 30, 20, 0]
        );
        let all: ServiceTtls = [seconds("*", 5), seconds("web", 7)].into_iter().collect();
        assert_eq!((all.of("db").as_secs(), all.of("web").as_secs()), (5, 7));
        assert_eq!(ServiceTtls::default().of("web"), Duration::ZERO);
    }
}
