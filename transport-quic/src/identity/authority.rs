//! Authorities that Lictor makes itself: derived from a shared key, or drawn at random and kept in a file.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hkdf};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::certificate::{role_name, unix_seconds, uri_name};
use super::trust::TrustError;
use super::{Identity, MINTED_DOMAIN};

/// How long a minted certificate is valid.
pub(super) const LEAF_LIFETIME: Duration = Duration::from_hours(365 * 24);

/// How far a minted certificate's validity reaches back, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_hours(24);

/// The file of an authority in its directory: the certificate, then the key.
const FILE_NAME: &str = "authority.pem";

/// No honest authority's file is longer.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What an Ed25519 private key looks like in PKCS #8 version 1 (RFC 8410, section 7), up to the seed.
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A certificate and its private key.
pub(super) struct Minted {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The key pair that signs the certificates of a cluster, and its own certificate.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The one authority of all who know `secret`. Everything in it, the certificate's bytes included, follows from
    /// the secret: the key pair is Ed25519 (its seed is 32 uniform bytes, and its signatures need no randomness).
    pub(super) fn derive(secret: &[u8]) -> Result<Self, TrustError> {
        let mut pkcs8 = ED25519_PKCS8_PREFIX.to_vec();
        pkcs8.extend_from_slice(&expand(secret, b"authority ed25519 seed"));
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_slice()),
            &rcgen::PKCS_ED25519,
        )?;
        Ok(Self::self_signed(key, "Lictor shared key authority")?.0)
    }

    /// The authority kept in `directory`, made first if there is none. However many agents start at once, all get the
    /// same one. On an error there is no authority, or the one that was there, untouched.
    pub(super) fn load_or_create(directory: &Path) -> Result<Self, TrustError> {
        let path = directory.join(FILE_NAME);
        if let Some(found) = Self::load(&path)? {
            return Ok(found);
        }
        let failed = |source| TrustError::Store {
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let key_pem = key.serialize_pem();
        let (_, certificate_pem) = Self::self_signed(key, "Lictor user authority")?;
        publish(directory, &path, format!("{certificate_pem}{key_pem}").as_bytes()).map_err(failed)?;
        // Whoever published first has won: read what is there now, ours or not.
        Self::load(&path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// The certificate that peers must trust.
    pub(super) const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key, for what else is to be derived from it.
    pub(super) fn secret(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }

    /// A new key pair with a certificate for `identity`, valid from a day before `now` for a year.
    pub(super) fn mint(&self, identity: &Identity, now: SystemTime) -> Result<Minted, TrustError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&identity.node.to_string());
        params.subject_alt_names = vec![
            SanType::DnsName(role_name(identity.role, &identity.datacenter, MINTED_DOMAIN).try_into()?),
            SanType::URI(uri_name(identity).try_into()?),
        ];
        let from = now.checked_sub(CLOCK_SKEW).unwrap_or(SystemTime::UNIX_EPOCH);
        set_validity(&mut params, from, now + LEAF_LIFETIME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Minted { certificate, key })
    }

    /// An authority with `key`, and its certificate as PEM.
    fn self_signed(key: KeyPair, label: &str) -> Result<(Self, String), TrustError> {
        let print = digest::digest(&digest::SHA256, key.public_key_raw());
        let mut params = CertificateParams::default();
        // The subject names the key, so that a peer tells "another authority" from "a broken signature".
        params.distinguished_name = common_name(&format!("{label} {}", hex(&print.as_ref()[..16])));
        let mut serial = print.as_ref()[16..32].to_vec();
        // A serial number is positive, and its first byte must not vanish.
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from(serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2120, 1, 1);
        let certificate = params.self_signed(&key)?;
        let pem = certificate.pem();
        Ok((
            Self {
                certificate: certificate.into(),
                issuer: Issuer::new(params, key),
            },
            pem,
        ))
    }

    fn load(path: &Path) -> Result<Option<Self>, TrustError> {
        let failed = |source| TrustError::Store {
            path: path.to_owned(),
            source,
        };
        let damaged = |what: &str| TrustError::Damaged {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TrustError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| damaged("it has no certificate"))?
            .into_owned();
        let key =
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged("it has no private key"))?;
        let key = KeyPair::try_from(&key).map_err(|_| damaged("its private key cannot be used"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| damaged("its certificate cannot be read"))?;
        Ok(Some(Self { certificate, issuer }))
    }
}

/// 32 bytes for one purpose, from a secret (HKDF-SHA256, RFC 5869).
pub(super) fn expand(secret: &[u8], purpose: &[u8]) -> [u8; 32] {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lictor trust v1");
    let mut out = [0; 32];
    salt.extract(secret)
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("32 bytes are one block of HKDF-SHA256");
    out
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A subject that has only a common name.
pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Makes `params` valid from `from` through `to`.
pub(super) fn set_validity(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let date = |time| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_seconds(time).unsigned_abs());
    params.not_before = date(from);
    params.not_after = date(to);
}

/// Puts `content` at `path` as a whole, for its owner alone, unless something is there already.
fn publish(directory: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut nonce = [0; 8];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| io::Error::other("no randomness to be had"))?;
    let draft = directory.join(format!(".{FILE_NAME}.{}", hex(&nonce)));
    let linked = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        // A link, not a rename: it fails if another agent was first.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    })();
    let removed = fs::remove_file(&draft);
    linked.and(removed)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use lictor_machine::NodeId;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;
    use crate::identity::{Certified, Role};

    fn identity() -> Identity {
        Identity {
            node: NodeId(7),
            name: "web 1".into(),
            datacenter: "dc1".into(),
            role: Role::Client,
        }
    }

    #[test]
    fn a_secret_has_one_authority_for_ever() {
        let authority = Authority::derive(b"0123456789abcdef").unwrap();
        let (_, certificate) = X509Certificate::from_der(&authority.certificate).unwrap();
        // What peers go by: subject and public key. Two builds that differ here do not trust each other.
        assert_eq!(
            certificate.subject().to_string(),
            "CN=Lictor shared key authority 7054e7529245950d720e3beedc1d1b76"
        );
        assert_eq!(
            hex(certificate.public_key().subject_public_key.as_ref()),
            "ba34b76f518ade0a5e5c10006c7c182976477e001cfeeefb0fc935f0c2469675"
        );
        assert_ne!(
            Authority::derive(b"0123456789abcdeg").unwrap().certificate,
            authority.certificate
        );
    }

    #[test]
    fn a_minted_certificate_says_who_bears_it() {
        let authority = Authority::derive(b"0123456789abcdef").unwrap();
        let now = SystemTime::now();
        let minted = authority.mint(&identity(), now).unwrap();
        let certified = Certified::read(&minted.certificate, "consul").unwrap();
        assert_eq!(certified.vouch_for(&identity()), Ok(()));
        assert_eq!(certified.not_after, unix_seconds(now + LEAF_LIFETIME));
    }

    #[test]
    fn agents_that_start_together_get_one_authority() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state/lictor");
        let certificates: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Authority::load_or_create(&state).unwrap().certificate))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
        let left: Vec<_> = fs::read_dir(&state)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [FILE_NAME], "drafts are removed");
        let mode = fs::metadata(state.join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Authority::load_or_create(&state).unwrap();
        assert_eq!(again.certificate, certificates[0]);
        again.mint(&identity(), SystemTime::now()).unwrap();
    }

    #[test]
    fn an_authority_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Authority::load_or_create(directory.path()).unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::load_or_create(directory.path()).err().unwrap();
        assert!(
            matches!(error, TrustError::Exposed { mode: 0o640, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_authority_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "nonsense").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Authority::load_or_create(directory.path()).err().unwrap();
        assert!(error.to_string().contains("authority.pem"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "nonsense");
    }
}
