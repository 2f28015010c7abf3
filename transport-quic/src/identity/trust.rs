//! The three sources of trust.

use core::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::digest;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring as ring_provider;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::{Authority, LEAF_LIFETIME, expand, hex};
use super::certificate::unix_seconds;
use super::{Certified, DEFAULT_DOMAIN, Identity, InvalidIdentity};

/// The keys of the configuration that name files.
const CA_FILE: &str = "tls.defaults.ca_file";
const CERT_FILE: &str = "tls.defaults.cert_file";
const KEY_FILE: &str = "tls.defaults.key_file";

/// No honest file of certificates is longer.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// Whose certificates are believed, and where one's own comes from.
#[derive(Clone)]
pub struct Trust {
    source: Source,
    /// Further authorities whose certificates are believed: the old or the new one during a rotation.
    also: Vec<CertificateDer<'static>>,
}

#[derive(Clone)]
enum Source {
    Authority(Arc<Authority>),
    Files(TrustFiles),
}

/// The files of a cluster whose certificates an operator makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFiles {
    /// One or more authorities (PEM).
    pub ca_file: PathBuf,
    /// The agent's certificate, then any between it and the authority (PEM).
    pub cert_file: PathBuf,
    /// The private key of that certificate (PEM, PKCS #8 or SEC 1).
    pub key_file: PathBuf,
    /// The domain in `server.<dc>.<domain>`; [`DEFAULT_DOMAIN`] unless the cluster's is another.
    pub domain: String,
}

impl Trust {
    /// The authority kept in `directory`, made there first if there is none (mode 0600, in a directory of mode 0700).
    /// All agents that can read it form a cluster, and nobody else can join it. On an error the directory's authority
    /// is as it was.
    pub fn user_authority(directory: &Path) -> Result<Self, TrustError> {
        Ok(Self::of(Authority::load_or_create(directory)?))
    }

    /// The authority that all agents with the same key derive for themselves. `key` is what `-encrypt` has in base64:
    /// 16, 24 or 32 bytes.
    pub fn shared_key(key: &[u8]) -> Result<Self, TrustError> {
        if !matches!(key.len(), 16 | 24 | 32) {
            return Err(TrustError::KeyLength { length: key.len() });
        }
        Ok(Self::of(Authority::derive(key)?))
    }

    /// Certificates made by an operator. The files are read when an agent starts and whenever it renews.
    pub fn files(files: TrustFiles) -> Self {
        Self {
            source: Source::Files(files),
            also: Vec::new(),
        }
    }

    /// Believes the authorities of `other` too, while its own certificate still comes from `self`: what agents run
    /// with while a cluster goes from one key to the next.
    pub fn and_believe(mut self, other: &Self) -> Result<Self, TrustError> {
        self.also.extend(other.authorities()?);
        Ok(self)
    }

    /// SHA-256 of the first authority's public key (its DER), in hexadecimal. Agents that print the same one trust each
    /// other.
    pub fn fingerprint(&self) -> Result<String, TrustError> {
        let authorities = self.authorities()?;
        let first = authorities
            .first()
            .expect("a source of trust has at least one authority");
        let (_, certificate) = X509Certificate::from_der(first)
            .map_err(|_| TrustError::Authority(CertificateError::BadEncoding.into()))?;
        Ok(hex(
            digest::digest(&digest::SHA256, certificate.public_key().raw).as_ref()
        ))
    }

    /// The domain in which role names of certificates are looked for.
    pub(crate) fn domain(&self) -> &str {
        match &self.source {
            Source::Authority(_) => DEFAULT_DOMAIN,
            Source::Files(files) => &files.domain,
        }
    }

    /// What `identity` needs to speak and to listen, as of `now`.
    pub(crate) fn credentials(
        &self,
        identity: &Identity,
        now: SystemTime,
    ) -> Result<Credentials, TrustError> {
        identity.check()?;
        let mut roots = RootCertStore::empty();
        for authority in self.authorities()? {
            roots.add(authority).map_err(|error| self.unusable(error))?;
        }
        match &self.source {
            Source::Authority(authority) => {
                let minted = authority.mint(identity, now)?;
                Ok(Credentials {
                    chain: vec![minted.certificate],
                    key: minted.key,
                    roots: Arc::new(roots),
                    renew_at: now + LEAF_LIFETIME.mul_f64(2.0 / 3.0),
                    reset_secret: reset_secret(authority.secret(), identity),
                })
            }
            Source::Files(files) => files.credentials(identity, now, roots),
        }
    }

    fn unusable(&self, error: rustls::Error) -> TrustError {
        match &self.source {
            Source::Authority(_) => TrustError::Authority(error),
            Source::Files(files) => TrustError::File {
                path: files.ca_file.clone(),
                what: format!("an authority in it cannot be used: {error}"),
            },
        }
    }

    fn of(authority: Authority) -> Self {
        Self {
            source: Source::Authority(Arc::new(authority)),
            also: Vec::new(),
        }
    }

    fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let mut authorities = match &self.source {
            Source::Authority(authority) => vec![authority.certificate().clone()],
            Source::Files(files) => read_certificates(CA_FILE, &files.ca_file)?,
        };
        authorities.extend(self.also.iter().cloned());
        Ok(authorities)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Authority(_) => f.write_str("Trust(authority)"),
            Source::Files(files) => f.debug_tuple("Trust").field(files).finish(),
        }
    }
}

/// What TLS needs of an agent, and when to get it anew.
pub(crate) struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) renew_at: SystemTime,
    /// Known to this agent alone and the same after a restart: what makes a restarted agent able to tell its peers
    /// that their connections are gone (RFC 9000, section 10.3).
    pub(crate) reset_secret: [u8; 32],
}

/// Why there is no trust, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The shared key is neither 16 nor 24 nor 32 bytes long.
    #[error("the -encrypt key has {length} bytes; it needs 16, 24 or 32: make one with `lictor keygen`")]
    KeyLength {
        /// Its length in bytes.
        length: usize,
    },
    /// The identity cannot be put into a certificate.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that the configuration names cannot be read.
    #[error("{key}: {} cannot be read: {source}{}", .path.display(), relative(.path))]
    Unreadable {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A secret that others than its owner can read.
    #[error("{} can be read by others (mode {mode:03o}): it is as good as public; chmod 600 it if you are sure that nobody did, or remove it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file that does not hold what it should.
    #[error("{}: {what}; restore it, or remove it to have a new one made", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file of certificates or keys that does not hold what it should.
    #[error("{}: {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The agent's own certificate does not let it be what it is configured to be.
    #[error("{}: this agent cannot use the certificate: {reason}; make one with `lictor tls cert create`", .path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An authority's certificate that TLS cannot use.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(rustls::Error),
    /// TLS refuses the certificate with its key.
    #[error("the certificate cannot be used with its key: {0}")]
    Tls(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Mint(#[from] rcgen::Error),
}

impl TrustFiles {
    fn credentials(
        &self,
        identity: &Identity,
        now: SystemTime,
        roots: RootCertStore,
    ) -> Result<Credentials, TrustError> {
        let chain = read_certificates(CERT_FILE, &self.cert_file)?;
        let leaf = chain.first().expect("a file without certificates is an error");
        let unfit = |reason: String| TrustError::Unfit {
            path: self.cert_file.clone(),
            reason,
        };
        let certified = Certified::read(leaf, &self.domain).map_err(|refusal| unfit(refusal.to_string()))?;
        certified
            .vouch_for(identity)
            .map_err(|refusal| unfit(refusal.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(KEY_FILE, &self.key_file)?).map_err(|_| {
            TrustError::File {
                path: self.key_file.clone(),
                what: "there is no private key in it".into(),
            }
        })?;
        let provider = ring_provider::default_provider();
        self.check_key(&chain, &key, &provider)?;
        let roots = Arc::new(roots);
        check_chain(&chain, &roots, now, provider).map_err(|error| unfit(self.complaint(&error)))?;
        let left = u64::try_from(certified.not_after - unix_seconds(now)).unwrap_or(0);
        Ok(Credentials {
            reset_secret: reset_secret(key.secret_der(), identity),
            renew_at: now + Duration::from_secs(left).mul_f64(2.0 / 3.0),
            roots,
            chain,
            key,
        })
    }

    /// Whether the key is the certificate's.
    fn check_key(
        &self,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<(), TrustError> {
        let file = |what| TrustError::File {
            path: self.key_file.clone(),
            what,
        };
        match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), provider) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(_)) => Err(file(format!(
                "it is not the key of the certificate in {}",
                self.cert_file.display()
            ))),
            Err(error) => Err(file(format!("the key cannot be used: {error}"))),
        }
    }

    /// Why no peer with the same authorities would believe the certificate.
    fn complaint(&self, error: &rustls::Error) -> String {
        let rustls::Error::InvalidCertificate(error) = error else {
            return error.to_string();
        };
        if matches!(
            error,
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ) {
            return format!("no authority in {} has issued it", self.ca_file.display());
        }
        error.to_string()
    }
}

/// Checks a certificate as peers will: those that it calls, and those that call it.
fn check_chain(
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    now: SystemTime,
    provider: CryptoProvider,
) -> Result<(), rustls::Error> {
    let (leaf, between) = chain
        .split_first()
        .expect("a file without certificates is an error");
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(since_epoch);
    let algorithms = provider.signature_verification_algorithms.all;
    let parsed = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, algorithms)?;
    let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), Arc::new(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    callers.verify_client_cert(leaf, between, now)?;
    Ok(())
}

fn reset_secret(secret: &[u8], identity: &Identity) -> [u8; 32] {
    let mut purpose = b"stateless reset of ".to_vec();
    purpose.extend_from_slice(&identity.node.0.to_be_bytes());
    expand(secret, &purpose)
}

fn read_certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(key, path)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(TrustError::File {
            path: path.to_owned(),
            what: "there is no PEM certificate in it".into(),
        }),
        Err(error) => Err(TrustError::File {
            path: path.to_owned(),
            what: error.to_string(),
        }),
    }
}

/// Where a path begins that says so only to who knows it.
fn relative(path: &Path) -> &'static str {
    if path.is_relative() {
        "; the path counts from the directory where the agent was started"
    } else {
        ""
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::Unreadable {
        key,
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_PEM_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        let what = format!("it is longer than {MAX_PEM_BYTES} bytes");
        return Err(TrustError::File {
            path: path.to_owned(),
            what,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use lictor_machine::NodeId;

    use super::*;
    use crate::identity::{CaRequest, CertRequest, Role, ca_create, cert_create};

    fn identity(role: Role) -> Identity {
        Identity {
            node: NodeId(7),
            name: "a".into(),
            datacenter: "dc1".into(),
            role,
        }
    }

    #[test]
    fn shared_keys_have_one_of_three_lengths() {
        for length in [0, 15, 17, 31, 33] {
            let error = Trust::shared_key(&vec![7; length]).unwrap_err();
            assert!(matches!(error, TrustError::KeyLength { length: found } if found == length));
        }
        for length in [16, 24, 32] {
            let key = vec![7; length];
            let once = Trust::shared_key(&key).unwrap().fingerprint().unwrap();
            assert_eq!(Trust::shared_key(&key).unwrap().fingerprint().unwrap(), once);
        }
    }

    #[test]
    fn a_minted_certificate_is_renewed_at_two_thirds_of_its_life() {
        let now = SystemTime::now();
        let credentials = Trust::shared_key(&[7; 32])
            .unwrap()
            .credentials(&identity(Role::Server), now)
            .unwrap();
        let days = credentials.renew_at.duration_since(now).unwrap().as_secs() / 86_400;
        assert_eq!(days, 243);
    }

    #[test]
    fn reset_secrets_outlive_a_restart_and_differ_by_node() {
        let trust = || Trust::shared_key(&[7; 32]).unwrap();
        let secret = |identity: &Identity| {
            trust()
                .credentials(identity, SystemTime::now())
                .unwrap()
                .reset_secret
        };
        let first = identity(Role::Server);
        assert_eq!(secret(&first), secret(&first));
        assert_ne!(
            secret(&first),
            secret(&Identity {
                node: NodeId(8),
                ..first.clone()
            })
        );
    }

    /// The files of an authority and of a certificate that it made, in a directory.
    fn files(directory: &Path, request: &CertRequest) -> TrustFiles {
        let path = |name: &str| directory.join(name);
        let ca = ca_create(&CaRequest::default()).unwrap();
        let pair = cert_create(&ca.certificate, &ca.key, request).unwrap();
        std::fs::write(path("ca"), &ca.certificate).unwrap();
        std::fs::write(path("cert"), &pair.certificate).unwrap();
        std::fs::write(path("key"), &pair.key).unwrap();
        TrustFiles {
            ca_file: path("ca"),
            cert_file: path("cert"),
            key_file: path("key"),
            domain: DEFAULT_DOMAIN.into(),
        }
    }

    /// Fails unless the files are refused with an error that holds all these words.
    fn assert_refused(files: TrustFiles, now: SystemTime, words: &[&str]) {
        let error = Trust::files(files).credentials(&identity(Role::Server), now);
        let text = error.err().expect("they are refused").to_string();
        for word in words {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
    }

    #[test]
    fn a_certificate_that_no_peer_would_believe_is_refused() {
        let [ours, theirs] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let request = CertRequest::new(Role::Server, "dc1");
        let [ours, theirs] = [&ours, &theirs].map(|directory| files(directory.path(), &request));
        let now = SystemTime::now();
        let name = |path: &Path| path.display().to_string();
        Trust::files(ours.clone())
            .credentials(&identity(Role::Server), now)
            .unwrap();

        let mixed = TrustFiles {
            ca_file: theirs.ca_file.clone(),
            ..ours.clone()
        };
        let words = [&name(&ours.cert_file), &name(&theirs.ca_file), "no authority in"];
        assert_refused(mixed.clone(), now, &words.map(|word| word as &str));
        // Unless the other authority is believed as well, as during a rotation.
        Trust::files(mixed)
            .and_believe(&Trust::files(ours.clone()))
            .unwrap()
            .credentials(&identity(Role::Server), now)
            .unwrap();

        let key = TrustFiles {
            key_file: theirs.key_file.clone(),
            ..ours.clone()
        };
        let words = [&name(&theirs.key_file), &name(&ours.cert_file), "not the key of"];
        assert_refused(key, now, &words.map(|word| word as &str));

        let day = Duration::from_hours(24);
        for (now, word) in [(now - 2 * day, "not valid yet"), (now + 400 * day, "expired")] {
            assert_refused(ours.clone(), now, &[&name(&ours.cert_file), word]);
        }

        let nothing = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n";
        std::fs::write(&ours.ca_file, nothing).unwrap();
        assert_refused(ours.clone(), now, &[&name(&ours.ca_file), "cannot be used"]);
    }

    #[test]
    fn files_must_fit_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = files(directory.path(), &CertRequest::new(Role::Client, "dc1"));
        let trust = Trust::files(files.clone());
        let now = SystemTime::now();
        trust.credentials(&identity(Role::Client), now).unwrap();
        let error = trust.credentials(&identity(Role::Server), now).err().unwrap();
        assert!(matches!(error, TrustError::Unfit { .. }), "{error}");
        let error = Trust::files(TrustFiles {
            ca_file: path("key"),
            ..files.clone()
        })
        .fingerprint();
        assert!(matches!(error, Err(TrustError::File { .. })), "{error:?}");
        let error = Trust::files(TrustFiles {
            ca_file: path("none"),
            ..files.clone()
        })
        .fingerprint();
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("tls.defaults.ca_file: "), "{error}");
        assert!(
            error.contains("none cannot be read: ") && !error.contains("counts from"),
            "{error}"
        );
        let error = Trust::files(TrustFiles {
            key_file: "none".into(),
            ..files
        })
        .credentials(&identity(Role::Client), now);
        let error = error.err().unwrap().to_string();
        assert!(
            error.starts_with("tls.defaults.key_file: none cannot be read: "),
            "{error}"
        );
        assert!(error.contains("where the agent was started"), "{error}");
    }
}
