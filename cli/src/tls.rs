//! `lictor tls`: an authority of one's own, and certificates for agents.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lictor_agent::config::system_error;
use lictor_transport_quic::{CaRequest, CertRequest, MINTED_DOMAIN, PemPair, Role, ca_create, cert_create};

use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(crate) const COMMAND: Command = Command {
    name: "tls",
    summary: "Creates certificate authorities and certificates",
    usage: "<subcommand> <subcommand> [options]",
    about: "
Makes what agents need to trust each other by certificates: an authority,
then one certificate per agent.

    $ lictor tls ca create
    $ lictor tls cert create -server
    $ lictor tls cert create -client

Each agent gets the authority's certificate, its own, and its own key, named
in its configuration under tls.defaults as ca_file, cert_file and key_file.",
    action: Action::Group(
        &[
            Command {
                name: "ca",
                summary: "Helpers for certificate authorities",
                usage: "<subcommand> [options]",
                about: "
Makes the authority whose certificates the agents of a cluster accept.",
                action: Action::Group(&[CA_CREATE], &[]),
            },
            Command {
                name: "cert",
                summary: "Helpers for certificates",
                usage: "<subcommand> [options]",
                about: "
Makes certificates for agents.",
                action: Action::Group(&[CERT_CREATE], &[]),
            },
        ],
        &[],
    ),
};

const CA_CREATE: Command = Command {
    name: "create",
    summary: "Creates a new certificate authority",
    usage: "[options]",
    about: "
Creates a new certificate authority. Existing files are never overwritten.
Keep the key safe: whoever has it can make certificates for any agent.

    $ lictor tls ca create
    ==> Saved lictor-agent-ca.pem
    ==> Saved lictor-agent-ca-key.pem",
    action: Action::Run {
        flags: &[Topic {
            title: "Command Options",
            flags: &[
                Flag {
                    name: "additional-name-constraint",
                    takes: Takes::Text("value"),
                    help: "With -name-constraint: another domain that the authority may sign for. Can be used multiple times.",
                },
                Flag {
                    name: "days",
                    takes: Takes::Int,
                    help: "For how many days from now on the authority is valid. The default value is 1825, five years.",
                },
                Flag {
                    name: "domain",
                    takes: Takes::Text("string"),
                    help: "Domain of the cluster; the files are named after it. The default value is lictor.",
                },
                Flag {
                    name: "name-constraint",
                    takes: Takes::Nothing,
                    help: "The authority may sign for localhost, for names in -domain, and for those of -additional-name-constraint only. This cannot be changed afterwards. The default value is false.",
                },
            ],
        }],
        not_yet: &[],
        run: run_ca_create,
    },
};

const CERT_CREATE: Command = Command {
    name: "create",
    summary: "Creates a new certificate",
    usage: "[options]",
    about: "
Creates a certificate for one agent, signed by the authority in the current
directory or the one given. Existing files are never overwritten: the number
in the name counts up.

    $ lictor tls cert create -server
    ==> Using lictor-agent-ca.pem and lictor-agent-ca-key.pem
    ==> Saved dc1-server-lictor-0.pem
    ==> Saved dc1-server-lictor-0-key.pem

A server's certificate lets its owner take part in consensus and see all that
the cluster stores. Give it to servers only, and store its key as safely as
that of the authority.",
    action: Action::Run {
        flags: &[Topic {
            title: "Command Options",
            flags: &[
                Flag {
                    name: "additional-dnsname",
                    takes: Takes::Text("value"),
                    help: "Another DNS name for the certificate. localhost is always in it. Can be used multiple times.",
                },
                Flag {
                    name: "additional-ipaddress",
                    takes: Takes::Text("value"),
                    help: "Another IP address for the certificate. 127.0.0.1 is always in it. Can be used multiple times.",
                },
                Flag {
                    name: "ca",
                    takes: Takes::Text("path"),
                    help: "The authority's certificate. The default value is <domain>-agent-ca.pem.",
                },
                Flag {
                    name: "client",
                    takes: Takes::Nothing,
                    help: "Make a client agent's certificate.",
                },
                Flag {
                    name: "days",
                    takes: Takes::Int,
                    help: "For how many days from now on the certificate is valid. The default value is 365.",
                },
                Flag {
                    name: "dc",
                    takes: Takes::Text("string"),
                    help: "The agent's datacenter. The default value is dc1.",
                },
                Flag {
                    name: "domain",
                    takes: Takes::Text("string"),
                    help: "Domain of the cluster. The default value is lictor.",
                },
                Flag {
                    name: "key",
                    takes: Takes::Text("path"),
                    help: "The authority's key. The default value is <domain>-agent-ca-key.pem.",
                },
                Flag {
                    name: "node",
                    takes: Takes::Text("string"),
                    help: "With -server: the node's name, for the additional DNS name <node>.server.<dc>.<domain>.",
                },
                Flag {
                    name: "server",
                    takes: Takes::Nothing,
                    help: "Make a server's certificate.",
                },
            ],
        }],
        not_yet: &["cli"],
        run: run_cert_create,
    },
};

fn run_ca_create(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let domain = domain(args)?;
    let request = CaRequest {
        domain: domain.clone(),
        days: days(args, 1825)?,
        name_constraint: args.switch("name-constraint"),
        additional_name_constraints: args.texts("additional-name-constraint"),
    };
    if !request.name_constraint && !request.additional_name_constraints.is_empty() {
        return Err(Failure::new("-additional-name-constraint needs -name-constraint"));
    }
    let (certificate, key) = authority_files(&domain);
    for name in [&certificate, &key] {
        if exists(&console.directory.join(name)) {
            return Err(Failure::new(format!("{name} already exists.")));
        }
    }
    let pair = ca_create(&request).map_err(|error| Failure::new(format!("Error creating CA: {error}")))?;
    save(&pair, &certificate, &key, console)
}

fn run_cert_create(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let role = match (args.switch("server"), args.switch("client")) {
        (true, false) => Role::Server,
        (false, true) => Role::Client,
        (true, true) | (false, false) => {
            return Err(Failure::new("Please provide either -server or -client"));
        }
    };
    let domain = domain(args)?;
    let datacenter = args.text("dc").filter(|name| !name.is_empty()).unwrap_or("dc1");
    let node = args
        .text("node")
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    if node.is_some() && role != Role::Server {
        return Err(Failure::new("-node requires -server"));
    }
    let mut request = CertRequest::new(role, datacenter);
    request.days = days(args, 365)?;
    request.node = node;
    request.additional_dns_names = args.texts("additional-dnsname");
    for text in args.texts("additional-ipaddress") {
        let address = text
            .parse()
            .map_err(|_| Failure::new(format!("-additional-ipaddress: {text:?} is no IP address")))?;
        request.additional_addresses.push(address);
    }
    let (ca_name, ca_key_name) = authority_files(&domain);
    request.domain = domain;
    let ca_name = args
        .text("ca")
        .filter(|path| !path.is_empty())
        .unwrap_or(&ca_name);
    let ca_key_name = args
        .text("key")
        .filter(|path| !path.is_empty())
        .unwrap_or(&ca_key_name);
    let read = |what: &str, name: &str| {
        fs::read_to_string(console.directory.join(name)).map_err(|error| {
            Failure::new(format!(
                "Error reading {what}: open {name}: {}",
                system_error(&error)
            ))
        })
    };
    let ca = read("CA", ca_name)?;
    let ca_key = read("CA key", ca_key_name)?;
    let pair = cert_create(&ca, &ca_key, &request)
        .map_err(|error| Failure::new(format!("Error creating certificate: {error}")))?;
    let (certificate, key) = free_names(&request, console.directory)?;
    if role == Role::Server {
        console.line(
            "==> WARNING: A server's certificate lets its owner take part in consensus\n    \
             and see everything that the cluster stores. Give it to servers only, and\n    \
             store its key as safely as that of the authority.",
        )?;
    }
    console.line(format_args!("==> Using {ca_name} and {ca_key_name}"))?;
    save(&pair, &certificate, &key, console)
}

/// The domain: part of file names, so only characters of DNS names. The default is the one that agents accept without
/// being told.
fn domain(args: &Args) -> Result<String, Failure> {
    let domain = args
        .text("domain")
        .filter(|domain| !domain.is_empty())
        .unwrap_or(MINTED_DOMAIN);
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if domain.starts_with('.') || !domain.bytes().all(valid) {
        return Err(Failure::new(format!("-domain: {domain:?} is no domain name")));
    }
    Ok(domain.to_owned())
}

fn days(args: &Args, default: u32) -> Result<u32, Failure> {
    args.int("days").map_or(Ok(default), |days| {
        u32::try_from(days)
            .map_err(|_| Failure::new(format!("-days cannot be {days}. Must be greater than zero")))
    })
}

fn authority_files(domain: &str) -> (String, String) {
    (
        format!("{domain}-agent-ca.pem"),
        format!("{domain}-agent-ca-key.pem"),
    )
}

/// The first pair of names of its kind that is not taken.
fn free_names(request: &CertRequest, directory: &Path) -> Result<(String, String), Failure> {
    const MOST: u32 = 10_000;
    let stem = format!(
        "{}-{}-{}",
        request.datacenter,
        request.role.as_str(),
        request.domain
    );
    (0..MOST)
        .map(|number| (format!("{stem}-{number}.pem"), format!("{stem}-{number}-key.pem")))
        .find(|(certificate, key)| !exists(&directory.join(certificate)) && !exists(&directory.join(key)))
        .ok_or_else(|| Failure::new(format!("{stem}-*.pem: {MOST} certificates already exist.")))
}

/// Whether the name is taken, be it by a dangling link.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Writes both, the key first: a certificate without its key would only mislead.
fn save(pair: &PemPair, certificate: &str, key: &str, console: &mut Console<'_>) -> Result<(), Failure> {
    let write = |name: &str, mode: u32, content: &str| {
        write_new(&console.directory.join(name), mode, content)
            .map_err(|error| Failure::new(format!("Error writing {name}: {}", system_error(&error))))
    };
    write(key, 0o600, &pair.key)?;
    write(certificate, 0o644, &pair.certificate)?;
    console.line(format_args!("==> Saved {certificate}"))?;
    console.line(format_args!("==> Saved {key}"))
}

fn write_new(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::console::testing::{Ran, run_in};

    fn mode(path: &std::path::Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_authority_signs_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let run = |line: &[&str]| run_in(dir.path(), line);
        let at = |name: &str| dir.path().join(name);

        let missing = run(&["tls", "cert", "create", "-server"]);
        assert_eq!(
            missing.err,
            "Error reading CA: open lictor-agent-ca.pem: no such file or directory\n"
        );
        assert_eq!(missing.code, 1);

        let Ran { code, out, err } = run(&["tls", "ca", "create"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(
            out,
            "==> Saved lictor-agent-ca.pem\n==> Saved lictor-agent-ca-key.pem\n"
        );
        assert_eq!(mode(&at("lictor-agent-ca-key.pem")), 0o600);
        let before = std::fs::read(at("lictor-agent-ca.pem")).unwrap();
        let again = run(&["tls", "ca", "create"]);
        assert_eq!(
            (again.code, again.err.as_str()),
            (1, "lictor-agent-ca.pem already exists.\n")
        );
        assert_eq!(std::fs::read(at("lictor-agent-ca.pem")).unwrap(), before);

        for number in 0..2 {
            let server = run(&[
                "tls",
                "cert",
                "create",
                "-server",
                "-additional-ipaddress",
                "10.0.0.1",
                "-node=n",
            ]);
            assert_eq!((server.code, server.err.as_str()), (0, ""));
            assert!(server.out.starts_with("==> WARNING: "));
            let saved = format!(
                "==> Using lictor-agent-ca.pem and lictor-agent-ca-key.pem\n==> Saved dc1-server-lictor-{number}.pem\n==> Saved dc1-server-lictor-{number}-key.pem\n"
            );
            assert!(server.out.ends_with(&saved), "{}", server.out);
            assert_eq!(mode(&at(&format!("dc1-server-lictor-{number}-key.pem"))), 0o600);
        }
        let client = run(&["tls", "cert", "create", "-client", "-dc", "eu"]);
        assert!(
            client
                .out
                .ends_with("==> Saved eu-client-lictor-0.pem\n==> Saved eu-client-lictor-0-key.pem\n"),
            "{client:?}"
        );
        let certificate = std::fs::read_to_string(at("eu-client-lictor-0.pem")).unwrap();
        assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn other_domains_have_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let run = |line: &[&str]| run_in(dir.path(), line);
        let authority = run(&[
            "tls",
            "ca",
            "create",
            "-domain",
            "example.org",
            "-name-constraint",
        ]);
        assert_eq!(
            authority.out,
            "==> Saved example.org-agent-ca.pem\n==> Saved example.org-agent-ca-key.pem\n"
        );
        let client = run(&["tls", "cert", "create", "-client", "-domain", "example.org"]);
        assert!(
            client
                .out
                .ends_with("==> Saved dc1-client-example.org-0-key.pem\n"),
            "{client:?}"
        );
        let named = run(&[
            "tls",
            "cert",
            "create",
            "-client",
            "-ca",
            "example.org-agent-ca.pem",
            "-key",
            "example.org-agent-ca-key.pem",
            "-domain=example.org",
        ]);
        assert!(
            named
                .out
                .ends_with("==> Saved dc1-client-example.org-1-key.pem\n"),
            "{named:?}"
        );
    }

    #[test]
    fn misuse() {
        let dir = tempfile::tempdir().unwrap();
        for (line, message) in [
            (
                &["tls", "cert", "create"][..],
                "Please provide either -server or -client\n",
            ),
            (
                &["tls", "cert", "create", "-server", "-client"],
                "Please provide either -server or -client\n",
            ),
            (
                &["tls", "cert", "create", "-client", "-node", "n"],
                "-node requires -server\n",
            ),
            (
                &["tls", "cert", "create", "-client", "-additional-ipaddress=x"],
                "-additional-ipaddress: \"x\" is no IP address\n",
            ),
            (
                &["tls", "ca", "create", "-days=-1"],
                "-days cannot be -1. Must be greater than zero\n",
            ),
            (
                &["tls", "ca", "create", "-domain=../x"],
                "-domain: \"../x\" is no domain name\n",
            ),
            (
                &["tls", "ca", "create", "-additional-name-constraint=x"],
                "-additional-name-constraint needs -name-constraint\n",
            ),
        ] {
            let ran = run_in(dir.path(), line);
            assert_eq!(
                (ran.code, ran.out.as_str(), ran.err.as_str()),
                (1, "", message),
                "{line:?}"
            );
        }
        assert!(
            run_in(dir.path(), &["tls", "ca", "create", "-days=0"])
                .err
                .starts_with("Error creating CA: ")
        );
        assert!(
            run_in(dir.path(), &["tls", "cert", "create", "-cli"])
                .err
                .starts_with("flag -cli is not supported yet\n")
        );
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}
