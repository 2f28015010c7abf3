//! `/v1/catalog/register` and `/v1/catalog/deregister`.

use lictor_catalog::{Action, Deregistration, NodeDef, Outcome, Registration, Removal};
use lictor_machine::NodeId;

use super::decode::{self, CheckError};
use crate::backend::WriteOptions;
use crate::decode::{Fields, items, parse};
use crate::kv::unexpected;
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// Adds a node, a service and checks, or changes them.
pub(crate) async fn register(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let body = request.large_body().await?;
    let mut fields = fields(&body, "RegisterRequest")?;
    let options = options(request, &mut fields)?;
    let registration = registration(fields)?;
    change(request, Action::Register(Box::new(registration)), options).await
}

/// Removes a node, a service or a check.
pub(crate) async fn deregister(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let body = request.large_body().await?;
    let mut fields = fields(&body, "DeregisterRequest")?;
    let options = options(request, &mut fields)?;
    let (node, service, check) = (|| {
        let node = fields.string("Node", "string")?;
        let service = fields.string("ServiceID", "string")?;
        let check = fields.string("CheckID", "types.CheckID")?;
        fields.ignore(&["Address", "Namespace", "Partition", "PeerName"]);
        fields.finish()?;
        Ok((node, service, check))
    })()
    .map_err(malformed)?;
    if node.is_empty() {
        return Err(Fault::internal("Must provide node"));
    }
    let what = if !service.is_empty() {
        Removal::Service(service.into())
    } else if !check.is_empty() {
        Removal::Check(check.into())
    } else {
        Removal::Node
    };
    let node = node.into();
    change(
        request,
        Action::Deregister(Deregistration { node, what }),
        options,
    )
    .await
}

async fn change(request: &Request<'_>, action: Action, options: WriteOptions) -> Result<Reply, Fault> {
    match request.write(action, options).await? {
        Outcome::Done(_) => Ok(request.json(&true, 5)),
        Outcome::Refused(why) => Err(Fault::internal(why)),
        Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_) => Err(unexpected()),
    }
}

fn malformed(why: String) -> Fault {
    Fault::bad_request(format!("Request decode failed: {why}"))
}

fn fields(body: &[u8], path: &'static str) -> Result<Fields, Fault> {
    let place = format!("value of type structs.{path}");
    parse(body)
        .and_then(|value| Fields::new(value, path, &place))
        .map_err(malformed)
}

/// Only the body says which data center is meant.
fn options(request: &Request<'_>, fields: &mut Fields) -> Result<WriteOptions, Fault> {
    let datacenter = fields.string("Datacenter", "string").map_err(malformed)?;
    fields.ignore(&["Token", "WriteRequest"]);
    Ok(WriteOptions {
        datacenter: Some(datacenter).filter(|name| !name.is_empty()),
        ..request.params.lenient_write_options(request.headers())
    })
}

fn registration(mut fields: Fields) -> Result<Registration, Fault> {
    let mut read = || {
        let id = fields.string("ID", "types.NodeID")?;
        let node = NodeDef {
            id: None,
            name: fields.string("Node", "string")?.into(),
            address: fields.string("Address", "string")?.into(),
            tagged_addresses: decode::labels(fields.string_map("TaggedAddresses")?),
            meta: decode::labels(fields.string_map("NodeMeta")?),
        };
        let skip_node_update = fields.bool("SkipNodeUpdate")?;
        let service = fields.object("Service", "NodeService")?;
        let service = service.map(decode::service).transpose()?;
        let one = fields.object("Check", "HealthCheck")?;
        let several = items(fields.take("Checks").unwrap_or_default(), "structs.HealthChecks")?;
        let place = "value of type structs.HealthCheck";
        let several = several.into_iter().filter(|check| !check.is_null());
        let several = several.map(|check| Fields::new(check, "HealthCheck", place));
        let checks: Vec<Fields> = one
            .into_iter()
            .map(Ok)
            .chain(several)
            .collect::<Result<_, String>>()?;
        Ok((id, node, skip_node_update, service, checks))
    };
    let (id, mut node, skip_node_update, service, checks) = read().map_err(malformed)?;
    fields.ignore(&["Namespace", "Partition", "PeerName", "Locality"]);
    fields.finish().map_err(malformed)?;
    let mut checks = checks.into_iter();
    let checks = checks.try_fold(Vec::new(), |mut checks, fields| {
        checks.push(decode::check(fields, &node.name)?);
        Ok(checks)
    });
    // What cannot be read at all comes before what makes no sense, and of that the node first.
    let refused = match &checks {
        Err(CheckError::Malformed(why)) => return Err(malformed(why.clone())),
        Err(CheckError::Refused(why)) => Some(why.clone()),
        Ok(_) => None,
    };
    if node.name.is_empty() {
        return Err(Fault::internal("Must provide node"));
    }
    if node.address.is_empty() && !skip_node_update {
        return Err(Fault::internal(
            "Must provide address if SkipNodeUpdate is not set",
        ));
    }
    node.id = node_id(&id).map_err(|why| Fault::internal(format!("Bad node ID: {why}")))?;
    if let Some(why) = refused {
        return Err(Fault::internal(why));
    }
    Ok(Registration {
        node,
        skip_node_update,
        service,
        checks: checks.unwrap_or_default(),
    })
}

/// A node's id as text; empty is none.
pub(crate) fn node_id(text: &str) -> Result<Option<NodeId>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() != 36 {
        return Err("uuid string is wrong length");
    }
    let id = text.parse().map_err(|_| "uuid is improperly formatted")?;
    Ok(Some(id))
}
