//! Proxies that run beside a service and are registered with it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use lictor_catalog::ServiceDef;
use lictor_local::{LocalService, LocalView};
use serde_json::Value;

use super::check::Written as WrittenCheck;
use super::definition::Written;

/// The ports that sidecars get which do not say what they want.
const PORTS: RangeInclusive<u16> = 21_000..=21_255;

/// How often the sidecar's own check connects to it.
const LISTENING_INTERVAL: Duration = Duration::from_secs(10);

/// The sidecar of `service` as it is to be registered: what it does not say follows from the service, and from what runs here. The error
/// is a text for the client.
pub(super) fn complete(service: &Written, sidecar: Written, running: &LocalView) -> Result<Written, String> {
    let mut sidecar = sidecar;
    sidecar
        .check_checks()
        .map_err(|why| format!("Invalid check in sidecar_service: {why}"))?;
    let service_id = or(&service.id, &service.name);
    let id = id_of(&service_id);
    sidecar.name = or(&sidecar.name, &format!("{}-sidecar-proxy", service.name));
    sidecar.kind = or(&sidecar.kind, ServiceDef::CONNECT_PROXY);
    sidecar.token = or(&sidecar.token, &service.token);
    sidecar.address = or(&sidecar.address, &service.address);
    if sidecar.tags.is_empty() {
        sidecar.tags.clone_from(&service.tags);
    }
    if sidecar.meta.is_empty() {
        sidecar.meta.clone_from(&service.meta);
    }
    sidecar
        .check_meta()
        .map_err(|why| format!("Invalid SidecarService: {why}"))?;
    let proxy = &mut sidecar.proxy;
    proxy.destination = or(&proxy.destination, &service.name);
    proxy.destination_id = or(&proxy.destination_id, &service_id);
    proxy.local_address = or(&proxy.local_address, "127.0.0.1");
    if proxy.local_port == 0 {
        proxy.local_port = service.port;
    }
    if sidecar.port == 0 {
        sidecar.port = free_port(&id, running).ok_or_else(|| {
            format!(
                "Invalid SidecarService: no port provided for sidecar_service and none left in the configured range [{}, {}]",
                PORTS.start(),
                PORTS.end()
            )
        })?;
    }
    if sidecar.checks.is_empty() {
        sidecar.checks = vec![
            WrittenCheck::tcp(
                "Connect Sidecar Listening".to_owned(),
                format!("127.0.0.1:{}", sidecar.port),
                LISTENING_INTERVAL,
            ),
            WrittenCheck::alias(format!("Connect Sidecar Aliasing {service_id}"), service_id),
        ];
    }
    sidecar.id = id;
    Ok(sidecar)
}

/// The sidecar that runs here beside a service and goes with it.
pub(super) fn beside<'a>(service: &LocalService, running: &'a LocalView) -> Option<&'a LocalService> {
    let sidecar = running.service(&id_of(&service.def.id))?;
    let described = &sidecar.def.connect.as_ref()?.proxy;
    let described: Value = serde_json::from_str(described).ok()?;
    (described["DestinationServiceID"] == *service.def.id).then_some(sidecar)
}

fn id_of(service: &str) -> String {
    format!("{service}-sidecar-proxy")
}

/// What was said, or else something else.
fn or(said: &str, otherwise: &str) -> String {
    if said.is_empty() { otherwise } else { said }.to_owned()
}

/// The lowest port that no other service has; the one that the sidecar has already, if it got that here.
fn free_port(id: &str, running: &LocalView) -> Option<u16> {
    if let Some(here) = running.service(id).filter(|here| PORTS.contains(&here.def.port)) {
        return Some(here.def.port);
    }
    let taken: BTreeSet<u16> = running
        .services
        .iter()
        .map(|(_, service)| service.def.port)
        .collect();
    PORTS.into_iter().find(|port| !taken.contains(port))
}
