//! What an agent says on its standard output when it starts.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use lictor_machine::NodeId;

use crate::config::{Bootstrap, Config, Trust};

/// Says who starts, where it can be reached, and whom it trusts.
pub(crate) fn starting(
    config: &Config,
    id: NodeId,
    http: &[SocketAddr],
    dns: &[SocketAddr],
) -> io::Result<()> {
    let listed = |addresses: &[SocketAddr]| {
        if addresses.is_empty() {
            return "off".to_owned();
        }
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(", ")
    };
    let (http, dns) = (listed(http), listed(dns));
    let server = match config.bootstrap {
        _ if !config.server => "false".to_owned(),
        Bootstrap::Join => "true (joins a cluster)".to_owned(),
        Bootstrap::Alone => "true (founds a cluster alone)".to_owned(),
        Bootstrap::Expect(servers) => format!("true (founds a cluster of {servers})"),
    };
    let trust = match &config.trust {
        Trust::User => "this user's own authority",
        Trust::Shared(_) => "a shared key",
        Trust::Files { .. } => "certificate files",
    };
    say(&format!(
        "==> Starting Lictor agent...\n           Version: '{}'\n           Node ID: '{id}'\n         Node name: '{}'\n        Datacenter: '{}'\n            \
         Server: {server}\n       Client Addr: HTTP: {http}; DNS: {dns}\n      Cluster Addr: {} (QUIC; others reach it at {})\n           Encrypt: mutual TLS 1.3, trusting {trust}\n\n==> \
         Log data will now stream in as it occurs:\n\n",
        env!("CARGO_PKG_VERSION"),
        config.node_name,
        config.datacenter,
        config.bind,
        config.advertise,
    ))
}

/// Says that the agent runs. Scripts wait for that.
pub(crate) fn running() -> io::Result<()> {
    say("\n==> Lictor agent running!\n")
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
