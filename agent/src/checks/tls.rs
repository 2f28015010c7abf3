//! TLS towards what is checked: other people's certificates, and no certificate of ours.

use std::io;
use std::sync::Arc;

use async_lock::OnceCell;
use futures_rustls::client::TlsStream;
use futures_rustls::{TlsConnector, rustls};
use lictor_node::local::ProbeTls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::dial::Io;
use super::text::reason;

/// The protocol that both sides are to speak, as TLS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Whatever is spoken on that port.
    Any,
    /// HTTP/2.
    Http2,
}

/// Which authorities are trusted.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// Read when they are first needed, since most agents never need them.
    roots: OnceCell<Arc<RootCertStore>>,
}

impl Tls {
    /// Trusts these, and not those that the system trusts.
    #[cfg(test)]
    pub(super) fn trusting(roots: RootCertStore) -> Self {
        Self {
            roots: OnceCell::from(Arc::new(roots)),
        }
    }

    /// Speaks TLS on a connection to `host`. The error says why not.
    pub(super) async fn connect<S: Io>(
        &self,
        stream: S,
        host: &str,
        tls: &ProbeTls,
        protocol: Protocol,
    ) -> Result<TlsStream<S>, String> {
        let name = if tls.server_name.is_empty() {
            host
        } else {
            &tls.server_name
        };
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            format!("tls: {name:?} is neither a name nor an address that a certificate can have")
        })?;
        let config = self.config(tls.skip_verify, protocol).await?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name, stream);
        connecting.await.map_err(|error| failure(&error, name))
    }

    async fn config(&self, skip_verify: bool, protocol: Protocol) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if skip_verify {
            Arc::new(AnyCertificate(Arc::clone(&provider)))
        } else {
            let roots = self.roots.get_or_init(|| blocking::unblock(system_roots)).await;
            WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
                .build()
                .map_err(|_| {
                    "tls: this system trusts no certificate authority: install its package of CA certificates"
                        .to_owned()
                })?
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tls: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // Each probe is to see the whole handshake succeed.
        config.resumption = rustls::client::Resumption::disabled();
        if protocol == Protocol::Http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(config)
    }
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read some of the certificate authorities that this system trusts");
    }
    let (_, refused) = roots.add_parsable_certificates(found.certs);
    if refused > 0 {
        tracing::debug!(refused, "certificate authorities that cannot be used");
    }
    Arc::new(roots)
}

fn failure(error: &io::Error, name: &str) -> String {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return reason(error);
    };
    if let rustls::Error::InvalidMessage(_) = tls {
        return "tls: first record does not look like a TLS handshake".to_owned();
    }
    let rustls::Error::InvalidCertificate(refused) = tls else {
        return format!("tls: {tls}");
    };
    // A bad signature: somebody who has the name of one who is trusted, and not his key.
    let unknown = matches!(
        refused,
        CertificateError::UnknownIssuer | CertificateError::BadSignature
    );
    let expired = matches!(
        refused,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    let misnamed = matches!(
        refused,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    );
    if unknown {
        "x509: certificate signed by unknown authority".to_owned()
    } else if expired {
        "x509: certificate has expired or is not yet valid".to_owned()
    } else if misnamed {
        format!("x509: certificate is not valid for {name}")
    } else {
        format!("x509: {refused}")
    }
}

/// Takes any certificate, as whoever defined the check has asked for; but whoever shows it must have its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
