//! DNS: where it is served, and how questions are answered.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::build::invalid;
use super::error::ConfigError;
use super::parsing::Parsing;
use super::{Settings, address};

const DNS_PORT: i64 = 8600;
/// Where recursors listen that say nothing else.
const RECURSOR_PORT: u16 = 53;
/// More would never be asked in the time that a client waits.
const MAX_RECURSORS: usize = 32;
const MAX_DOMAIN: usize = 128;

/// The DNS interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// UDP and TCP addresses to listen on, each once. Empty: no DNS.
    pub listen: Vec<SocketAddr>,
    /// The domain that is answered for: lower case, no dot at its end.
    pub domain: String,
    /// A second domain that is answered for in the same way, written like `domain`.
    pub alt_domain: Option<String>,
    /// Who is asked about names of other domains.
    pub recursors: Vec<SocketAddr>,
    /// How long each recursor has; never zero.
    pub recursor_timeout: Duration,
    /// In which order recursors are asked.
    pub recursor_strategy: RecursorStrategy,
    /// How long others may keep what is said of a node.
    pub node_ttl: Duration,
    /// How long others may keep what is said of services: by a whole name, or by the beginning of names with a `*` behind it.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether any server's answer is good enough.
    pub allow_stale: bool,
    /// How old an answer may be, with `allow_stale`.
    pub max_stale: Duration,
    /// Whether instances with a warning are left out.
    pub only_passing: bool,
    /// How many addresses an answer has at most; 0: as many as fit.
    pub a_record_limit: u32,
    /// How many records an answer by UDP has at most for clients that take only 512 bytes; 0: as many as fit.
    pub udp_answer_limit: u32,
    /// Whether clients are told that instances were left out.
    pub enable_truncate: bool,
    /// Whether names are written in full.
    pub disable_compression: bool,
    /// Whether a node's metadata come with its addresses.
    pub additional_node_meta: bool,
    /// The numbers in the domain's SOA record.
    pub soa: Soa,
    /// Which instances come first; `None`: all are equal.
    pub zone: Option<Zone>,
    /// The key of a service's metadata whose value is the priority of its SRV records; `None`: they all have the same.
    pub srv_priority_meta: Option<String>,
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
    /// When a secondary server gives up.
    pub expire: u32,
    /// How long others may remember that there is nothing.
    pub min_ttl: u32,
    /// From one look of a secondary server to the next.
    pub refresh: u32,
    /// The same after a failure.
    pub retry: u32,
}

/// The zone of this agent: instances in it come before others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The key of the nodes' metadata whose value is the zone they are in.
    pub node_meta: String,
    /// The zone of this agent.
    pub name: String,
    /// As long as the own zone has this many instances that can be named, only those are; at least 1.
    pub min_instances: u32,
}

/// DNS as far as it has to be parsed.
pub(super) struct Parsed {
    port: Option<u16>,
    ips: Option<Vec<IpAddr>>,
    recursors: Vec<SocketAddr>,
    recursor_timeout: Duration,
    node_ttl: Duration,
    service_ttl: BTreeMap<String, Duration>,
    max_stale: Duration,
}

/// Reads every value that has to be parsed.
pub(super) fn parse(parsed: &mut Parsing, settings: &Settings) -> Parsed {
    let port = parsed.port("ports.dns", settings.ports_dns.unwrap_or(DNS_PORT));
    // What they say of sockets is said later, as the one thing that is wrong.
    let addresses = settings
        .addresses_dns
        .as_deref()
        .filter(|text| !names_socket(text));
    let ips = parsed.ips("addresses.dns", addresses);
    if settings.recursors.len() > MAX_RECURSORS {
        parsed.problems.push(format!(
            "recursors: {} entries; at most {MAX_RECURSORS} are allowed",
            settings.recursors.len()
        ));
    }
    let recursors = settings.recursors.iter().take(MAX_RECURSORS);
    let recursors = recursors.filter_map(|text| parsed.keep(recursor(text))).collect();
    let mut duration = |key: &str, text: Option<&str>, usual| parsed.duration(key, text, usual);
    Parsed {
        recursors,
        port,
        ips,
        recursor_timeout: duration(
            "dns_config.recursor_timeout",
            settings.dns_recursor_timeout.as_deref(),
            Duration::from_secs(2),
        ),
        node_ttl: duration(
            "dns_config.node_ttl",
            settings.dns_node_ttl.as_deref(),
            Duration::ZERO,
        ),
        max_stale: duration(
            "dns_config.max_stale",
            settings.dns_max_stale.as_deref(),
            Duration::from_hours(87_600),
        ),
        service_ttl: settings
            .dns_service_ttl
            .iter()
            .map(|(name, text)| {
                let key = format!("dns_config.service_ttl[{name:?}]");
                (name.clone(), duration(&key, Some(text), Duration::ZERO))
            })
            .collect(),
    }
}

impl Parsed {
    /// Checks the rest. `client`: where listeners are that say nothing else; `domain`: what `domain` says, checked.
    pub(super) fn check(
        self,
        settings: &Settings,
        client: &[IpAddr],
        domain: Option<String>,
    ) -> Result<Dns, ConfigError> {
        if settings.addresses_dns.as_deref().is_some_and(names_socket) {
            return invalid("DNS address cannot be a unix socket");
        }
        let ips = self.ips.as_deref().unwrap_or(client);
        let listen = self.port.map_or_else(Vec::new, |port| {
            ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
        });
        if self.recursor_timeout.is_zero() {
            return invalid("dns_config.recursor_timeout cannot be 0. Must be greater than zero");
        }
        let recursor_strategy = match settings.dns_recursor_strategy.as_deref() {
            None | Some("" | "sequential") => RecursorStrategy::Sequential,
            Some("random") => RecursorStrategy::Random,
            Some(other) => {
                return invalid(format!(
                    "dns_config.recursor_strategy must be one of [sequential random], and is {other:?}"
                ));
            }
        };
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Dns {
            listen,
            domain: domain.unwrap_or_else(|| "consul".to_owned()),
            alt_domain: self::domain("alt_domain", said(&settings.alt_domain).as_deref())?,
            recursors: self.recursors,
            recursor_timeout: self.recursor_timeout,
            recursor_strategy,
            node_ttl: self.node_ttl,
            service_ttl: self.service_ttl,
            allow_stale: settings.dns_allow_stale.unwrap_or(true),
            max_stale: self.max_stale,
            only_passing: settings.dns_only_passing.unwrap_or(false),
            a_record_limit: limit("dns_config.a_record_limit", settings.dns_a_record_limit, 0)?,
            udp_answer_limit: limit("dns_config.udp_answer_limit", settings.dns_udp_answer_limit, 3)?,
            enable_truncate: settings.dns_enable_truncate.unwrap_or(false),
            disable_compression: settings.dns_disable_compression.unwrap_or(false),
            additional_node_meta: settings.dns_enable_additional_node_meta_txt.unwrap_or(true),
            soa: Soa {
                expire: settings.dns_soa_expire.unwrap_or(86_400),
                min_ttl: settings.dns_soa_min_ttl.unwrap_or(0),
                refresh: settings.dns_soa_refresh.unwrap_or(3600),
                retry: settings.dns_soa_retry.unwrap_or(600),
            },
            zone: zone(settings)?,
            srv_priority_meta: said(&settings.dns_srv_priority_meta),
        })
    }
}

/// Checks the name of a domain, for the key `key`.
pub(super) fn domain(key: &str, setting: Option<&str>) -> Result<Option<String>, ConfigError> {
    let Some(setting) = setting else { return Ok(None) };
    let domain = setting.strip_suffix('.').unwrap_or(setting).to_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if domain.len() > MAX_DOMAIN || !domain.split('.').all(label) {
        return invalid(format!("{key} cannot be {setting:?}. Must be a DNS name"));
    }
    Ok(Some(domain))
}

fn names_socket(addresses: &str) -> bool {
    addresses.split_whitespace().any(|word| word.starts_with("unix:"))
}

fn recursor(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(format!("recursors: invalid port: {text}"));
        }
        return Ok(address);
    }
    address::parse_ip("recursors", text).map(|ip| SocketAddr::new(ip, RECURSOR_PORT))
}

fn limit(key: &str, setting: Option<i64>, usual: u32) -> Result<u32, ConfigError> {
    let Some(setting) = setting else {
        return Ok(usual);
    };
    let bound = if setting < 0 {
        "greater than or equal to zero"
    } else {
        "at most 4294967295"
    };
    u32::try_from(setting)
        .map_err(|_| ConfigError::Invalid(format!("{key} cannot be {setting}. Must be {bound}")))
}

fn zone(settings: &Settings) -> Result<Option<Zone>, ConfigError> {
    let Some(node_meta) = settings.dns_zone_meta.as_deref().filter(|key| !key.is_empty()) else {
        return if settings.dns_zone_min_instances.is_some() {
            invalid(
                "dns_config.zone_min_instances needs dns_config.zone_meta: the key of node_meta that names a node's zone",
            )
        } else {
            Ok(None)
        };
    };
    let name = settings.node_meta.get(node_meta).filter(|zone| !zone.is_empty());
    let Some(name) = name else {
        return invalid(format!(
            "dns_config.zone_meta is {node_meta:?}, and node_meta does not say which zone this node is in: set node_meta.{node_meta}"
        ));
    };
    let min_instances = settings.dns_zone_min_instances.unwrap_or(1);
    match u32::try_from(min_instances) {
        Ok(min_instances @ 1..) => Ok(Some(Zone {
            node_meta: node_meta.to_owned(),
            name: name.clone(),
            min_instances,
        })),
        Ok(0) | Err(_) => invalid(format!(
            "dns_config.zone_min_instances cannot be {min_instances}. Must be between 1 and 4294967295"
        )),
    }
}
