//! Addresses: what this host has, and how the configuration writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest host name that DNS can carry, as text.
const MAX_HOST: usize = 253;

/// Where another agent may be found: one entry of `retry_join`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JoinAddress {
    /// An IP address, or a name to be resolved anew at each attempt.
    pub host: JoinHost,
    /// The UDP port.
    pub port: u16,
}

/// The host of a [`JoinAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JoinHost {
    /// An address.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

impl JoinAddress {
    /// Reads `ip`, `ip:port`, `host`, `host:port`, `[v6]` or `[v6]:port`. The error says what is wrong and quotes the text.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with("provider=") {
            return Err(format!(
                "{text:?} is not supported yet: finding servers through a cloud provider comes later; name addresses"
            ));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self {
                host: JoinHost::Ip(ip),
                port: default_port,
            });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err(format!("invalid port in {text:?}"))
            } else {
                Ok(Self {
                    host: JoinHost::Ip(address.ip()),
                    port: address.port(),
                })
            };
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && let Ok(ip) = inner.parse::<Ipv6Addr>()
        {
            return Ok(Self {
                host: JoinHost::Ip(IpAddr::V6(ip)),
                port: default_port,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 => (host, port),
                Ok(_) | Err(_) => return Err(format!("invalid port in {text:?}")),
            },
            None => (text, default_port),
        };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        // A name that ends in digits is a mistyped IPv4 address, not a name of the DNS.
        let numeric = host
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if host.is_empty() || host.len() > MAX_HOST || numeric || !host.bytes().all(valid) {
            return Err(format!(
                "{text:?} is neither an IP address nor a host name, with or without a port"
            ));
        }
        Ok(Self {
            host: JoinHost::Name(host.to_owned()),
            port,
        })
    }
}

impl fmt::Display for JoinAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            JoinHost::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            JoinHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// What the configuration needs to know about the machine it is for.
pub(super) struct Host {
    /// The host's name, if it has one.
    pub(super) name: Option<String>,
    /// The addresses of its interfaces, in the system's order; loopback ones too.
    pub(super) addresses: Vec<IpAddr>,
}

impl Host {
    /// Asks the operating system. What cannot be found out is left empty: it is an error only if it is needed.
    pub(super) fn discover() -> Self {
        let name = rustix::system::uname()
            .nodename()
            .to_str()
            .ok()
            .map(str::to_owned);
        let addresses = if_addrs::get_if_addrs()
            .map(|interfaces| interfaces.iter().map(if_addrs::Interface::ip).collect())
            .unwrap_or_default();
        Self {
            name: name.filter(|name| !name.is_empty()),
            addresses,
        }
    }

    /// A host that has whatever a configuration may leave to it: which one, nobody has to know to judge the configuration.
    pub(super) fn any() -> Self {
        Self {
            name: Some("host".to_owned()),
            addresses: vec![
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
            ],
        }
    }

    /// The address to tell others when the socket listens on every address of the family of `any`: the first private
    /// one, else the first that is not bound to this host or link.
    pub(super) fn advertisable(&self, any: IpAddr) -> Option<IpAddr> {
        let usable = || {
            self.addresses.iter().copied().filter(move |ip| {
                ip.is_ipv4() == any.is_ipv4()
                    && !ip.is_loopback()
                    && !ip.is_unspecified()
                    && !is_link_local(*ip)
            })
        };
        usable().find(|ip| is_private(*ip)).or_else(|| usable().next())
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // RFC 1918, and the shared space of RFC 6598.
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Reads a list of IP addresses with spaces between them, for the key `key`. Duplicates are dropped.
pub(super) fn parse_ips(key: &str, text: &str) -> Result<Vec<IpAddr>, String> {
    let mut found = Vec::new();
    let text = refuse_template(key, text)?;
    for word in text.split_whitespace() {
        if word.starts_with("unix:") {
            return Err(if key == "client_addr" {
                "client_addr cannot be a unix socket".to_owned()
            } else {
                format!("{key}: unix sockets are not supported yet")
            });
        }
        let ip = parse_ip(key, word)?;
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    Ok(found)
}

/// Reads exactly one IP address, for the key `key`.
pub(super) fn parse_ip(key: &str, text: &str) -> Result<IpAddr, String> {
    let text = refuse_template(key, text)?.trim();
    if text.split_whitespace().nth(1).is_some() {
        return Err(format!("{key}: multiple addresses found: {text}"));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map_err(|_| format!("{key}: invalid ip address: {text}"))
}

fn refuse_template<'a>(key: &str, text: &'a str) -> Result<&'a str, String> {
    if text.contains("{{") {
        return Err(format!(
            "{key}: address templates are not supported yet: {text}; write the address itself"
        ));
    }
    Ok(text)
}

/// Every address of the IPv4 family.
pub(super) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// The IPv4 loopback address.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_addresses() {
        for (text, shown) in [
            ("10.0.0.1", "10.0.0.1:8300"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("server-1.example.com", "server-1.example.com:8300"),
            ("server:9000", "server:9000"),
            ("[fe80::1]:7", "[fe80::1]:7"),
            ("[::1]", "[::1]:8300"),
            ("::1", "[::1]:8300"),
            (" 10.0.0.1 ", "10.0.0.1:8300"),
        ] {
            assert_eq!(JoinAddress::parse(text, 8300).unwrap().to_string(), shown);
        }
        assert_eq!(
            JoinAddress::parse("n1", 8300),
            Ok(JoinAddress {
                host: JoinHost::Name("n1".to_owned()),
                port: 8300
            })
        );
    }

    #[test]
    fn bad_join_addresses() {
        for (text, part) in [
            ("", "is neither an IP address nor a host name"),
            ("a b", "is neither"),
            ("http://a", "invalid port"),
            ("10.0.0.256", "is neither"),
            ("a:0", "invalid port"),
            ("a:99999", "invalid port"),
            ("10.0.0.1:0", "invalid port"),
            ("a:", "invalid port"),
            ("fe80::xyz:1", "is neither"),
            ("provider=aws tag_key=x", "is not supported yet"),
        ] {
            let error = JoinAddress::parse(text, 8300).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!(JoinAddress::parse(&"a".repeat(254), 1).is_err());
    }

    #[test]
    fn private_addresses_are_advertised_first() {
        let host = |list: &[&str]| Host {
            name: None,
            addresses: list.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let v6_any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        for (list, any, expected) in [
            (
                &["127.0.0.1", "203.0.113.9", "10.1.2.3", "192.168.0.1"][..],
                ANY,
                Some("10.1.2.3"),
            ),
            (
                &["127.0.0.1", "203.0.113.9", "169.254.1.1"],
                ANY,
                Some("203.0.113.9"),
            ),
            (&["203.0.113.9", "100.64.0.1"], ANY, Some("100.64.0.1")),
            (&["127.0.0.1", "169.254.1.1", "::1", "fd00::1"], ANY, None),
            (
                &["10.1.2.3", "fe80::1", "2001:db8::1", "fd00::1"],
                v6_any,
                Some("fd00::1"),
            ),
            (&["fe80::1", "2001:db8::1"], v6_any, Some("2001:db8::1")),
        ] {
            assert_eq!(
                host(list).advertisable(any),
                expected.map(|text| text.parse().unwrap()),
                "{list:?}"
            );
        }
    }

    #[test]
    fn the_real_host_has_a_name_and_a_loopback() {
        let host = Host::discover();
        assert!(host.name.is_some());
        assert!(host.addresses.contains(&LOOPBACK));
    }
}
