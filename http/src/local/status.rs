//! What clients say of how well something is: updates of checks, maintenance mode. And reading the configuration again.

use lictor_catalog::{Status, Text};
use lictor_local::Request as Change;

use super::{body, change, malformed};
use crate::filter::parse_bool;
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// A check passes.
pub(crate) async fn pass(request: &Request<'_>) -> Result<Reply, Fault> {
    told(request, Status::Passing).await
}

/// A check warns.
pub(crate) async fn warn(request: &Request<'_>) -> Result<Reply, Fault> {
    told(request, Status::Warning).await
}

/// A check fails.
pub(crate) async fn fail(request: &Request<'_>) -> Result<Reply, Fault> {
    told(request, Status::Critical).await
}

async fn told(request: &Request<'_>, status: Status) -> Result<Reply, Fault> {
    let note = request.params.text("note").unwrap_or_default().into_owned();
    tell(request, status, note).await
}

/// A check is as the body says.
pub(crate) async fn update(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let mut fields = body(request, "checkUpdate", "agent.checkUpdate").await?;
    let mut read = || {
        let status = fields.string("Status", "string")?;
        Ok((status, fields.string("Output", "string")?))
    };
    let (status, output) = read().map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    let Ok(status) = status.parse() else {
        return Err(Fault::bad_request(format!("Invalid check status: '{status}'")));
    };
    tell(request, status, output).await
}

async fn tell(request: &Request<'_>, status: Status, output: String) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let update = Change::UpdateTtl {
        check: request.rest_text().into(),
        status,
        output,
    };
    change(request, update).await?;
    Ok(Reply::empty())
}

/// Begins or ends maintenance of the node.
pub(crate) async fn maintenance(request: &Request<'_>) -> Result<Reply, Fault> {
    maintain(request, None).await
}

/// Begins or ends maintenance of a service.
pub(crate) async fn service_maintenance(request: &Request<'_>) -> Result<Reply, Fault> {
    if request.rest.is_empty() {
        return Err(Fault::bad_request("Missing service ID"));
    }
    maintain(request, Some(request.rest_text().into())).await
}

async fn maintain(request: &Request<'_>, service: Option<Text>) -> Result<Reply, Fault> {
    let Some(enable) = request.params.get("enable") else {
        return Err(Fault::bad_request("Missing value for enable"));
    };
    let enable = String::from_utf8_lossy(enable);
    let Ok(enable) = parse_bool(&enable) else {
        let enable = lictor_catalog::quote(enable.as_bytes());
        return Err(Fault::bad_request(format!("Invalid value for enable: {enable}")));
    };
    request.params.no_namespace(request.headers())?;
    let reason = request.params.text("reason").unwrap_or_default();
    let maintain = Change::Maintain {
        service,
        enable,
        reason: reason.into(),
    };
    change(request, maintain).await?;
    Ok(Reply::empty())
}

/// Reads the configuration's files again.
pub(crate) async fn reload(request: &Request<'_>) -> Result<Reply, Fault> {
    request.api.agent.reload().await?;
    Ok(Reply::empty())
}
