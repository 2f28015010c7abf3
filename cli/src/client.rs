//! Talks to an agent's HTTP API: where it is, who we are, and what went wrong, in the words that scripts know.

mod once;
mod request;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lictor_agent::config::system_error;
use ureq::http::Uri;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::command::Topic;
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes, parse_bool};
use crate::version::VERSION;

pub(crate) use request::{CallError, Change, Look, is_true, null_is_empty};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The flags of every command that talks to an agent.
pub(crate) const TOPIC: Topic = Topic {
    title: "HTTP API Options",
    flags: &[
        Flag {
            name: "ca-file",
            takes: Takes::Text("value"),
            help: "Path to a CA file to trust when the agent is called with TLS. Environment: LICTOR_CACERT or CONSUL_CACERT.",
        },
        Flag {
            name: "ca-path",
            takes: Takes::Text("value"),
            help: "Path to a directory of CA certificates to trust when the agent is called with TLS. Environment: LICTOR_CAPATH or CONSUL_CAPATH.",
        },
        Flag {
            name: "client-cert",
            takes: Takes::Text("value"),
            help: "Path to the certificate to show to the agent. Needs -client-key. Environment: LICTOR_CLIENT_CERT or CONSUL_CLIENT_CERT.",
        },
        Flag {
            name: "client-key",
            takes: Takes::Text("value"),
            help: "Path to the key of -client-cert. Environment: LICTOR_CLIENT_KEY or CONSUL_CLIENT_KEY.",
        },
        Flag {
            name: "http-addr",
            takes: Takes::Text("address"),
            help: "Address and port of the agent's HTTP API, with or without http:// or https:// before it. The default value is http://127.0.0.1:8500. Environment: LICTOR_HTTP_ADDR or CONSUL_HTTP_ADDR; LICTOR_HTTP_SSL=true or CONSUL_HTTP_SSL=true makes https:// the default scheme.",
        },
        Flag {
            name: "tls-server-name",
            takes: Takes::Text("value"),
            help: "The name that the agent's certificate must carry, if it is not the host of -http-addr. Environment: LICTOR_TLS_SERVER_NAME or CONSUL_TLS_SERVER_NAME.",
        },
        Flag {
            name: "token",
            takes: Takes::Text("value"),
            help: "ACL token to use in the request. Environment: LICTOR_HTTP_TOKEN or CONSUL_HTTP_TOKEN.",
        },
        Flag {
            name: "token-file",
            takes: Takes::Text("value"),
            help: "File that contains the ACL token; wins over -token. Environment: LICTOR_HTTP_TOKEN_FILE or CONSUL_HTTP_TOKEN_FILE.",
        },
    ],
};

/// The flags of commands that ask about the state of a data center, beside those of [`TOPIC`].
pub(crate) const QUERY_TOPIC: Topic = Topic {
    title: "Query Options",
    flags: &[
        Flag {
            name: "datacenter",
            takes: Takes::Text("value"),
            help: "Name of the datacenter to ask. The default is that of the agent.",
        },
        Flag {
            name: "stale",
            takes: Takes::Nothing,
            help: "Let the agent answer a read from its own state, without asking the leader: faster, and possibly out of date. The default value is false.",
        },
    ],
};

/// A connection to one agent's HTTP API. Connections are kept open between calls.
pub(crate) struct Client {
    agent: ureq::Agent,
    /// Scheme, host and port, as messages show them.
    shown: String,
    /// The same as calls use it: with the name that the certificate must carry.
    called: String,
    /// `Host`, if it differs from what is called.
    host: Option<String>,
    token: Option<String>,
    authorization: Option<String>,
    datacenter: Option<String>,
    stale: bool,
    /// Whether the agent knows idempotency keys, once it has said so or not.
    keys: OnceLock<bool>,
}

impl Client {
    /// Takes the agent's address and our credentials from the flags of [`TOPIC`] and [`QUERY_TOPIC`] and the environment. Connects to
    /// nothing yet.
    pub(crate) fn new(args: &Args, console: &mut Console<'_>) -> Result<Self, Failure> {
        let fail = |text: String| Failure::new(format!("Error connecting to Lictor agent: {text}"));
        let setting = |flag: &str, variable: &str, console: &Console<'_>| {
            args.text(flag)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .or_else(|| console.variable(variable))
        };
        let ssl = truth("HTTP_SSL", false, console);
        let address =
            setting("http-addr", "HTTP_ADDR", console).unwrap_or_else(|| "127.0.0.1:8500".to_owned());
        let origin = Origin::parse(&address, ssl).map_err(fail)?;

        let mut token = setting("token", "HTTP_TOKEN", console);
        if let Some(path) = setting("token-file", "HTTP_TOKEN_FILE", console) {
            let content = fs::read_to_string(&path).map_err(|error| {
                fail(format!(
                    "Error loading token file: open {path}: {}",
                    system_error(&error)
                ))
            })?;
            token = Some(content.trim().to_owned()).filter(|token| !token.is_empty());
        }

        let mut tls = TlsConfig::builder();
        let roots = authorities(
            setting("ca-file", "CACERT", console).as_deref(),
            setting("ca-path", "CAPATH", console).as_deref(),
        )
        .map_err(fail)?;
        if !roots.is_empty() {
            tls = tls.root_certs(RootCerts::new_with_certs(&roots));
        }
        match (
            setting("client-cert", "CLIENT_CERT", console),
            setting("client-key", "CLIENT_KEY", console),
        ) {
            (Some(certificate), Some(key)) => {
                tls = tls.client_cert(Some(identity(&certificate, &key).map_err(fail)?));
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                return Err(fail(
                    "both client cert and client key must be provided".to_owned(),
                ));
            }
        }
        tls = tls.disable_verification(!truth("HTTP_SSL_VERIFY", true, console));

        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(format!("lictor/{VERSION}"))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .tls_config(tls.build());
        let server_name = setting("tls-server-name", "TLS_SERVER_NAME", console).filter(|_| origin.tls);
        if origin.is_local() || server_name.is_some() {
            // A proxy cannot reach this host's loopback, nor could it be told a name of the certificate only.
            config = config.proxy(None);
        }
        let shown = origin.url(&origin.host);
        let (called, host, resolver) = match server_name {
            Some(name) => {
                let resolver = Redirected(shown.parse().map_err(|error| fail(format!("{shown}: {error}")))?);
                (origin.url(&name), Some(origin.authority()), Some(resolver))
            }
            None => (shown.clone(), None, None),
        };
        called
            .parse::<Uri>()
            .map_err(|error| fail(format!("{called}: {error}")))?;
        let agent = match resolver {
            Some(resolver) => ureq::Agent::with_parts(config.build(), DefaultConnector::default(), resolver),
            None => config.build().new_agent(),
        };
        Ok(Self {
            agent,
            shown,
            called,
            host,
            token,
            authorization: console
                .variable("HTTP_AUTH")
                .map(|credentials| format!("Basic {}", BASE64_STANDARD.encode(with_colon(credentials)))),
            datacenter: args
                .text("datacenter")
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            stale: args.switch("stale"),
            keys: OnceLock::new(),
        })
    }
}

/// `user` alone means an empty password.
fn with_colon(credentials: String) -> String {
    if credentials.contains(':') {
        credentials
    } else {
        credentials + ":"
    }
}

/// Where an API is.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    tls: bool,
    /// An IPv6 address has its brackets.
    host: String,
    port: u16,
}

impl Origin {
    fn parse(address: &str, tls: bool) -> Result<Self, String> {
        let (tls, place) = match address.split_once("://") {
            None => (tls, address),
            Some(("http", place)) => (tls, place),
            Some(("https", place)) => (true, place),
            Some(("unix", _)) => {
                return Err(format!(
                    "{address}: unix sockets are not supported yet; use the agent's TCP address"
                ));
            }
            Some((scheme, _)) => return Err(format!("Unknown protocol scheme: {scheme}")),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let invalid = || {
            format!(
                "{address:?} is not an address: expected host:port, http://host:port or https://host:port"
            )
        };
        let default = if tls { 443 } else { 80 };
        let (host, port) = match place.rsplit_once(':') {
            // The last colon of an IPv6 address is none before a port.
            Some((_, after)) if after.ends_with(']') => (place, default),
            Some((host, port)) => (
                host,
                port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?,
            ),
            None => (place, default),
        };
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match v6 {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            }
        };
        if !valid {
            return Err(invalid());
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn url(&self, host: &str) -> String {
        format!(
            "{}://{host}:{}",
            if self.tls { "https" } else { "http" },
            self.port
        )
    }

    fn is_local(&self) -> bool {
        let bare = self.host.trim_matches(['[', ']']);
        self.host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Resolves every name to where another URL points: the name called is only what the certificate must carry.
#[derive(Debug)]
struct Redirected(Uri);

impl Resolver for Redirected {
    fn resolve(
        &self,
        _uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

/// A boolean environment variable; one that cannot be read is mentioned and counts as unset.
fn truth(name: &str, default: bool, console: &mut Console<'_>) -> bool {
    let Some(value) = console.variable(name) else {
        return default;
    };
    parse_bool(&value).unwrap_or_else(|| {
        console.remark(format_args!(
            "[WARN]  could not parse {name}: {value:?} is neither true nor false"
        ));
        default
    })
}

/// The certificates of a file and of every file in a directory.
fn authorities(file: Option<&str>, directory: Option<&str>) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    if let Some(file) = file {
        found = certificates("CA File", Path::new(file))?;
    }
    if let Some(directory) = directory {
        let fail = |error: std::io::Error| {
            format!(
                "Error loading CA directory: open {directory}: {}",
                system_error(&error)
            )
        };
        for entry in fs::read_dir(directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.is_file() {
                found.extend(certificates("CA File", &path)?);
            }
        }
        if found.is_empty() {
            return Err(format!(
                "Error loading CA directory: no certificate in {directory}"
            ));
        }
    }
    Ok(found)
}

fn certificates(what: &str, path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in pem_items(what, path)? {
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(format!(
            "Error loading {what}: Couldn't parse PEM in: {}",
            path.display()
        ));
    }
    Ok(found)
}

fn identity(certificate: &str, key: &str) -> Result<ClientCert, String> {
    let chain = certificates("client cert", Path::new(certificate))?;
    let private = pem_items("client key", Path::new(key))?
        .into_iter()
        .find_map(private_key)
        .ok_or_else(|| format!("Error loading client key: Couldn't parse PEM in: {key}"))?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

fn private_key(item: PemItem<'static>) -> Option<PrivateKey<'static>> {
    if let PemItem::PrivateKey(key) = item {
        Some(key)
    } else {
        None
    }
}

fn pem_items(what: &str, path: &Path) -> Result<Vec<PemItem<'static>>, String> {
    let content = fs::read(path).map_err(|error| {
        format!(
            "Error loading {what}: open {}: {}",
            path.display(),
            system_error(&error)
        )
    })?;
    parse_pem(&content)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("Error loading {what}: Couldn't parse PEM in: {}", path.display()))
}

#[cfg(test)]
mod address_tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, ssl, url) in [
            ("127.0.0.1:8500", false, "http://127.0.0.1:8500"),
            ("127.0.0.1:8500", true, "https://127.0.0.1:8500"),
            ("http://a.example:1/", false, "http://a.example:1"),
            ("https://a.example", false, "https://a.example:443"),
            ("a.example", false, "http://a.example:80"),
            ("[::1]:8500", false, "http://[::1]:8500"),
            ("[::1]", false, "http://[::1]:80"),
        ] {
            let origin = Origin::parse(address, ssl).unwrap();
            assert_eq!(origin.url(&origin.host), url, "{address}");
        }
        for (address, message) in [
            ("foo://x", "Unknown protocol scheme: foo"),
            (
                "unix:///run/x",
                "unix:///run/x: unix sockets are not supported yet; use the agent's TCP address",
            ),
        ] {
            assert_eq!(Origin::parse(address, false), Err(message.to_owned()));
        }
        for address in [
            "",
            "http://",
            "a:b",
            "a:0",
            "a:99999",
            "::1",
            "a/b",
            "http://h:1/v1",
            "u@h:1",
            "[x]:1",
            "a b",
        ] {
            assert!(
                Origin::parse(address, false)
                    .unwrap_err()
                    .contains("is not an address"),
                "{address}"
            );
        }
    }

    #[test]
    fn loopback_needs_no_proxy() {
        for (address, local) in [
            ("localhost:1", true),
            ("127.9.9.9", true),
            ("[::1]:1", true),
            ("10.0.0.1", false),
            ("a", false),
        ] {
            assert_eq!(
                Origin::parse(address, false).unwrap().is_local(),
                local,
                "{address}"
            );
        }
    }
}
