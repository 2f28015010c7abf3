//! Services and checks come and go.

use lictor_catalog::{ServiceDef, quote};
use lictor_local::Request as Change;

use super::check::Written as WrittenCheck;
use super::definition::Written;
use super::{body, change, malformed, sidecar};
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// The longest name that DNS can carry, in bytes.
const MAX_DNS_LABEL: usize = 63;

/// Registers a service with its checks, and maybe with a proxy beside it.
pub(crate) async fn register_service(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let replace_checks = matches!(request.params.get("replace-existing-checks"), Some(b"" | b"true"));
    let fields = body(request, "", "structs.ServiceDefinition").await?;
    let mut service = Written::new(fields).map_err(malformed)?;
    service.check().map_err(Fault::bad_request)?;
    service
        .check_checks()
        .map_err(|why| Fault::bad_request(format!("Invalid check: {why}")))?;
    // Two sidecars at the same time would get the same port.
    let _one_by_one = match service.sidecar {
        Some(_) => Some(request.api.sidecars.lock().await),
        None => None,
    };
    let running = request.api.agent.running();
    let sidecar = service.sidecar.take();
    let sidecar = sidecar
        .map(|sidecar| sidecar::complete(&service, *sidecar, &running))
        .transpose()
        .map_err(|why| Fault::internal(format!("Bad request: {why}")))?;
    for written in [Some(service), sidecar].into_iter().flatten() {
        let spec = written.into_spec().map_err(Fault::bad_request)?;
        warn_about_names(&spec.def);
        let register = Change::RegisterService {
            spec: Box::new(spec),
            replace_checks,
        };
        change(request, register).await?;
    }
    Ok(Reply::empty())
}

/// Removes a service with its checks, and the proxy beside it.
pub(crate) async fn deregister_service(request: &Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    if request.rest.is_empty() {
        return Err(Fault::internal("ServiceID missing"));
    }
    let id = request.rest_text();
    let running = request.api.agent.running();
    let service = running.service(&id);
    if service.is_none() {
        tracing::warn!(
            service = id,
            "a service that does not run here was to be deregistered"
        );
    }
    change(request, Change::DeregisterService(id.into())).await?;
    if let Some(sidecar) = service.and_then(|service| sidecar::beside(service, &running)) {
        change(request, Change::DeregisterService(sidecar.def.id.clone())).await?;
    }
    Ok(Reply::empty())
}

/// Registers a check.
pub(crate) async fn register_check(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let fields = body(request, "", "structs.CheckDefinition").await?;
    let check = WrittenCheck::alone(fields).map_err(malformed)?;
    if check.name.is_empty() {
        return Err(Fault::bad_request("Missing check name"));
    }
    let status = check
        .first_status()
        .map_err(|_| Fault::bad_request("Bad check status"))?;
    check
        .check()
        .map_err(|why| Fault::bad_request(format!("Invalid check: {why}")))?;
    // The agent looks for itself, but may say first that it runs no programs.
    if !check.service_id.is_empty() && request.api.agent.running().service(&check.service_id).is_none() {
        let id = quote(check.service_id.as_bytes());
        return Err(Fault::internal(format!("ServiceID {id} does not exist")));
    }
    let spec = Box::new(check.into_spec(status));
    change(request, Change::RegisterCheck(spec)).await?;
    Ok(Reply::empty())
}

/// Removes a check.
pub(crate) async fn deregister_check(request: &Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    if request.rest.is_empty() {
        return Err(Fault::internal("CheckID missing"));
    }
    change(request, Change::DeregisterCheck(request.rest_text().into())).await?;
    Ok(Reply::empty())
}

/// Says so if a service cannot be found by DNS.
fn warn_about_names(def: &ServiceDef) {
    if !is_dns_label(&def.name) {
        tracing::warn!(
            service = &*def.name,
            "this service cannot be found by DNS: its name must be of 1 to 63 letters, digits and dashes"
        );
    }
    for tag in def.tags.iter().filter(|tag| !is_dns_label(tag)) {
        tracing::debug!(
            service = &*def.name,
            tag = &**tag,
            "this service cannot be found by DNS by this tag, which must be of 1 to 63 letters, digits and dashes"
        );
    }
}

fn is_dns_label(name: &str) -> bool {
    (1..=MAX_DNS_LABEL).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::is_dns_label;

    #[test]
    fn names_that_dns_can_carry() {
        for good in ["web", "Web-2", "-", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "a b", "a.b", "a_b", "\u{e9}", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }
}
