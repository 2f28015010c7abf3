//! Registrations as clients write them.

use std::sync::Arc;

use lictor_catalog::{
    CheckDef, CheckDefinition, Labels, ServiceAddress, ServiceDef, Status, Tags, Text, Weights, quote,
};
use serde_json::Value;

use crate::decode::{Fields, items};
use crate::proxy::{Proxy, port};

/// Members of services and checks that newer clients know, and that mean nothing here.
const LATER: [&str; 9] = [
    "Namespace",
    "Partition",
    "PeerName",
    "Locality",
    "SocketPath",
    "Datacenter",
    "ExposedPort",
    "CreateIndex",
    "ModifyIndex",
];

/// Labels out of the members of an object.
pub(crate) fn labels(pairs: Vec<(String, String)>) -> Labels {
    pairs
        .into_iter()
        .map(|(name, value)| (name, Text::from(value)))
        .collect()
}

/// Tags out of a list.
pub(crate) fn tags(texts: Vec<String>) -> Tags {
    texts.into_iter().map(Text::from).collect()
}

/// An instance of a service. The error is a text for the client.
pub(super) fn service(mut fields: Fields) -> Result<ServiceDef, String> {
    let kind = fields.string("Kind", "structs.ServiceKind")?;
    let mut connect = fields.object("Connect", "ServiceConnect")?;
    let native = match &mut connect {
        Some(fields) => fields.bool("Native")?,
        None => false,
    };
    if let Some(mut fields) = connect {
        fields.ignore(&["SidecarService", "PeerMeta"]);
        fields.finish()?;
    }
    let proxy = fields.object("Proxy", "ConnectProxyConfig")?;
    let proxy = proxy.map(Proxy::new).transpose()?.unwrap_or_default();
    let weights = match fields.object("Weights", "Weights")? {
        Some(mut weights) => {
            let (passing, warning) = (weights.int("Passing")?, weights.int("Warning")?);
            weights.finish()?;
            usable_weights(passing, warning)
        }
        None => Weights::default(),
    };
    let def = ServiceDef {
        id: fields.string("ID", "string")?.into(),
        name: fields.string("Service", "string")?.into(),
        kind: kind.into(),
        tags: tags(fields.strings("Tags")?),
        address: fields.string("Address", "string")?.into(),
        port: port(fields.int("Port")?)?,
        tagged_addresses: addresses(&mut fields)?,
        meta: labels(fields.string_map("Meta")?),
        weights,
        enable_tag_override: fields.bool("EnableTagOverride")?,
        connect: proxy.into_def(native),
    };
    fields.ignore(&LATER);
    fields.finish()?;
    Ok(def)
}

/// What makes no sense is as if it had not been said.
pub(crate) fn usable_weights(passing: i64, warning: i64) -> Weights {
    let both = u16::try_from(passing).ok().zip(u16::try_from(warning).ok());
    match both {
        Some((passing, warning)) if passing > 0 => Weights { passing, warning },
        Some(_) | None => Weights::default(),
    }
}

/// Further addresses of an instance, by name.
pub(crate) fn addresses(fields: &mut Fields) -> Result<Labels<ServiceAddress>, String> {
    let members = fields.members("TaggedAddresses", "map[string]structs.ServiceAddress")?;
    let place = fields.place("TaggedAddresses", "structs.ServiceAddress");
    let addresses = members.into_iter().map(|(name, value)| {
        let mut fields = Fields::new(value, "ServiceAddress", &place)?;
        let address = fields.string("Address", "string")?.into();
        let port = port(fields.int("Port")?)?;
        fields.finish()?;
        Ok((name, ServiceAddress { address, port }))
    });
    addresses.collect()
}

/// A check of the node `node`. The error is a text for the client.
pub(super) fn check(mut fields: Fields, node: &str) -> Result<CheckDef, CheckError> {
    let of = fields.string("Node", "string")?;
    let kind = fields.string("Type", "string")?;
    let status = fields.string("Status", "string")?;
    let definition = fields
        .object("Definition", "HealthCheckDefinition")?
        .map(definition)
        .transpose()?;
    let def = CheckDef {
        id: fields.string("CheckID", "types.CheckID")?.into(),
        name: fields.string("Name", "string")?.into(),
        status: Status::default(),
        notes: fields.string("Notes", "string")?.into(),
        output: fields.string("Output", "string")?.into(),
        service_id: fields.string("ServiceID", "string")?.into(),
        kind: kind_of(kind, definition.as_ref()).into(),
        definition: definition
            .filter(|definition| *definition != CheckDefinition::default())
            .map(Arc::new),
    };
    // These come from the instance.
    fields.ignore(&["ServiceName", "ServiceTags", "Interval", "Timeout"]);
    fields.ignore(&LATER);
    fields.finish()?;
    if !of.is_empty() && of != node {
        return Err(CheckError::Refused(format!(
            "check node {} does not match node {}",
            quote(of.as_bytes()),
            quote(node.as_bytes())
        )));
    }
    if status.is_empty() {
        return Ok(def);
    }
    match status.parse() {
        Ok(status) => Ok(CheckDef { status, ..def }),
        Err(why) => Err(CheckError::Refused(format!(
            "invalid check status {}: {why}",
            quote(status.as_bytes())
        ))),
    }
}

/// What is wrong with a check.
pub(super) enum CheckError {
    /// It cannot be read.
    Malformed(String),
    /// It makes no sense.
    Refused(String),
}

impl From<String> for CheckError {
    fn from(text: String) -> Self {
        Self::Malformed(text)
    }
}

fn kind_of(said: String, definition: Option<&CheckDefinition>) -> String {
    match definition {
        Some(definition) if said.is_empty() && !definition.http.is_empty() => "http".to_owned(),
        Some(definition) if said.is_empty() && !definition.tcp.is_empty() => "tcp".to_owned(),
        Some(_) | None => said,
    }
}

/// How a check is done.
pub(crate) fn definition(mut fields: Fields) -> Result<CheckDefinition, String> {
    let headers = fields.members("Header", "map[string][]string")?;
    let header = headers.into_iter().map(|(name, values)| {
        let values = items(values, "[]string")?;
        let values = values.into_iter().map(|value| match value {
            Value::String(text) => Ok(Text::from(text)),
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(format!("a header of the check is {other}, and must be a text"))
            }
        });
        Ok((name, values.collect::<Result<Tags, String>>()?))
    });
    let definition = CheckDefinition {
        header: header.collect::<Result<_, String>>()?,
        http: fields.string("HTTP", "string")?.into(),
        method: fields.string("Method", "string")?.into(),
        body: fields.string("Body", "string")?.into(),
        tls_skip_verify: fields.bool("TLSSkipVerify")?,
        tcp: fields.string("TCP", "string")?.into(),
        interval: fields.duration("Interval")?,
        timeout: fields.duration("Timeout")?,
        deregister_after: fields.duration("DeregisterCriticalServiceAfter")?,
    };
    fields.ignore(&[
        "OutputMaxSize",
        "ScriptArgs",
        "DockerContainerID",
        "Shell",
        "H2PING",
        "H2PingUseTLS",
        "TCPUseTLS",
        "UDP",
        "GRPC",
        "OSService",
        "GRPCUseTLS",
        "AliasNode",
        "AliasService",
        "TTL",
        "TLSServerName",
        "DisableRedirects",
        "IntervalDuration",
        "TimeoutDuration",
        "DeregisterCriticalServiceAfterDuration",
    ]);
    fields.finish()?;
    Ok(definition)
}
