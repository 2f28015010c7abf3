//! What is said of services and their instances.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use lictor_catalog::{Instance, NodeDef, Status};

use crate::answer::{Answer, Data, Item, Order, Record};
use crate::config::Config;
use crate::domain::Domain;
use crate::kind::Kind;
use crate::name::Name;
use crate::nodes;

/// The tagged address that others in other data centers should use.
const WAN: &str = "wan";

/// The priority of SRV records if nothing else is said.
const PRIORITY: u16 = 1;

/// Instances to be named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) config: &'a Config,
    /// The domain that was asked in.
    pub(crate) domain: &'a Domain,
    /// The data center that the instances are in.
    pub(crate) datacenter: &'a str,
    /// How long others may keep the answer, in seconds.
    pub(crate) ttl: u32,
    pub(crate) kind: Kind,
    /// Whether the instances come in an order that means something.
    pub(crate) ordered: bool,
}

/// An answer that is ready but for what is said of hosts.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) answer: Answer,
    /// Hosts that the items lead to, of which addresses should be given with them, with the number of the item.
    pub(crate) hosts: Vec<(usize, Name)>,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(IpAddr),
    Host(Name),
    /// Nobody said, or not in words that make sense.
    Nowhere,
}

impl Place {
    /// What an address in the catalog means.
    pub(crate) fn of(text: &str) -> Self {
        match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Name::of_host(text).map_or(Self::Nowhere, Self::Host),
        }
    }
}

/// Whether an instance may be named: it has the tag, and none of its checks says otherwise.
pub(crate) fn is_wanted(instance: &Instance, tag: Option<&str>, only_passing: bool) -> bool {
    let tagged = |tag| {
        let mut tags = instance.service.def.tags.iter();
        tags.any(|other| other.eq_ignore_ascii_case(tag))
    };
    let well = match worst(instance) {
        Status::Passing => true,
        Status::Warning => !only_passing,
        Status::Critical => false,
    };
    well && tag.is_none_or(tagged)
}

fn worst(instance: &Instance) -> Status {
    let statuses = instance.checks.iter().map(|check| check.def.status);
    statuses.max().unwrap_or(Status::Passing)
}

impl<'a> Asked<'a> {
    /// What is said of these instances, all of which may be named.
    pub(crate) fn draft(self, mut instances: Vec<&'a Instance>) -> Draft {
        if instances.is_empty() {
            return Draft {
                answer: self.negative(ResponseCode::NXDomain),
                hosts: Vec::new(),
            };
        }
        self.prefer_zone(&mut instances);
        let mut draft = if self.kind == Kind::Srv {
            self.services(&instances)
        } else {
            self.addresses(&instances)
        };
        if draft.answer.items.is_empty() {
            draft.answer = self.negative(ResponseCode::NoError);
        }
        draft
    }

    fn negative(self, code: ResponseCode) -> Answer {
        Answer {
            code,
            authority: vec![nodes::soa(self.config, self.domain)],
            ..Answer::of(Vec::new())
        }
    }

    /// Leaves instances of other zones out if there are enough in the own one.
    fn prefer_zone(self, instances: &mut Vec<&Instance>) {
        let Some(zone) = &self.config.zone else {
            return;
        };
        let near = instances.iter().filter(|instance| self.rank(instance) == 0);
        if near.count() >= zone.min_instances.max(1) {
            instances.retain(|instance| self.rank(instance) == 0);
        }
    }

    /// 0 in the own zone, and 1 in others.
    fn rank(self, instance: &Instance) -> u8 {
        self.config.zone.as_ref().map_or(0, |zone| {
            let theirs = instance.node.def.meta.get(&zone.node_meta);
            u8::from(theirs.is_none_or(|theirs| **theirs != *zone.zone))
        })
    }

    /// One record for each address. A host is only named if there is no address at all, since an alias must be alone.
    fn addresses(self, instances: &[&Instance]) -> Draft {
        let mut items: Vec<Item> = Vec::new();
        // The number of the item for each address.
        let mut known: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut host = None;
        for instance in instances {
            let (place, _, _) = self.endpoint(instance);
            match place {
                Place::Address(address) if nodes::is_asked_for(address, self.kind) => {
                    let (weight, rank) = (weight(instance), self.rank(instance));
                    if let Some(number) = known.get(&address) {
                        let item = &mut items[*number];
                        item.weight = item.weight.saturating_add(weight);
                        item.rank = item.rank.min(rank);
                        continue;
                    }
                    known.insert(address, items.len());
                    items.push(Item {
                        weight,
                        rank,
                        ..Item::single(Record::address(None, self.ttl, address))
                    });
                }
                Place::Host(name) if host.is_none() => host = Some(name),
                Place::Address(_) | Place::Host(_) | Place::Nowhere => {}
            }
        }
        let alias = host.filter(|_| items.is_empty() && self.kind.follows_aliases());
        let hosts = alias.iter().map(|name| (0, name.clone())).collect();
        let shuffled = Answer {
            order: if self.ordered {
                Order::AsIs
            } else {
                Order::Weighted
            },
            most: self.config.a_record_limit,
            interchangeable: true,
            ..Answer::of(items)
        };
        let answer = match alias {
            None => shuffled,
            Some(name) => Answer::of(vec![Item::single(Record {
                owner: None,
                ttl: self.ttl,
                data: Data::Cname(name),
            })]),
        };
        Draft { answer, hosts }
    }

    /// One record for each instance, with the addresses of what it leads to.
    fn services(self, instances: &[&Instance]) -> Draft {
        let mut items: Vec<Item> = Vec::new();
        let mut known: BTreeSet<(Name, u16)> = BTreeSet::new();
        let mut hosts = Vec::new();
        for instance in instances {
            let (place, port, is_own) = self.endpoint(instance);
            let named = self.target(instance, place, is_own);
            let Some((target, place)) = named else { continue };
            // A set of records has none twice.
            if !known.insert((target.clone(), port)) {
                continue;
            }
            let data = Data::Srv {
                priority: self.priority(instance),
                weight: weight(instance),
                port,
                target: target.clone(),
            };
            let mut item = Item {
                rank: self.rank(instance),
                ..Item::single(Record {
                    owner: None,
                    ttl: self.ttl,
                    data,
                })
            };
            match place {
                Place::Address(address) => {
                    item.additional
                        .push(Record::address(Some(target.clone()), self.ttl, address));
                    if !is_own {
                        let meta = nodes::meta(&instance.node.def, Some(&target), self.ttl);
                        item.additional.extend(meta);
                    }
                }
                Place::Host(name) => hosts.push((items.len(), name)),
                Place::Nowhere => {}
            }
            items.push(item);
        }
        let answer = Answer {
            order: if self.ordered {
                Order::AsIs
            } else {
                Order::Shuffled
            },
            interchangeable: true,
            ..Answer::of(items)
        };
        Draft { answer, hosts }
    }

    /// The name of where an instance is, and what that is.
    fn target(self, instance: &Instance, place: Place, is_own: bool) -> Option<(Name, Place)> {
        match place {
            Place::Host(name) => Some((name.clone(), Place::Host(name))),
            Place::Nowhere => None,
            Place::Address(address) => {
                let literal = || Name::of_address(address, self.datacenter, self.domain);
                let node = || nodes::name(&instance.node.def.name, self.datacenter, self.domain);
                // A node whose name is no name has an address all the same.
                let name = if is_own {
                    literal()
                } else {
                    node().or_else(literal)
                };
                name.map(|name| (name, place))
            }
        }
    }

    /// Where an instance is, its port, and whether the place is its own, not that of its node.
    fn endpoint(self, instance: &Instance) -> (Place, u16, bool) {
        let def = &instance.service.def;
        if self.translates()
            && let Some(wan) = def.tagged_addresses.get(WAN)
            && !wan.address.is_empty()
        {
            let port = if wan.port == 0 { def.port } else { wan.port };
            return (Place::of(&wan.address), port, true);
        }
        if !def.address.is_empty() {
            return (Place::of(&def.address), def.port, true);
        }
        (
            Place::of(node_address(&instance.node.def, self.translates())),
            def.port,
            false,
        )
    }

    /// Whether the instances are in another data center, and should be named by other addresses.
    fn translates(self) -> bool {
        self.config.translate_wan_addresses && self.datacenter != self.config.datacenter
    }

    fn priority(self, instance: &Instance) -> u16 {
        let key = self.config.srv_priority_meta.as_ref();
        let said = key.and_then(|key| instance.service.def.meta.get(key));
        said.and_then(|text| text.parse().ok()).unwrap_or(PRIORITY)
    }
}

/// Where a node is, for the own data center or for others.
pub(crate) fn node_address(node: &NodeDef, translate: bool) -> &str {
    let wan = node.tagged_addresses.get(WAN).filter(|_| translate);
    wan.filter(|wan| !wan.is_empty()).unwrap_or(&node.address)
}

fn weight(instance: &Instance) -> u16 {
    let weights = instance.service.def.weights;
    match worst(instance) {
        Status::Passing => weights.passing,
        Status::Warning | Status::Critical => weights.warning,
    }
}
