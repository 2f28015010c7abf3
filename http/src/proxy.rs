//! The part that an instance of a service takes in the mesh, as clients write it and as the catalog's answers give it. It is kept as data; nothing here
//! acts on it.

use std::sync::Arc;

use lictor_catalog::ConnectDef;
use serde_json::{Map, Value};

use crate::decode::{Fields, items};

/// The proxy that an instance is. What was not said is empty or 0.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Proxy {
    /// The service that it stands before.
    pub(crate) destination: String,
    /// The instance of that service on the same node.
    pub(crate) destination_id: String,
    /// Where that instance is, as seen from the proxy.
    pub(crate) local_address: String,
    pub(crate) local_port: u16,
    /// Whatever is for the proxy itself.
    config: Vec<(String, Value)>,
    /// The services that it takes its own service's calls to.
    pub(crate) upstreams: Vec<Upstream>,
    mesh_gateway: String,
    /// What it lets through without asking who calls.
    pub(crate) exposed: Vec<ExposedPath>,
    expose_checks: bool,
}

/// A service that a proxy takes calls to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Upstream {
    /// `service` or `prepared_query`.
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) datacenter: String,
    /// Where the proxy listens for these calls.
    pub(crate) bind_address: String,
    pub(crate) bind_port: u16,
    config: Vec<(String, Value)>,
    mesh_gateway: String,
}

/// A path that a proxy lets through.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ExposedPath {
    pub(crate) listener_port: u16,
    pub(crate) path: String,
    local_port: u16,
    pub(crate) protocol: String,
    parsed_from_check: bool,
}

/// A port. The error is a text for the client.
pub(crate) fn port(number: i64) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("a port must be in 0 to 65535, and one is {number}"))
}

impl Proxy {
    /// Reads a proxy. The error is a text for the client.
    pub(crate) fn new(mut fields: Fields) -> Result<Self, String> {
        fields.alias("destination_service_name", "DestinationServiceName");
        fields.alias("destination_service_id", "DestinationServiceID");
        fields.alias("local_service_address", "LocalServiceAddress");
        fields.alias("local_service_port", "LocalServicePort");
        let upstreams = items(fields.take("Upstreams").unwrap_or_default(), "structs.Upstreams")?;
        let mut proxy = Self {
            destination: fields.string("DestinationServiceName", "string")?,
            destination_id: fields.string("DestinationServiceID", "string")?,
            local_address: fields.string("LocalServiceAddress", "string")?,
            local_port: port(fields.int("LocalServicePort")?)?,
            config: fields.members("Config", "map[string]interface {}")?,
            upstreams: upstreams
                .into_iter()
                .map(Upstream::new)
                .collect::<Result<_, _>>()?,
            mesh_gateway: mesh_gateway(&mut fields)?,
            exposed: Vec::new(),
            expose_checks: false,
        };
        if let Some(mut expose) = fields.object("Expose", "ExposeConfig")? {
            proxy.expose_checks = expose.bool("Checks")?;
            let paths = items(expose.take("Paths").unwrap_or_default(), "[]structs.ExposePath")?;
            proxy.exposed = paths
                .into_iter()
                .map(ExposedPath::new)
                .collect::<Result<_, _>>()?;
            expose.finish()?;
        }
        // Of later versions.
        fields.ignore(&[
            "Mode",
            "TransparentProxy",
            "EnvoyExtensions",
            "LocalServiceSocketPath",
            "AccessLogs",
        ]);
        fields.finish()?;
        Ok(proxy)
    }

    /// The part of an instance with this proxy, which may take part without one (`native`); `None` if it takes none.
    pub(crate) fn into_def(self, native: bool) -> Option<Arc<ConnectDef>> {
        // One that says nothing is none.
        let proxy = if self == Self::default() {
            String::new()
        } else {
            self.described()
        };
        let def = ConnectDef {
            native,
            destination: self.destination.into(),
            proxy: proxy.into(),
        };
        (def != ConnectDef::default()).then(|| Arc::new(def))
    }

    /// As answers give it.
    fn described(&self) -> String {
        let mut out = Map::new();
        put_text(&mut out, "DestinationServiceName", &self.destination);
        put_text(&mut out, "DestinationServiceID", &self.destination_id);
        put_text(&mut out, "LocalServiceAddress", &self.local_address);
        put_number(&mut out, "LocalServicePort", self.local_port);
        put_config(&mut out, &self.config);
        if !self.upstreams.is_empty() {
            let upstreams = self.upstreams.iter().map(Upstream::described);
            out.insert("Upstreams".to_owned(), upstreams.collect());
        }
        put_mesh_gateway(&mut out, &self.mesh_gateway);
        let mut expose = Map::new();
        if self.expose_checks {
            expose.insert("Checks".to_owned(), true.into());
        }
        if !self.exposed.is_empty() {
            let paths = self.exposed.iter().map(ExposedPath::described);
            expose.insert("Paths".to_owned(), paths.collect());
        }
        out.insert("Expose".to_owned(), expose.into());
        Value::Object(out).to_string()
    }
}

impl Upstream {
    fn new(value: Value) -> Result<Self, String> {
        let mut fields = Fields::new(value, "Upstream", "value of type structs.Upstream")?;
        fields.alias("destination_type", "DestinationType");
        fields.alias("destination_namespace", "DestinationNamespace");
        fields.alias("destination_name", "DestinationName");
        fields.alias("local_bind_address", "LocalBindAddress");
        fields.alias("local_bind_port", "LocalBindPort");
        let upstream = Self {
            kind: fields.string("DestinationType", "string")?,
            namespace: fields.string("DestinationNamespace", "string")?,
            name: fields.string("DestinationName", "string")?,
            datacenter: fields.string("Datacenter", "string")?,
            bind_address: fields.string("LocalBindAddress", "string")?,
            bind_port: port(fields.int("LocalBindPort")?)?,
            config: fields.members("Config", "map[string]interface {}")?,
            mesh_gateway: mesh_gateway(&mut fields)?,
        };
        fields.ignore(&[
            "DestinationPartition",
            "DestinationPeer",
            "LocalBindSocketPath",
            "LocalBindSocketMode",
        ]);
        fields.finish()?;
        Ok(upstream)
    }

    fn described(&self) -> Value {
        let mut out = Map::new();
        out.insert("DestinationType".to_owned(), self.kind.clone().into());
        put_text(&mut out, "DestinationNamespace", &self.namespace);
        out.insert("DestinationName".to_owned(), self.name.clone().into());
        out.insert("Datacenter".to_owned(), self.datacenter.clone().into());
        put_text(&mut out, "LocalBindAddress", &self.bind_address);
        put_number(&mut out, "LocalBindPort", self.bind_port);
        put_config(&mut out, &self.config);
        put_mesh_gateway(&mut out, &self.mesh_gateway);
        Value::Object(out)
    }
}

impl ExposedPath {
    fn new(value: Value) -> Result<Self, String> {
        let mut fields = Fields::new(value, "ExposePath", "value of type structs.ExposePath")?;
        fields.alias("listener_port", "ListenerPort");
        fields.alias("local_path_port", "LocalPathPort");
        let path = Self {
            listener_port: port(fields.int("ListenerPort")?)?,
            path: fields.string("Path", "string")?,
            local_port: port(fields.int("LocalPathPort")?)?,
            protocol: fields.string("Protocol", "string")?,
            parsed_from_check: fields.bool("ParsedFromCheck")?,
        };
        fields.finish()?;
        Ok(path)
    }

    fn described(&self) -> Value {
        let mut out = Map::new();
        put_number(&mut out, "ListenerPort", self.listener_port);
        put_text(&mut out, "Path", &self.path);
        put_number(&mut out, "LocalPathPort", self.local_port);
        put_text(&mut out, "Protocol", &self.protocol);
        out.insert("ParsedFromCheck".to_owned(), self.parsed_from_check.into());
        Value::Object(out)
    }
}

fn mesh_gateway(fields: &mut Fields) -> Result<String, String> {
    let Some(mut fields) = fields.object("MeshGateway", "MeshGatewayConfig")? else {
        return Ok(String::new());
    };
    let mode = fields.string("Mode", "structs.MeshGatewayMode")?;
    fields.finish()?;
    Ok(mode)
}

fn put_mesh_gateway(out: &mut Map<String, Value>, mode: &str) {
    let mut gateway = Map::new();
    put_text(&mut gateway, "Mode", mode);
    out.insert("MeshGateway".to_owned(), gateway.into());
}

fn put_text(out: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        out.insert(name.to_owned(), text.into());
    }
}

fn put_number(out: &mut Map<String, Value>, name: &str, number: u16) {
    if number != 0 {
        out.insert(name.to_owned(), number.into());
    }
}

fn put_config(out: &mut Map<String, Value>, config: &[(String, Value)]) {
    if !config.is_empty() {
        let mut config: Value = config.iter().cloned().collect();
        // Equal configurations have equal texts.
        config.sort_all_objects();
        out.insert("Config".to_owned(), config);
    }
}
