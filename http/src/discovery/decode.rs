//! Registrations as clients write them.

use std::sync::Arc;

use lictor_catalog::{
    CheckDef, CheckDefinition, ConnectDef, Labels, ServiceAddress, ServiceDef, Status, Tags, Text, Weights,
    quote,
};
use serde_json::{Map, Value, json};

use crate::decode::{Fields, items};

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
pub(super) fn labels(pairs: Vec<(String, String)>) -> Labels {
    pairs
        .into_iter()
        .map(|(name, value)| (name, Text::from(value)))
        .collect()
}

/// Tags out of a list.
pub(super) fn tags(texts: Vec<String>) -> Tags {
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
    let proxy = fields
        .object("Proxy", "ConnectProxyConfig")?
        .map(proxy)
        .transpose()?;
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
        connect: connect_def(native, proxy),
    };
    fields.ignore(&LATER);
    fields.finish()?;
    Ok(def)
}

/// What makes no sense is as if it had not been said.
fn usable_weights(passing: i64, warning: i64) -> Weights {
    let both = u16::try_from(passing).ok().zip(u16::try_from(warning).ok());
    match both {
        Some((passing, warning)) if passing > 0 => Weights { passing, warning },
        Some(_) | None => Weights::default(),
    }
}

fn port(number: i64) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("a port must be in 0 to 65535, and one is {number}"))
}

fn addresses(fields: &mut Fields) -> Result<Labels<ServiceAddress>, String> {
    let members = fields.members("TaggedAddresses", "map[string]structs.ServiceAddress")?;
    let addresses = members.into_iter().map(|(name, value)| {
        let place = "struct field NodeService.TaggedAddresses of type structs.ServiceAddress";
        let mut fields = Fields::new(value, "ServiceAddress", place)?;
        let address = fields.string("Address", "string")?.into();
        let port = port(fields.int("Port")?)?;
        fields.finish()?;
        Ok((name, ServiceAddress { address, port }))
    });
    addresses.collect()
}

/// The proxy that an instance is: the service that it stands before, and all of it as answers give it.
struct Proxy {
    destination: String,
    described: Option<String>,
}

fn connect_def(native: bool, proxy: Option<Proxy>) -> Option<Arc<ConnectDef>> {
    let Proxy {
        destination,
        described,
    } = proxy.unwrap_or(Proxy {
        destination: String::new(),
        described: None,
    });
    let def = ConnectDef {
        native,
        destination: destination.into(),
        proxy: described.unwrap_or_default().into(),
    };
    (def != ConnectDef::default()).then(|| Arc::new(def))
}

fn proxy(mut fields: Fields) -> Result<Proxy, String> {
    let mut out = Map::new();
    let destination = fields.string("DestinationServiceName", "string")?;
    put_text(&mut out, "DestinationServiceName", destination.clone());
    put_text(
        &mut out,
        "DestinationServiceID",
        fields.string("DestinationServiceID", "string")?,
    );
    put_text(
        &mut out,
        "LocalServiceAddress",
        fields.string("LocalServiceAddress", "string")?,
    );
    put_number(
        &mut out,
        "LocalServicePort",
        port(fields.int("LocalServicePort")?)?,
    );
    let config = fields.members("Config", "map[string]interface {}")?;
    put_config(&mut out, config);
    let upstreams = items(fields.take("Upstreams").unwrap_or_default(), "structs.Upstreams")?;
    if !upstreams.is_empty() {
        let upstreams: Result<Vec<Value>, String> = upstreams.into_iter().map(upstream).collect();
        out.insert("Upstreams".to_owned(), Value::Array(upstreams?));
    }
    out.insert("MeshGateway".to_owned(), mesh_gateway(&mut fields)?);
    out.insert("Expose".to_owned(), expose(&mut fields)?);
    fields.ignore(&[
        "Mode",
        "TransparentProxy",
        "EnvoyExtensions",
        "LocalServiceSocketPath",
        "AccessLogs",
    ]);
    fields.finish()?;
    // One that says nothing is none.
    let described = (out.len() > 2 || out.values().any(|value| *value != json!({})))
        .then(|| Value::Object(out).to_string());
    Ok(Proxy {
        destination,
        described,
    })
}

fn upstream(value: Value) -> Result<Value, String> {
    let mut fields = Fields::new(value, "Upstream", "value of type structs.Upstream")?;
    let mut out = Map::new();
    for name in [
        "DestinationType",
        "DestinationNamespace",
        "DestinationName",
        "Datacenter",
        "LocalBindAddress",
    ] {
        let text = fields.string(name, "string")?;
        let always = matches!(name, "DestinationType" | "DestinationName" | "Datacenter");
        if always || !text.is_empty() {
            out.insert(name.to_owned(), text.into());
        }
    }
    put_number(&mut out, "LocalBindPort", port(fields.int("LocalBindPort")?)?);
    let config = fields.members("Config", "map[string]interface {}")?;
    put_config(&mut out, config);
    out.insert("MeshGateway".to_owned(), mesh_gateway(&mut fields)?);
    fields.ignore(&[
        "DestinationPartition",
        "DestinationPeer",
        "LocalBindSocketPath",
        "LocalBindSocketMode",
    ]);
    fields.finish()?;
    Ok(Value::Object(out))
}

fn mesh_gateway(fields: &mut Fields) -> Result<Value, String> {
    let mut out = Map::new();
    if let Some(mut fields) = fields.object("MeshGateway", "MeshGatewayConfig")? {
        put_text(
            &mut out,
            "Mode",
            fields.string("Mode", "structs.MeshGatewayMode")?,
        );
        fields.finish()?;
    }
    Ok(Value::Object(out))
}

fn expose(fields: &mut Fields) -> Result<Value, String> {
    let mut out = Map::new();
    if let Some(mut fields) = fields.object("Expose", "ExposeConfig")? {
        if fields.bool("Checks")? {
            out.insert("Checks".to_owned(), true.into());
        }
        let paths = items(fields.take("Paths").unwrap_or_default(), "[]structs.ExposePath")?;
        if !paths.is_empty() {
            let paths: Result<Vec<Value>, String> = paths.into_iter().map(exposed_path).collect();
            out.insert("Paths".to_owned(), Value::Array(paths?));
        }
        fields.finish()?;
    }
    Ok(Value::Object(out))
}

fn exposed_path(value: Value) -> Result<Value, String> {
    let mut fields = Fields::new(value, "ExposePath", "value of type structs.ExposePath")?;
    let mut out = Map::new();
    put_number(&mut out, "ListenerPort", port(fields.int("ListenerPort")?)?);
    put_text(&mut out, "Path", fields.string("Path", "string")?);
    put_number(&mut out, "LocalPathPort", port(fields.int("LocalPathPort")?)?);
    put_text(&mut out, "Protocol", fields.string("Protocol", "string")?);
    out.insert(
        "ParsedFromCheck".to_owned(),
        fields.bool("ParsedFromCheck")?.into(),
    );
    fields.finish()?;
    Ok(Value::Object(out))
}

fn put_text(out: &mut Map<String, Value>, name: &str, text: String) {
    if !text.is_empty() {
        out.insert(name.to_owned(), text.into());
    }
}

fn put_number(out: &mut Map<String, Value>, name: &str, number: u16) {
    if number != 0 {
        out.insert(name.to_owned(), number.into());
    }
}

fn put_config(out: &mut Map<String, Value>, config: Vec<(String, Value)>) {
    if !config.is_empty() {
        let mut config = Value::Object(config.into_iter().collect());
        // Equal configurations have equal texts.
        config.sort_all_objects();
        out.insert("Config".to_owned(), config);
    }
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

fn definition(mut fields: Fields) -> Result<CheckDefinition, String> {
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
