//! What is said of nodes, of addresses, and of the domain itself.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use lictor_catalog::{Instance, NodeDef, NodeInfo};

use crate::answer::{Answer, Data, Item, Record};
use crate::config::Config;
use crate::domain::Domain;
use crate::kind::Kind;
use crate::name::Name;
use crate::services::{Draft, Place, node_address};

/// How many servers an answer names.
const NAME_SERVERS: usize = 3;

/// Metadata with a key that begins so are said without the key.
const PLAIN_META: &str = "rfc1035-";

/// What is said of a node.
pub(crate) fn draft(
    config: &Config,
    domain: &Domain,
    kind: Kind,
    node: Option<&NodeDef>,
    is_far: bool,
) -> Draft {
    let ttl = seconds(config.node_ttl);
    let Some(node) = node else {
        return Draft {
            answer: negative(config, domain, ResponseCode::NXDomain),
            hosts: Vec::new(),
        };
    };
    let mut items = Vec::new();
    let mut hosts = Vec::new();
    match Place::of(node_address(node, is_far && config.translate_wan_addresses)) {
        Place::Address(address) if is_asked_for(address, kind) => {
            items.push(Item::single(Record::address(None, ttl, address)));
        }
        Place::Host(host) if kind.follows_aliases() => {
            hosts.push((items.len(), host.clone()));
            items.push(Item::single(Record {
                owner: None,
                ttl,
                data: Data::Cname(host),
            }));
        }
        Place::Address(_) | Place::Host(_) | Place::Nowhere => {}
    }
    let mut additional = Vec::new();
    if matches!(kind, Kind::Txt | Kind::Any) {
        items.extend(meta(node, None, ttl).map(Item::single));
    } else if matches!(kind, Kind::A | Kind::Aaaa) && config.additional_node_meta {
        additional.extend(meta(node, None, ttl));
    }
    let answer = if items.is_empty() {
        Answer {
            additional,
            ..negative(config, domain, ResponseCode::NoError)
        }
    } else {
        Answer {
            additional,
            ..Answer::of(items)
        }
    };
    Draft { answer, hosts }
}

/// What is said of a name that stands for an address.
pub(crate) fn literal(config: &Config, domain: &Domain, kind: Kind, address: IpAddr) -> Answer {
    if is_asked_for(address, kind) {
        let record = Record::address(None, seconds(config.node_ttl), address);
        Answer::of(vec![Item::single(record)])
    } else {
        negative(config, domain, ResponseCode::NoError)
    }
}

/// There is nothing of the kind, or nothing at all.
pub(crate) fn negative(config: &Config, domain: &Domain, code: ResponseCode) -> Answer {
    Answer {
        code,
        authority: vec![soa(config, domain)],
        ..Answer::of(Vec::new())
    }
}

/// Who serves the domain: `servers` are the instances of the service that servers are, in random order.
pub(crate) fn authority(config: &Config, domain: &Domain, kind: Kind, servers: &[&Instance]) -> Answer {
    let ttl = seconds(config.node_ttl);
    let mut name_servers = Vec::new();
    let mut glue = Vec::new();
    for server in servers {
        if name_servers.len() == NAME_SERVERS {
            break;
        }
        let node = &server.node.def;
        if !is_hostname(&node.name) {
            continue;
        }
        let Some(name) = name(&node.name, &config.datacenter, domain) else {
            continue;
        };
        let address = if server.service.def.address.is_empty() {
            &node.address
        } else {
            &server.service.def.address
        };
        if let Place::Address(address) = Place::of(address) {
            glue.push(Record::address(Some(name.clone()), ttl, address));
        }
        name_servers.push(Record {
            owner: Some(Name::of_domain(domain)),
            ttl,
            data: Data::Ns(name),
        });
    }
    if kind == Kind::Soa {
        return Answer {
            authority: name_servers,
            additional: glue,
            ..Answer::of(vec![Item::single(soa(config, domain))])
        };
    }
    if name_servers.is_empty() {
        return negative(config, domain, ResponseCode::NoError);
    }
    Answer {
        additional: glue,
        ..Answer::of(name_servers.into_iter().map(Item::single).collect())
    }
}

/// The record about the domain as a whole.
pub(crate) fn soa(config: &Config, domain: &Domain) -> Record {
    let within =
        |label| Name::within(&[label], domain).expect("domains are short enough to have names in them");
    let numbers = config.soa;
    Record {
        owner: Some(Name::of_domain(domain)),
        ttl: numbers.min_ttl,
        data: Data::Soa {
            server: within("ns"),
            mailbox: within("hostmaster"),
            refresh: numbers.refresh,
            retry: numbers.retry,
            expire: numbers.expire,
            minimum: numbers.min_ttl,
        },
    }
}

/// The name of a node; `None` if its own is no name.
pub(crate) fn name(node: &str, datacenter: &str, domain: &Domain) -> Option<Name> {
    Name::within(&[node, "node", datacenter], domain)
}

/// A node's metadata as records, as RFC 1464 writes attributes.
pub(crate) fn meta(node: &NodeDef, owner: Option<&Name>, ttl: u32) -> impl Iterator<Item = Record> {
    node.meta.iter().map(move |(key, value)| Record {
        owner: owner.cloned(),
        ttl,
        data: Data::Txt(attribute(key, value).into()),
    })
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    if key.starts_with(PLAIN_META) {
        return value.as_bytes().to_vec();
    }
    let mut text = Vec::with_capacity(key.len() + 1 + value.len());
    for byte in key.bytes() {
        if matches!(byte, b'=' | b'`') {
            text.push(b'`');
        }
        text.push(byte);
    }
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    text
}

/// Whether a question of this kind is answered by this address.
pub(crate) fn is_asked_for(address: IpAddr, kind: Kind) -> bool {
    match kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        Kind::Any => true,
        Kind::Cname
        | Kind::Ns
        | Kind::Ptr
        | Kind::Soa
        | Kind::Srv
        | Kind::Txt
        | Kind::Transfer
        | Kind::Other => false,
    }
}

/// Whole seconds, as records say it.
pub(crate) fn seconds(ttl: std::time::Duration) -> u32 {
    // RFC 2181: at most 31 bits.
    ttl.as_secs().min(u64::from(u32::MAX >> 1)) as u32
}

/// Whether a node's name can be a host's.
fn is_hostname(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.bytes().all(known)
}

/// Which names have which address.
#[derive(Debug, Default)]
pub(crate) struct Reversed(HashMap<IpAddr, Vec<Name>>);

impl Reversed {
    /// Reads a whole catalog.
    pub(crate) fn new(config: &Config, nodes: &[NodeInfo]) -> Self {
        let mut names: HashMap<IpAddr, Vec<Name>> = HashMap::new();
        for info in nodes {
            if let Ok(address) = info.node.def.address.parse()
                && let Some(name) = name(&info.node.def.name, &config.datacenter, &config.domain)
            {
                names.entry(address).or_default().push(name);
            }
        }
        // A service's name is only said of an address that no node has.
        let mut services: HashMap<IpAddr, Vec<Name>> = HashMap::new();
        for service in nodes.iter().flat_map(|info| &info.services) {
            let Ok(address) = service.def.address.parse() else {
                continue;
            };
            let parts = [&*service.def.name, "service", &config.datacenter];
            if !names.contains_key(&address)
                && let Some(name) = Name::within(&parts, &config.domain)
            {
                let known = services.entry(address).or_default();
                if !known.contains(&name) {
                    known.push(name);
                }
            }
        }
        names.extend(services);
        Self(names)
    }

    /// What is said of an address; `None` if nothing is known of it.
    pub(crate) fn answer(&self, kind: Kind, address: IpAddr) -> Option<Answer> {
        let names = self.0.get(&address)?;
        if !matches!(kind, Kind::Ptr | Kind::Any) {
            return Some(Answer::of(Vec::new()));
        }
        let records = names.iter().map(|name| Record {
            owner: None,
            ttl: 0,
            data: Data::Ptr(name.clone()),
        });
        Some(Answer::of(records.map(Item::single).collect()))
    }
}
