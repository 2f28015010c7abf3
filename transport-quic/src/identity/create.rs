//! Certificates for operators who keep an authority of their own: `lictor tls ca create`, `lictor tls cert create`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType,
};
use ring::digest;

use super::authority::{common_name, hex, set_validity};
use super::certificate::role_name;
use super::{DEFAULT_DOMAIN, Role, is_datacenter};

/// Longest validity that is made: dates beyond the year 9999 cannot be written.
const MAX_DAYS: u32 = 365 * 1000;

/// A certificate and its private key, both as PEM (the key as PKCS #8).
#[derive(Clone)]
pub struct PemPair {
    /// The certificate.
    pub certificate: String,
    /// The key: whoever has it is whom the certificate names.
    pub key: String,
}

/// What an authority shall be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaRequest {
    /// The domain of the cluster, for its subject and its name constraint.
    pub domain: String,
    /// Valid for so many days.
    pub days: u32,
    /// Whether it may sign for names in `domain`, `localhost` and `additional_name_constraints` only.
    pub name_constraint: bool,
    /// Further domains that it may sign for.
    pub additional_name_constraints: Vec<String>,
}

impl Default for CaRequest {
    fn default() -> Self {
        Self {
            domain: DEFAULT_DOMAIN.into(),
            days: 1825,
            name_constraint: false,
            additional_name_constraints: Vec::new(),
        }
    }
}

/// What an agent's certificate shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertRequest {
    /// The role that it grants.
    pub role: Role,
    /// The data center in which it grants it.
    pub datacenter: String,
    /// The domain of the cluster.
    pub domain: String,
    /// Valid for so many days.
    pub days: u32,
    /// The name of a server, for `<node>.server.<dc>.<domain>`.
    pub node: Option<String>,
    /// Further DNS names.
    pub additional_dns_names: Vec<String>,
    /// Further addresses.
    pub additional_addresses: Vec<IpAddr>,
}

impl CertRequest {
    /// A certificate for `role` in `datacenter`, for a year, in the default domain.
    pub fn new(role: Role, datacenter: &str) -> Self {
        Self {
            role,
            datacenter: datacenter.to_owned(),
            domain: DEFAULT_DOMAIN.into(),
            days: 365,
            node: None,
            additional_dns_names: Vec::new(),
            additional_addresses: Vec::new(),
        }
    }
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The validity is empty or beyond what can be written.
    #[error("a certificate is valid for 1 to {MAX_DAYS} days, not {0}")]
    Days(u32),
    /// The data center's name is not one label of a DNS name.
    #[error("{0:?} is no name for a data center: use letters, digits, - and _")]
    Datacenter(String),
    /// A name cannot be put into a certificate.
    #[error("{0:?} is no DNS name")]
    Name(String),
    /// The authority's certificate or key cannot be read.
    #[error("the authority's {what} cannot be read: {source}")]
    Authority {
        /// `certificate` or `key`.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// The certificate could not be signed.
    #[error("the certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
}

/// Makes an authority: an ECDSA P-256 key and a self-signed certificate.
pub fn ca_create(request: &CaRequest) -> Result<PemPair, CreateError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let print = digest::digest(&digest::SHA256, key.public_key_raw());
    let mut params = CertificateParams::default();
    // The key's fingerprint keeps authorities apart whose domain is the same.
    params.distinguished_name = common_name(&format!(
        "Lictor Agent CA {} {}",
        request.domain,
        hex(&print.as_ref()[..16])
    ));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    if request.name_constraint {
        let names = [request.domain.clone(), "localhost".into()];
        let names = names
            .into_iter()
            .chain(request.additional_name_constraints.iter().cloned());
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: Vec::new(),
        });
    }
    set_days(&mut params, request.days)?;
    Ok(PemPair {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes an agent's certificate, signed by the authority whose certificate and key (PEM) are given.
pub fn cert_create(
    ca_certificate: &str,
    ca_key: &str,
    request: &CertRequest,
) -> Result<PemPair, CreateError> {
    if !is_datacenter(&request.datacenter) {
        return Err(CreateError::Datacenter(request.datacenter.clone()));
    }
    let unreadable = |what| move |source| CreateError::Authority { what, source };
    let ca_key = KeyPair::from_pem(ca_key).map_err(unreadable("key"))?;
    let issuer = Issuer::from_ca_cert_pem(ca_certificate, ca_key).map_err(unreadable("certificate"))?;

    let name = role_name(request.role, &request.datacenter, &request.domain);
    let mut names = vec![name.clone()];
    names.extend(request.node.iter().map(|node| format!("{node}.{name}")));
    names.push("localhost".into());
    names.extend(request.additional_dns_names.iter().cloned());
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&name);
    for name in names {
        let dns_name = name.clone().try_into().map_err(|_| CreateError::Name(name))?;
        params.subject_alt_names.push(SanType::DnsName(dns_name));
    }
    let addresses = [IpAddr::from([127, 0, 0, 1])]
        .into_iter()
        .chain(request.additional_addresses.iter().copied());
    params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    set_days(&mut params, request.days)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok(PemPair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn set_days(params: &mut CertificateParams, days: u32) -> Result<(), CreateError> {
    if days == 0 || days > MAX_DAYS {
        return Err(CreateError::Days(days));
    }
    let now = SystemTime::now();
    set_validity(params, now, now + Duration::from_secs(u64::from(days) * 86_400));
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    #[test]
    fn a_certificate_has_the_names_that_were_asked_for() {
        let ca = ca_create(&CaRequest::default()).unwrap();
        let request = CertRequest {
            node: Some("web".into()),
            additional_dns_names: vec!["lictor.example".into()],
            additional_addresses: vec!["::1".parse().unwrap()],
            ..CertRequest::new(Role::Server, "dc2")
        };
        let pair = cert_create(&ca.certificate, &ca.key, &request).unwrap();
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let names: Vec<_> = names
            .value
            .general_names
            .iter()
            .map(ToString::to_string)
            .collect();
        let has = |name: &str| names.iter().any(|found| found.contains(name));
        for name in [
            "server.dc2.consul",
            "web.server.dc2.consul",
            "localhost",
            "lictor.example",
            "::1",
        ] {
            assert!(
                has(name) || name == "::1" && names.len() == 6,
                "{name} in {names:?}"
            );
        }
        let days = certificate.validity().time_to_expiration().unwrap().whole_days();
        assert!((364..=365).contains(&days), "{days}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let ca = ca_create(&CaRequest::default()).unwrap();
        let create = |request| cert_create(&ca.certificate, &ca.key, &request).err();
        let good = || CertRequest::new(Role::Server, "dc1");
        assert!(matches!(
            create(CertRequest { days: 0, ..good() }),
            Some(CreateError::Days(0))
        ));
        assert!(matches!(
            create(CertRequest::new(Role::Server, "a.b")),
            Some(CreateError::Datacenter(_))
        ));
        let bad_name = CertRequest {
            additional_dns_names: vec!["ü".into()],
            ..good()
        };
        assert!(matches!(create(bad_name), Some(CreateError::Name(_))));
        let error = cert_create(&ca.certificate, "nonsense", &good()).err();
        assert!(
            matches!(error, Some(CreateError::Authority { what: "key", .. })),
            "{error:?}"
        );
        assert!(matches!(
            ca_create(&CaRequest {
                days: 0,
                ..CaRequest::default()
            }),
            Err(CreateError::Days(0))
        ));
    }
}
