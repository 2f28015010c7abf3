//! What a name asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Config;
use crate::domain::Domain;
use crate::name::{labels, position_of};

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// A name in one of the domains that are answered for.
    Ours {
        /// Which of them.
        domain: &'a Domain,
        what: Ours,
    },
    /// Who has this address; or, with `None`, a name among the reversed addresses that is none.
    Reverse(Option<IpAddr>),
    /// A name that others know.
    Foreign,
}

/// What a name in a domain asks for. Data centers are `None` if it is the own one; all texts are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// Nothing itself, but other names may end in this.
    Branch,
    /// Nothing, and no other name can end in this.
    Missing,
    Node {
        name: String,
        datacenter: Option<String>,
    },
    Service(ServiceForm),
    Prepared {
        name: String,
        datacenter: Option<String>,
    },
    Address(IpAddr),
}

/// Instances of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceForm {
    pub(crate) name: String,
    /// Only those with this tag.
    pub(crate) tag: Option<String>,
    /// Those that take its callers in the service mesh.
    pub(crate) connect: bool,
    pub(crate) datacenter: Option<String>,
}

/// What a name is about, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A name in one of the domains that are answered for.
    Domain,
    /// A name among the reversed addresses.
    Reverse,
    /// Anything else.
    Other,
}

impl Topic {
    /// What `name`, in full and in lower case, is about.
    pub(crate) fn of(name: &[u8], config: &Config) -> Self {
        if domain_of(name, config).is_some() {
            return Self::Domain;
        }
        let mut last = labels(name).collect::<Vec<_>>().into_iter().rev();
        match (last.next(), last.next()) {
            (Some(b"arpa"), Some(b"in-addr" | b"ip6")) => Self::Reverse,
            _ => Self::Other,
        }
    }
}

/// The labels that say what kind of thing a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keyword {
    Node,
    Service,
    Connect,
    Ingress,
    Query,
    Addr,
}

impl Keyword {
    fn of(label: &str) -> Option<Self> {
        match label {
            "node" => Some(Self::Node),
            "service" => Some(Self::Service),
            "connect" => Some(Self::Connect),
            "ingress" => Some(Self::Ingress),
            "query" => Some(Self::Query),
            "addr" => Some(Self::Addr),
            _ => None,
        }
    }
}

impl<'a> Form<'a> {
    /// What `name`, in full and in lower case, asks for. `is_datacenter` knows other data centers than the own.
    pub(crate) fn of(name: &[u8], config: &'a Config, is_datacenter: impl Fn(&str) -> bool) -> Self {
        if let Some(domain) = domain_of(name, config) {
            let count = labels(name).count() - domain.labels();
            let inner: Option<Vec<&str>> = labels(name)
                .take(count)
                .map(|label| std::str::from_utf8(label).ok())
                .collect();
            let what = inner.map_or(Ours::Missing, |labels| Ours::of(&labels, config, is_datacenter));
            return Self::Ours { domain, what };
        }
        let labels: Vec<&[u8]> = labels(name).collect();
        match labels.as_slice() {
            [digits @ .., b"in-addr", b"arpa"] => Self::Reverse(reversed_v4(digits).map(IpAddr::V4)),
            [digits @ .., b"ip6", b"arpa"] => Self::Reverse(reversed_v6(digits).map(IpAddr::V6)),
            _ => Self::Foreign,
        }
    }
}

impl Ours {
    /// What the labels before a domain ask for.
    fn of(labels: &[&str], config: &Config, is_datacenter: impl Fn(&str) -> bool) -> Self {
        let elsewhere = |datacenter: &str| (datacenter != config.datacenter).then(|| datacenter.to_owned());
        let known = |datacenter: &str| datacenter == config.datacenter || is_datacenter(datacenter);
        match labels {
            [] => Self::Branch,
            [inner @ .., last] if let Some(keyword) = Keyword::of(last) => Self::keyed(inner, keyword, None),
            [inner @ .., keyword, datacenter] if let Some(keyword) = Keyword::of(keyword) => {
                match Self::keyed(inner, keyword, elsewhere(datacenter)) {
                    Self::Branch if !known(datacenter) => Self::Missing,
                    what @ (Self::Branch
                    | Self::Missing
                    | Self::Node { .. }
                    | Self::Service(_)
                    | Self::Prepared { .. }
                    | Self::Address(_)) => what,
                }
            }
            // RFC 2782, without saying that it is a service.
            [service, protocol] if let Some(form) = rfc2782(service, protocol, None) => form,
            [service, protocol, datacenter]
                if let Some(form) = rfc2782(service, protocol, elsewhere(datacenter)) =>
            {
                form
            }
            [datacenter] if known(datacenter) => Self::Branch,
            ["_tcp" | "_udp"] => Self::Branch,
            ["_tcp" | "_udp", datacenter] if known(datacenter) => Self::Branch,
            _ => Self::Missing,
        }
    }

    /// What the labels before a keyword ask for.
    fn keyed(labels: &[&str], keyword: Keyword, datacenter: Option<String>) -> Self {
        let Some((last, before)) = labels.split_last() else {
            return Self::Branch;
        };
        match keyword {
            Keyword::Node => Self::Node {
                name: labels.join("."),
                datacenter,
            },
            Keyword::Query => Self::Prepared {
                name: labels.join("."),
                datacenter,
            },
            Keyword::Service => {
                if let [service] = before
                    && let Some(form) = rfc2782(service, last, datacenter.clone())
                {
                    return form;
                }
                Self::Service(ServiceForm {
                    name: (*last).to_owned(),
                    tag: (!before.is_empty()).then(|| before.join(".")),
                    connect: false,
                    datacenter,
                })
            }
            Keyword::Connect => Self::Service(ServiceForm {
                name: (*last).to_owned(),
                tag: None,
                connect: true,
                datacenter,
            }),
            // What gateways let in is not in the catalog.
            Keyword::Ingress => Self::Missing,
            // Any data center will do: an address is the same everywhere.
            Keyword::Addr => match labels {
                [digits] => address(digits).map_or(Self::Missing, Self::Address),
                _ => Self::Missing,
            },
        }
    }
}

/// Which of the domains that are answered for a name is in. If one is within the other, the longer one is meant.
fn domain_of<'a>(name: &[u8], config: &'a Config) -> Option<&'a Domain> {
    let domains = [Some(&config.domain), config.alt_domain.as_ref()];
    domains
        .into_iter()
        .flatten()
        .filter(|domain| position_of(domain, name).is_some())
        .max_by_key(|domain| domain.wire().len())
}

/// A service by its name and protocol, or by its name and a tag.
fn rfc2782(service: &str, protocol: &str, datacenter: Option<String>) -> Option<Ours> {
    let name = service.strip_prefix('_').filter(|name| !name.is_empty())?;
    let protocol = protocol.strip_prefix('_').filter(|tag| !tag.is_empty())?;
    Some(Ours::Service(ServiceForm {
        name: name.to_owned(),
        tag: (protocol != "tcp").then(|| protocol.to_owned()),
        connect: false,
        datacenter,
    }))
}

/// An address as 8 or 32 hexadecimal digits.
fn address(digits: &str) -> Option<IpAddr> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => Some(Ipv4Addr::from(u32::from_str_radix(digits, 16).ok()?).into()),
        32 => Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?).into()),
        _ => None,
    }
}

fn reversed_v4(digits: &[&[u8]]) -> Option<Ipv4Addr> {
    let digits: &[&[u8]; 4] = digits.try_into().ok()?;
    let mut octets = [0; 4];
    for (octet, text) in octets.iter_mut().rev().zip(digits) {
        let text = std::str::from_utf8(text).ok()?;
        let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
        *octet = text.parse().ok().filter(|_| plain)?;
    }
    Some(octets.into())
}

fn reversed_v6(digits: &[&[u8]]) -> Option<Ipv6Addr> {
    let digits: &[&[u8]; 32] = digits.try_into().ok()?;
    let mut bits = 0_u128;
    for digit in digits.iter().rev() {
        let [digit] = digit else { return None };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    Some(bits.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn config() -> Config {
        let mut config = Config::new("DC1");
        config.alt_domain = Some("alt.test".parse().unwrap());
        config
    }

    fn of<'a>(config: &'a Config, name: &str) -> Form<'a> {
        let name = Name::of_host(name).unwrap().lower();
        Form::of(&name, config, |datacenter| datacenter == "dc2")
    }

    #[track_caller]
    fn ours(name: &str, expected: Ours) {
        let config = config();
        match of(&config, name) {
            Form::Ours { what, .. } => assert_eq!(what, expected, "{name}"),
            other @ (Form::Reverse(_) | Form::Foreign) => panic!("{name}: {other:?}"),
        }
    }

    fn node(name: &str, datacenter: Option<&str>) -> Ours {
        Ours::Node {
            name: name.to_owned(),
            datacenter: datacenter.map(str::to_owned),
        }
    }

    fn service(name: &str, tag: Option<&str>, datacenter: Option<&str>) -> Ours {
        Ours::Service(ServiceForm {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            connect: false,
            datacenter: datacenter.map(str::to_owned),
        })
    }

    #[test]
    fn nodes() {
        ours("Foo.Node.Consul", node("foo", None));
        ours("foo.node.dc1.consul", node("foo", None));
        ours("foo.node.dc2.consul", node("foo", Some("dc2")));
        ours("foo.node.nowhere.consul", node("foo", Some("nowhere")));
        ours("with.dot.node.consul", node("with.dot", None));
        ours("foo.service.node.consul", node("foo.service", None));
        ours("dc1.node.consul", node("dc1", None));
        ours("foo.node.alt.test", node("foo", None));
    }

    #[test]
    fn services() {
        ours("web.service.consul", service("web", None, None));
        ours("web.service.dc2.consul", service("web", None, Some("dc2")));
        ours("v1.2.3.web.service.consul", service("web", Some("v1.2.3"), None));
        ours("node.service.consul", service("node", None, None));
        ours("_web._tcp.service.consul", service("web", None, None));
        ours("_web._tcp.service.dc2.consul", service("web", None, Some("dc2")));
        ours("_web._udp.service.consul", service("web", Some("udp"), None));
        ours("_web._primary.consul", service("web", Some("primary"), None));
        ours("_web._tcp.consul", service("web", None, None));
        ours("_web._tcp.dc2.consul", service("web", None, Some("dc2")));
        ours("_web._tcp.alt.test", service("web", None, None));
        ours("_web._tcp._x.consul", service("web", None, Some("_x")));
        ours("_web.service.consul", service("_web", None, None));
        ours("_a._b._c.service.consul", service("_c", Some("_a._b"), None));
        ours("_._tcp.service.consul", service("_tcp", Some("_"), None));
        ours(
            "web.connect.dc1.consul",
            Ours::Service(ServiceForm {
                name: "web".to_owned(),
                tag: None,
                connect: true,
                datacenter: None,
            }),
        );
    }

    #[test]
    fn queries_and_addresses() {
        let prepared = |name: &str, datacenter: Option<&str>| Ours::Prepared {
            name: name.to_owned(),
            datacenter: datacenter.map(str::to_owned),
        };
        ours("geo.query.consul", prepared("geo", None));
        ours("a.b.query.dc2.consul", prepared("a.b", Some("dc2")));
        let v4 = Ours::Address([127, 0, 0, 1].into());
        ours("7F000001.addr.consul", v4.clone());
        ours("7f000001.addr.nowhere.consul", v4);
        let v6 = "fd000000000000000000000000000001.addr.consul";
        ours(v6, Ours::Address("fd00::1".parse().unwrap()));
        for name in ["7f00.addr.consul", "zz000001.addr.consul", "+f000001.addr.consul"] {
            ours(name, Ours::Missing);
        }
        ours("x.7f000001.addr.consul", Ours::Missing);
    }

    #[test]
    fn names_that_others_end_in_are_no_missing_names() {
        for name in [
            "consul",
            "alt.test",
            "dc1.consul",
            "dc2.consul",
            "node.consul",
            "service.dc2.consul",
            "query.consul",
            "addr.consul",
            "connect.consul",
            "_tcp.consul",
            "_tcp.dc2.consul",
        ] {
            ours(name, Ours::Branch);
        }
        for name in [
            "bogus.consul",
            "ns.consul",
            "service.nowhere.consul",
            "a.b.dc1.consul",
            "web.service.nope.dc1.consul",
            "web.virtual.consul",
            "web.ingress.consul",
        ] {
            ours(name, Ours::Missing);
        }
    }

    #[test]
    fn other_names_are_foreign_or_reversed_addresses() {
        let config = config();
        for name in ["example.com", "xconsul", "consul.example", "test", "arpa"] {
            assert_eq!(of(&config, name), Form::Foreign, "{name}");
        }
        let reversed = |name: &str| match of(&config, name) {
            Form::Reverse(address) => address,
            other @ (Form::Ours { .. } | Form::Foreign) => panic!("{other:?}"),
        };
        assert_eq!(reversed("1.0.9.10.IN-ADDR.arpa"), Some([10, 9, 0, 1].into()));
        let v6 = format!("1.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(reversed(&v6), Some("fd00::1".parse().unwrap()));
        for name in [
            "in-addr.arpa",
            "0.9.10.in-addr.arpa",
            "x.1.0.9.10.in-addr.arpa",
            "01.0.9.10.in-addr.arpa",
            "256.0.9.10.in-addr.arpa",
            "+1.0.9.10.in-addr.arpa",
            "1.2.ip6.arpa",
        ] {
            assert_eq!(reversed(name), None, "{name}");
        }
        let long = format!("10.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(reversed(&long), None);
    }

    #[test]
    fn topics() {
        let config = config();
        for (name, expected) in [
            ("web.service.consul", Topic::Domain),
            ("consul", Topic::Domain),
            ("bogus.alt.test", Topic::Domain),
            ("1.0.9.10.in-addr.arpa", Topic::Reverse),
            ("nonsense.in-addr.arpa", Topic::Reverse),
            ("1.ip6.arpa", Topic::Reverse),
            ("arpa", Topic::Other),
            ("xin-addr.arpa", Topic::Other),
            ("xconsul", Topic::Other),
            ("example.com", Topic::Other),
        ] {
            let name = Name::of_host(name).unwrap().lower();
            assert_eq!(Topic::of(&name, &config), expected, "{name:?}");
        }
    }

    #[test]
    fn of_a_domain_within_the_other_the_longer_is_meant() {
        let mut config = config();
        config.alt_domain = Some("service.consul".parse().unwrap());
        match of(&config, "foo.node.service.consul") {
            Form::Ours { domain, what } => {
                assert_eq!(domain.to_string(), "service.consul.");
                assert_eq!(what, node("foo", None));
            }
            other @ (Form::Reverse(_) | Form::Foreign) => panic!("{other:?}"),
        }
    }

    #[test]
    fn labels_that_are_no_text_are_missing() {
        let config = config();
        let form = Form::of(b"\x02\xff\xfe\x04node\x06consul\0", &config, |_| false);
        assert!(matches!(
            form,
            Form::Ours {
                what: Ours::Missing,
                ..
            }
        ));
    }
}
