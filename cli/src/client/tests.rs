//! Where the agent is, who we are, and TLS; through a command that reads one key.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::console::testing::{Ran, run, run_in, run_with};
use crate::fake::{Accept, Fake};

const KEYS: &str = r#"["k"]"#;

fn keys_of(fake: &Fake, more: &[&str], variables: &[(&str, &str)]) -> Ran {
    let addressed = [&["kv", "get", "-keys", "-http-addr", &fake.address], more].concat();
    run_with(&addressed, b"", variables)
}

#[test]
fn flags_beat_our_variables_and_ours_beat_consuls() {
    let (flag, ours, consuls) = (fake(), fake(), fake());
    let variables = [
        ("LICTOR_HTTP_ADDR", ours.address.as_str()),
        ("CONSUL_HTTP_ADDR", consuls.address.as_str()),
    ];
    assert_eq!(keys_of(&flag, &[], &variables).out, "k\n");
    assert_eq!(run_with(&["kv", "get", "-keys"], b"", &variables).out, "k\n");
    assert_eq!(run_with(&["kv", "get", "-keys"], b"", &variables[1..]).out, "k\n");
    assert_eq!(
        (flag.lines().len(), ours.lines().len(), consuls.lines().len()),
        (1, 1, 1)
    );
}

fn fake() -> Fake {
    Fake::start(|_| (200, KEYS.to_owned()))
}

#[test]
fn credentials_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, " from-file\n").unwrap();
    let file = file.to_str().unwrap();
    for (more, variables, token) in [
        (&[][..], &[][..], None),
        (
            &["-token", "flag"],
            &[("CONSUL_HTTP_TOKEN", "variable")],
            Some("flag"),
        ),
        (&[], &[("CONSUL_HTTP_TOKEN", "variable")], Some("variable")),
        (&["-token", "flag", "-token-file", file], &[], Some("from-file")),
        (
            &["-token", "flag"],
            &[("LICTOR_HTTP_TOKEN_FILE", file)],
            Some("from-file"),
        ),
    ] {
        let fake = fake();
        assert_eq!(keys_of(&fake, more, variables).code, 0);
        assert_eq!(fake.seen()[0].header("x-consul-token"), token, "{more:?}");
        assert_eq!(fake.seen()[0].header("authorization"), None);
    }
    let fake = fake();
    assert_eq!(keys_of(&fake, &[], &[("CONSUL_HTTP_AUTH", "user:pass")]).code, 0);
    assert_eq!(fake.seen()[0].header("authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(fake.seen()[0].header("host"), Some(fake.address.as_str()));
}

#[test]
fn what_cannot_be_used_is_named() {
    let no_pem = tempfile::NamedTempFile::new().unwrap();
    let no_pem = no_pem.path().to_str().unwrap();
    for (more, message) in [
        (
            &["-token-file", "/nofile"][..],
            "Error loading token file: open /nofile: no such file or directory".to_owned(),
        ),
        (
            &["-ca-file", "/nofile"],
            "Error loading CA File: open /nofile: no such file or directory".to_owned(),
        ),
        (
            &["-ca-file", no_pem],
            format!("Error loading CA File: Couldn't parse PEM in: {no_pem}"),
        ),
        (
            &["-ca-path", "/nodir"],
            "Error loading CA directory: open /nodir: no such file or directory".to_owned(),
        ),
        (
            &["-client-cert", "/nofile"],
            "both client cert and client key must be provided".to_owned(),
        ),
        (
            &["-client-key", "/nofile"],
            "both client cert and client key must be provided".to_owned(),
        ),
        (
            &["-http-addr", "foo://x"],
            "Unknown protocol scheme: foo".to_owned(),
        ),
        (
            &["-http-addr", "unix:///x"],
            "unix:///x: unix sockets are not supported yet; use the agent's TCP address".to_owned(),
        ),
    ] {
        let ran = run(&[&["kv", "get"], more, &["a"]].concat());
        let err = format!("Error connecting to Lictor agent: {message}\n");
        assert_eq!(
            ran,
            Ran {
                code: 1,
                out: String::new(),
                err
            }
        );
    }
    let fake = fake();
    let ran = keys_of(&fake, &[], &[("CONSUL_HTTP_SSL", "zz")]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "k\n"), "goes on without");
    assert_eq!(
        ran.err,
        "[WARN]  could not parse HTTP_SSL: \"zz\" is neither true nor false\n"
    );
}

#[test]
fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let refused = format!("dial tcp {free}: connect: connection refused");
    for (line, message) in [
        (
            &["get", "a"][..],
            format!("Error querying Lictor agent: Get \"http://{free}/v1/kv/a\": {refused}"),
        ),
        (
            &["get", "-keys", "a"],
            format!(
                "Error querying Lictor agent: Get \"http://{free}/v1/kv/a?keys=&separator=%2F\": {refused}"
            ),
        ),
        (
            &["put", "a", "b"],
            format!("Error! Failed writing data: Put \"http://{free}/v1/kv/a\": {refused}"),
        ),
        (
            &["delete", "a"],
            format!("Error deleting key a: Delete \"http://{free}/v1/kv/a\": {refused}"),
        ),
        (
            &["export", "a"],
            format!("Error querying Lictor agent: Get \"http://{free}/v1/kv/a?recurse=\": {refused}"),
        ),
    ] {
        let ran = run_with(&[&["kv"], line].concat(), b"", &[("CONSUL_HTTP_ADDR", &free)]);
        assert_eq!((ran.code, ran.err), (1, format!("{message}\n")));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").unwrap();
        // Until the other side has read it and gone.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let ran = run(&["kv", "get", "-http-addr", &format!("https://{plain}"), "a"]);
    assert_eq!(
        ran.err,
        format!(
            "Error querying Lictor agent: Get \"https://{plain}/v1/kv/a\": http: server gave HTTP response to HTTPS client\n"
        )
    );
    let ran = run(&["kv", "get", "-http-addr", "nohost.invalid:80", "a"]);
    assert_eq!(
        ran.err,
        "Error querying Lictor agent: Get \"http://nohost.invalid:80/v1/kv/a\": dial tcp: lookup nohost.invalid: no such host\n"
    );
}

/// TLS with the certificates that `lictor tls` makes.
struct Tls(Arc<ServerConfig>);

impl Tls {
    fn new(dir: &Path, wants_client: bool) -> Self {
        for line in [
            &["tls", "ca", "create"][..],
            &["tls", "cert", "create", "-server"],
            &["tls", "cert", "create", "-client"],
        ] {
            assert_eq!(run_in(dir, line).code, 0);
        }
        let certificate = |name: &str| CertificateDer::from_pem_file(dir.join(name)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate("lictor-agent-ca.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = if wants_client {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap();
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(dir.join("dc1-server-lictor-0-key.pem")).unwrap();
        Self(
            config
                .with_single_cert(vec![certificate("dc1-server-lictor-0.pem")], key)
                .unwrap()
                .into(),
        )
    }
}

impl Accept for Tls {
    type Stream = StreamOwned<ServerConnection, TcpStream>;
    fn accept(&self, stream: TcpStream) -> Self::Stream {
        StreamOwned::new(ServerConnection::new(self.0.clone()).unwrap(), stream)
    }
}

#[test]
fn tls_trusts_whom_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start_with(Tls::new(dir.path(), false), |_| (200, KEYS.to_owned()));
    let ca = dir.path().join("lictor-agent-ca.pem");
    let ca = ca.to_str().unwrap();
    let ssl = [("CONSUL_HTTP_SSL", "true")];
    let ca_dir = tempfile::tempdir().unwrap();
    std::fs::copy(ca, ca_dir.path().join("a.pem")).unwrap();
    for (more, variables) in [
        (&["-ca-file", ca][..], &ssl[..]),
        (&["-ca-path", ca_dir.path().to_str().unwrap()], &ssl),
        (&["-ca-file", ca, "-tls-server-name", "server.dc1.lictor"], &ssl),
        (
            &[],
            &[
                ("CONSUL_HTTP_SSL", "1"),
                ("CONSUL_CACERT", ca),
                ("CONSUL_TLS_SERVER_NAME", "localhost"),
            ],
        ),
        (
            &[],
            &[("CONSUL_HTTP_SSL", "1"), ("CONSUL_HTTP_SSL_VERIFY", "false")],
        ),
    ] {
        let ran = keys_of(&fake, more, variables);
        assert_eq!(
            ran,
            Ran {
                code: 0,
                out: "k\n".to_owned(),
                err: String::new()
            },
            "{more:?} {variables:?}"
        );
    }
    assert!(
        fake.seen()
            .iter()
            .all(|seen| seen.header("host") == Some(&fake.address))
    );
    for more in [&[][..], &["-ca-file", ca, "-tls-server-name", "other.example"]] {
        let ran = keys_of(&fake, more, &ssl);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(
            ran.err.starts_with(&format!(
                "Error querying Lictor agent: Get \"https://{}/v1/kv/",
                fake.address
            )),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("certificate"), "{}", ran.err);
    }
}

#[test]
fn tls_shows_our_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start_with(Tls::new(dir.path(), true), |_| (200, KEYS.to_owned()));
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (
        at("lictor-agent-ca.pem"),
        at("dc1-client-lictor-0.pem"),
        at("dc1-client-lictor-0-key.pem"),
    );
    let ssl = [("CONSUL_HTTP_SSL", "true")];
    let ran = keys_of(
        &fake,
        &["-ca-file", &ca, "-client-cert", &certificate, "-client-key", &key],
        &ssl,
    );
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "k\n", ""));
    assert_eq!(keys_of(&fake, &["-ca-file", &ca], &ssl).code, 1);
    let swapped = keys_of(
        &fake,
        &[
            "-ca-file",
            &ca,
            "-client-cert",
            &certificate,
            "-client-key",
            &certificate,
        ],
        &ssl,
    );
    assert_eq!(
        swapped.err,
        format!(
            "Error connecting to Lictor agent: Error loading client key: Couldn't parse PEM in: {certificate}\n"
        )
    );
}
