//! What a certificate says of its bearer, written and read.
//!
//! A minted certificate says everything in a URI name, `lictor://<dc>/<role>/<node-id>/<percent-encoded name>`, and
//! repeats role and data center in a DNS name. One that an operator made has only DNS names like `server.dc1.consul`.

use std::time::{SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Identity, MINTED_DOMAIN, Role, is_datacenter};
use crate::error::Refusal;

const SCHEME: &str = "lictor://";

/// The URI name of a minted certificate.
pub(super) fn uri_name(identity: &Identity) -> String {
    let Identity {
        node,
        name,
        datacenter,
        role,
    } = identity;
    format!(
        "{SCHEME}{datacenter}/{role}/{node}/{}",
        utf8_percent_encode(name, NON_ALPHANUMERIC)
    )
}

/// The DNS name that grants `role` in `datacenter`.
pub(super) fn role_name(role: Role, datacenter: &str, domain: &str) -> String {
    format!("{role}.{datacenter}.{domain}")
}

/// What a certificate says of its bearer. That it may be believed is for the TLS handshake to check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Certified {
    /// All of it, if the certificate was minted.
    identity: Option<Identity>,
    /// The roles it grants, each with its data center in lower case.
    grants: Vec<(Role, String)>,
    /// The last second of its validity, in Unix time.
    pub(crate) not_after: i64,
}

impl Certified {
    /// Reads a certificate. Names are looked for in `domain` and in [`MINTED_DOMAIN`].
    pub(crate) fn read(der: &CertificateDer<'_>, domain: &str) -> Result<Self, Refusal> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| Refusal::Certificate("it is not valid DER".into()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| Refusal::Certificate("its alternative names cannot be read".into()))?;
        let mut identity = None;
        let mut grants = Vec::new();
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            if let GeneralName::URI(uri) = name
                && let Some(rest) = uri.strip_prefix(SCHEME)
            {
                let read = parse_uri(rest)
                    .ok_or_else(|| Refusal::Certificate(format!("its name {uri:?} cannot be read")))?;
                if identity.replace(read).is_some() {
                    return Err(Refusal::Certificate("it names more than one node".into()));
                }
            } else if let GeneralName::DNSName(name) = name {
                grants.extend(parse_grant(name, domain).or_else(|| parse_grant(name, MINTED_DOMAIN)));
            }
        }
        Ok(Self {
            identity,
            grants,
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Checks what a peer claims to be against its certificate.
    ///
    /// A minted certificate must agree in everything. One that an operator made must grant the role in the data
    /// center (a server's serves a client as well); one without any role name is a client's of any data center. The
    /// node's id and name are then the bearer's word.
    pub(crate) fn vouch_for(&self, claim: &Identity) -> Result<(), Refusal> {
        if self.not_after < unix_seconds(SystemTime::now()) {
            return Err(Refusal::Expired);
        }
        if let Some(identity) = &self.identity {
            return if identity == claim {
                Ok(())
            } else {
                Err(Refusal::Claim {
                    certified: identity.to_string(),
                    claimed: claim.to_string(),
                })
            };
        }
        let granted = |role| {
            self.grants.iter().any(|(granted, datacenter)| {
                *granted == role && datacenter.eq_ignore_ascii_case(&claim.datacenter)
            })
        };
        let vouched = match claim.role {
            Role::Server => granted(Role::Server),
            Role::Client => self.grants.is_empty() || granted(Role::Client) || granted(Role::Server),
        };
        if vouched {
            Ok(())
        } else {
            Err(Refusal::Claim {
                certified: self.describe_grants(),
                claimed: claim.to_string(),
            })
        }
    }

    fn describe_grants(&self) -> String {
        if self.grants.is_empty() {
            return "no role by name".into();
        }
        let each = self
            .grants
            .iter()
            .map(|(role, datacenter)| format!("a {role} of {datacenter:?}"));
        each.collect::<Vec<_>>().join(" and ")
    }
}

/// Seconds since the Unix epoch; 0 for a clock before it.
pub(super) fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn parse_uri(rest: &str) -> Option<Identity> {
    let mut parts = rest.splitn(4, '/');
    let datacenter = parts.next().filter(|name| is_datacenter(name))?.to_owned();
    let role = parse_role(parts.next()?)?;
    let node = parts.next()?.parse().ok()?;
    let name = percent_decode_str(parts.next()?).decode_utf8().ok()?.into_owned();
    let identity = Identity {
        node,
        name,
        datacenter,
        role,
    };
    identity.check().is_ok().then_some(identity)
}

fn parse_grant(name: &str, domain: &str) -> Option<(Role, String)> {
    let name = name.to_ascii_lowercase();
    let rest = name
        .strip_suffix(&domain.to_ascii_lowercase())?
        .strip_suffix('.')?;
    let (role, datacenter) = rest.split_once('.')?;
    is_datacenter(datacenter).then_some((parse_role(role)?, datacenter.to_owned()))
}

fn parse_role(text: &str) -> Option<Role> {
    [Role::Server, Role::Client]
        .into_iter()
        .find(|role| role.as_str() == text)
}

#[cfg(test)]
mod tests {
    use lictor_machine::NodeId;
    use proptest::prelude::*;

    use super::*;

    fn identity(role: Role, datacenter: &str) -> Identity {
        Identity {
            node: NodeId(7),
            name: "a b/ü".into(),
            datacenter: datacenter.into(),
            role,
        }
    }

    fn granting(grants: &[(Role, &str)]) -> Certified {
        let grants = grants
            .iter()
            .map(|(role, datacenter)| (*role, (*datacenter).to_owned()))
            .collect();
        Certified {
            identity: None,
            grants,
            not_after: i64::MAX,
        }
    }

    #[test]
    fn a_uri_name_round_trips() {
        let identity = identity(Role::Server, "dc1");
        let uri = uri_name(&identity);
        assert_eq!(
            uri,
            "lictor://dc1/server/00000000-0000-0000-0000-000000000007/a%20b%2F%C3%BC"
        );
        assert_eq!(parse_uri(uri.strip_prefix(SCHEME).unwrap()), Some(identity));
    }

    #[test]
    fn role_names_are_read_in_their_domain_only() {
        assert_eq!(
            parse_grant("Server.DC1.consul", "consul"),
            Some((Role::Server, "dc1".into()))
        );
        assert_eq!(
            parse_grant("client.dc1.consul", "consul"),
            Some((Role::Client, "dc1".into()))
        );
        for name in [
            "server.dc1.example",
            "server.consul",
            "web.server.dc1.consul",
            "server..consul",
            "localhost",
        ] {
            assert_eq!(parse_grant(name, "consul"), None, "{name}");
        }
    }

    #[test]
    fn operators_certificates_grant_roles_and_no_more() {
        let server = granting(&[(Role::Server, "dc1")]);
        assert_eq!(server.vouch_for(&identity(Role::Server, "DC1")), Ok(()));
        assert_eq!(server.vouch_for(&identity(Role::Client, "dc1")), Ok(()));
        assert!(matches!(
            server.vouch_for(&identity(Role::Server, "dc2")),
            Err(Refusal::Claim { .. })
        ));

        let client = granting(&[(Role::Client, "dc1")]);
        assert_eq!(client.vouch_for(&identity(Role::Client, "dc1")), Ok(()));
        assert!(matches!(
            client.vouch_for(&identity(Role::Server, "dc1")),
            Err(Refusal::Claim { .. })
        ));
        assert!(matches!(
            client.vouch_for(&identity(Role::Client, "dc2")),
            Err(Refusal::Claim { .. })
        ));

        let nameless = granting(&[]);
        assert_eq!(nameless.vouch_for(&identity(Role::Client, "dc9")), Ok(()));
        assert!(matches!(
            nameless.vouch_for(&identity(Role::Server, "dc9")),
            Err(Refusal::Claim { .. })
        ));
    }

    #[test]
    fn a_minted_certificate_must_agree_in_everything() {
        let minted = identity(Role::Client, "dc1");
        let certified = Certified {
            identity: Some(minted.clone()),
            grants: vec![(Role::Server, "dc1".into())],
            not_after: i64::MAX,
        };
        assert_eq!(certified.vouch_for(&minted), Ok(()));
        for claim in [
            Identity {
                role: Role::Server,
                ..minted.clone()
            },
            Identity {
                node: NodeId(8),
                ..minted.clone()
            },
            Identity {
                name: "b".into(),
                ..minted.clone()
            },
            Identity {
                datacenter: "dc2".into(),
                ..minted.clone()
            },
        ] {
            assert!(
                matches!(certified.vouch_for(&claim), Err(Refusal::Claim { .. })),
                "{claim}"
            );
        }
    }

    #[test]
    fn an_expired_certificate_vouches_for_nobody() {
        let certified = Certified {
            not_after: 1_000_000_000,
            ..granting(&[(Role::Server, "dc1")])
        };
        assert_eq!(
            certified.vouch_for(&identity(Role::Server, "dc1")),
            Err(Refusal::Expired)
        );
    }

    proptest! {
        #[test]
        fn no_name_makes_the_parsers_panic(text in ".{0,300}") {
            let _ = parse_uri(&text);
            let _ = parse_grant(&text, "consul");
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Certified::read(&CertificateDer::from(bytes), "consul").is_err());
        }

        #[test]
        fn every_name_round_trips(name in ".{1,60}", node in any::<u128>()) {
            let identity = Identity { node: NodeId(node), name, ..identity(Role::Client, "dc-1_x") };
            prop_assert_eq!(parse_uri(uri_name(&identity).strip_prefix(SCHEME).unwrap()), Some(identity));
        }
    }
}
