//! What makes sense for services that are proxies, or have one beside them, so that whoever runs the proxies can rely on it.

use std::collections::BTreeSet;

use lictor_catalog::{ServiceDef, quote};

use super::definition::Written;
use super::views::GATEWAYS;
use crate::proxy::{ExposedPath, Upstream};
use crate::text::errors;

/// Whether a service makes sense in the mesh. The error says all that does not, as a text for the client.
pub(super) fn check(service: &Written) -> Result<(), String> {
    let mut wrong = Vec::new();
    if service.kind == ServiceDef::CONNECT_PROXY {
        proxy(service, &mut wrong);
    } else if GATEWAYS.contains(&&service.kind[..]) {
        gateway(service, &mut wrong);
    }
    if let Some(sidecar) = &service.sidecar {
        if !sidecar.id.is_empty() {
            wrong.push("A SidecarService cannot specify an ID as this is managed by the agent".to_owned());
        }
        if sidecar.sidecar.is_some() {
            wrong.push("A SidecarService cannot have a nested SidecarService".to_owned());
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(errors(&wrong))
    }
}

fn proxy(service: &Written, wrong: &mut Vec<String>) {
    let mut rule = |holds: bool, text: &str| {
        if !holds {
            wrong.push(text.to_owned());
        }
    };
    rule(
        !service.proxy.destination.trim().is_empty(),
        "Proxy.DestinationServiceName must be non-empty for Connect proxy services",
    );
    rule(service.port != 0, "Port must be set for a Connect proxy");
    rule(
        !service.native,
        "A Proxy cannot also be Connect Native, only typical services",
    );
    upstreams(&service.proxy.upstreams, wrong);
    exposed(&service.proxy.exposed, wrong);
}

fn upstreams(upstreams: &[Upstream], wrong: &mut Vec<String>) {
    let mut services = BTreeSet::new();
    let mut places = BTreeSet::new();
    for upstream in upstreams {
        let Upstream {
            kind,
            namespace,
            name,
            datacenter,
            bind_port,
            ..
        } = upstream;
        let bind_address = match &upstream.bind_address[..] {
            "" => "127.0.0.1",
            given => given,
        };
        if !matches!(&kind[..], "service" | "prepared_query") {
            let kind = quote(kind.as_bytes());
            wrong.push(format!("unknown upstream destination type: {kind}"));
        } else if name.is_empty() {
            wrong.push("upstream destination name cannot be empty".to_owned());
        } else if *bind_port == 0 {
            wrong.push("upstream local bind port cannot be zero".to_owned());
        } else if !services.insert((kind, namespace, name, datacenter)) {
            let [kind, name, namespace, datacenter] =
                [kind, name, namespace, datacenter].map(|text| quote(text.as_bytes()));
            wrong.push(format!(
                "upstreams cannot contain duplicates of [type={kind}, name={name}, namespace={namespace}, datacenter={datacenter}]"
            ));
        } else if !places.insert((bind_address, bind_port)) {
            wrong.push(format!(
                "upstreams cannot contain duplicates by local bind address and port; \"{bind_address}:{bind_port}\" is specified twice"
            ));
        }
    }
}

fn exposed(exposed: &[ExposedPath], wrong: &mut Vec<String>) {
    let mut paths = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for one in exposed {
        if one.path.is_empty() {
            wrong.push("expose.paths: empty path exposed".to_owned());
        }
        if !paths.insert(&one.path) {
            wrong.push("expose.paths: duplicate paths exposed".to_owned());
        }
        if !ports.insert(one.listener_port) {
            wrong.push("expose.paths: duplicate listener ports exposed".to_owned());
        }
        if one.listener_port == 0 {
            wrong.push("expose.paths: invalid listener port: 0".to_owned());
        }
        let protocol = one.protocol.to_lowercase();
        if !matches!(&protocol[..], "" | "http" | "http2") {
            wrong.push(format!(
                "protocol '{protocol}' not supported for path: {}, must be in: [http http2]",
                one.path
            ));
        }
    }
}

fn gateway(service: &Written, wrong: &mut Vec<String>) {
    let (kind, proxy) = (&service.kind, &service.proxy);
    // Those for what comes from outside have a port for each service behind them.
    if service.port == 0 && kind != "ingress-gateway" {
        wrong.push(format!("Port must be non-zero for a {kind}"));
    }
    if service.sidecar.is_some() {
        wrong.push(format!("A {kind} cannot have a sidecar service defined"));
    }
    for (said, what) in [
        (!proxy.destination.is_empty(), "DestinationServiceName"),
        (!proxy.destination_id.is_empty(), "DestinationServiceID"),
        (!proxy.local_address.is_empty(), "LocalServiceAddress"),
        (proxy.local_port != 0, "LocalServicePort"),
        (!proxy.upstreams.is_empty(), "Upstreams"),
    ] {
        if said {
            wrong.push(format!("The Proxy.{what} configuration is invalid for a {kind}"));
        }
    }
}
