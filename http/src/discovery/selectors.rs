//! What filters can say about nodes, services and checks.

use std::borrow::Cow;

use lictor_catalog::{CheckRecord, ConnectDef, Labels, NodeInfo, ServiceAddress, ServiceDef, ServiceRecord};
use serde_json::Value as Json;

use super::views::{CheckView, InstanceView, NodeView, ServiceNodeView, ServiceView};
use crate::filter::{Field, Selectable, Shape, Step, Value, field};

const ADDRESS: &[Field] = &[field("Address", Shape::Text), field("Port", Shape::Number)];
const WEIGHTS: &[Field] = &[field("Passing", Shape::Number), field("Warning", Shape::Number)];
const CONNECT: &[Field] = &[field("Native", Shape::Bool)];
const MESH_GATEWAY: &[Field] = &[field("Mode", Shape::Text)];
const UPSTREAM: &[Field] = &[
    field("DestinationType", Shape::Text),
    field("DestinationNamespace", Shape::Text),
    field("DestinationName", Shape::Text),
    field("Datacenter", Shape::Text),
    field("LocalBindAddress", Shape::Text),
    field("LocalBindPort", Shape::Number),
    field("MeshGateway", Shape::Object(MESH_GATEWAY)),
];
const EXPOSED_PATH: &[Field] = &[
    field("ListenerPort", Shape::Number),
    field("Path", Shape::Text),
    field("LocalPathPort", Shape::Number),
    field("Protocol", Shape::Text),
    field("ParsedFromCheck", Shape::Bool),
];
const EXPOSE: &[Field] = &[
    field("Checks", Shape::Bool),
    field("Paths", Shape::Objects(EXPOSED_PATH)),
];
const PROXY: &[Field] = &[
    field("DestinationServiceName", Shape::Text),
    field("DestinationServiceID", Shape::Text),
    field("LocalServiceAddress", Shape::Text),
    field("LocalServicePort", Shape::Number),
    field("MeshGateway", Shape::Object(MESH_GATEWAY)),
    field("Upstreams", Shape::Objects(UPSTREAM)),
    field("Expose", Shape::Object(EXPOSE)),
];
const NODE: &[Field] = &[
    field("ID", Shape::Text),
    field("Node", Shape::Text),
    field("Address", Shape::Text),
    field("Datacenter", Shape::Text),
    field("TaggedAddresses", Shape::Labels),
    field("Meta", Shape::Labels),
];
const SERVICE: &[Field] = &[
    field("Kind", Shape::Text),
    field("ID", Shape::Text),
    field("Service", Shape::Text),
    field("Tags", Shape::Texts),
    field("Address", Shape::Text),
    field("TaggedAddresses", Shape::Map(ADDRESS)),
    field("Meta", Shape::Labels),
    field("Port", Shape::Number),
    field("Weights", Shape::Object(WEIGHTS)),
    field("EnableTagOverride", Shape::Bool),
    field("Proxy", Shape::Object(PROXY)),
    field("Connect", Shape::Object(CONNECT)),
];
const SERVICE_NODE: &[Field] = &[
    field("ID", Shape::Text),
    field("Node", Shape::Text),
    field("Address", Shape::Text),
    field("Datacenter", Shape::Text),
    field("TaggedAddresses", Shape::Labels),
    field("NodeMeta", Shape::Labels),
    field("ServiceKind", Shape::Text),
    field("ServiceID", Shape::Text),
    field("ServiceName", Shape::Text),
    field("ServiceTags", Shape::Texts),
    field("ServiceAddress", Shape::Text),
    field("ServiceTaggedAddresses", Shape::Map(ADDRESS)),
    field("ServiceWeights", Shape::Object(WEIGHTS)),
    field("ServiceMeta", Shape::Labels),
    field("ServicePort", Shape::Number),
    field("ServiceEnableTagOverride", Shape::Bool),
    field("ServiceProxy", Shape::Object(PROXY)),
    field("ServiceConnect", Shape::Object(CONNECT)),
];
const CHECK: &[Field] = &[
    field("Node", Shape::Text),
    field("CheckID", Shape::Text),
    field("Name", Shape::Text),
    field("Status", Shape::Text),
    field("Notes", Shape::Text),
    field("Output", Shape::Text),
    field("ServiceID", Shape::Text),
    field("ServiceName", Shape::Text),
    field("ServiceTags", Shape::Texts),
    field("Type", Shape::Text),
];

/// All about a node.
pub(super) const NODE_DUMP: &[Field] = &[
    field("ID", Shape::Text),
    field("Node", Shape::Text),
    field("Address", Shape::Text),
    field("TaggedAddresses", Shape::Labels),
    field("Meta", Shape::Labels),
    field("Services", Shape::Objects(SERVICE)),
    field("Checks", Shape::Objects(CHECK)),
];

/// Finds what a path of [`NODE_DUMP`] leads to.
pub(super) fn of_dump<'a>(node: NodeView<'a>, info: &'a NodeInfo, path: &[Step]) -> Value<'a> {
    let (of, path) = first(path);
    let (name, rest) = first(path);
    match of {
        "Services" if path.is_empty() => Value::Count(info.services.len()),
        "Services" => Value::AnyOf(
            info.services
                .iter()
                .map(|service| of_service(service, name, rest))
                .collect(),
        ),
        "Checks" if path.is_empty() => Value::Count(info.checks.len()),
        "Checks" => Value::AnyOf(info.checks.iter().map(|check| of_check(check, name)).collect()),
        _ => of_node(node, of, path),
    }
}

impl Selectable for NodeView<'_> {
    const FIELDS: &'static [Field] = NODE;

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        let (name, rest) = first(path);
        of_node(*self, name, rest)
    }
}

impl Selectable for ServiceView<'_> {
    const FIELDS: &'static [Field] = SERVICE;

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        let (name, rest) = first(path);
        of_service(self.0, name, rest)
    }
}

impl Selectable for ServiceNodeView<'_> {
    const FIELDS: &'static [Field] = SERVICE_NODE;

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        let (name, rest) = first(path);
        match name {
            "NodeMeta" => of_node(self.node, "Meta", rest),
            "ServiceName" => of_service(self.service, "Service", rest),
            _ => match name.strip_prefix("Service") {
                Some(name) => of_service(self.service, name, rest),
                None => of_node(self.node, name, rest),
            },
        }
    }
}

impl Selectable for CheckView<'_> {
    const FIELDS: &'static [Field] = CHECK;

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        of_check(self.0, first(path).0)
    }
}

impl Selectable for InstanceView<'_> {
    const FIELDS: &'static [Field] = &[
        field("Node", Shape::Object(NODE)),
        field("Service", Shape::Object(SERVICE)),
        field("Checks", Shape::Objects(CHECK)),
    ];

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        let (of, path) = first(path);
        let (name, rest) = first(path);
        match of {
            "Node" => of_node(self.node, name, rest),
            "Service" => of_service(self.service.0, name, rest),
            _ if path.is_empty() => Value::Count(self.checks.len()),
            _ => Value::AnyOf(self.checks.iter().map(|check| of_check(check, name)).collect()),
        }
    }
}

/// The field that a path begins with, and the rest of the path.
fn first(path: &[Step]) -> (&'static str, &[Step]) {
    match path {
        [Step::Field(name), rest @ ..] => (name, rest),
        [] | [Step::Key(_), ..] => ("", path),
    }
}

fn of_node<'a>(view: NodeView<'a>, name: &str, rest: &[Step]) -> Value<'a> {
    let def = &view.node.def;
    match name {
        "ID" => Value::Text(def.id.map_or(Cow::Borrowed(""), |id| id.to_string().into())),
        "Node" => Value::text(&def.name),
        "Address" => Value::text(&def.address),
        "Datacenter" => Value::text(view.datacenter),
        "TaggedAddresses" => of_labels(&def.tagged_addresses, rest),
        "Meta" => of_labels(&def.meta, rest),
        _ => Value::Absent,
    }
}

fn of_service<'a>(service: &'a ServiceRecord, name: &str, rest: &[Step]) -> Value<'a> {
    let def = &service.def;
    match name {
        "Kind" => Value::text(&def.kind),
        "ID" => Value::text(&def.id),
        "Service" => Value::text(&def.name),
        "Tags" => Value::Texts(&def.tags),
        "Address" => Value::text(&def.address),
        "TaggedAddresses" => of_addresses(&def.tagged_addresses, rest),
        "Meta" => of_labels(&def.meta, rest),
        "Port" => Value::Number(def.port.into()),
        "Weights" if first(rest).0 == "Passing" => Value::Number(def.weights.passing.into()),
        "Weights" => Value::Number(def.weights.warning.into()),
        "EnableTagOverride" => Value::Bool(def.enable_tag_override),
        "Proxy" => of_proxy(def.connect.as_deref(), rest),
        "Connect" => Value::Bool(is_native(def)),
        _ => Value::Absent,
    }
}

fn is_native(def: &ServiceDef) -> bool {
    def.connect.as_ref().is_some_and(|connect| connect.native)
}

fn of_check<'a>(check: &'a CheckRecord, name: &str) -> Value<'a> {
    let def = &check.def;
    match name {
        "Node" => Value::text(&check.node),
        "CheckID" => Value::text(&def.id),
        "Name" => Value::text(&def.name),
        "Status" => Value::text(def.status.as_str()),
        "Notes" => Value::text(&def.notes),
        "Output" => Value::text(&def.output),
        "ServiceID" => Value::text(&def.service_id),
        "ServiceName" => Value::text(&check.service_name),
        "ServiceTags" => Value::Texts(&check.service_tags),
        "Type" => Value::text(&def.kind),
        _ => Value::Absent,
    }
}

fn of_labels<'a>(labels: &'a Labels, path: &[Step]) -> Value<'a> {
    match path {
        [] => Value::Labels(labels),
        [Step::Key(name)] => Value::label(labels, name),
        _ => Value::Absent,
    }
}

fn of_addresses<'a>(labels: &'a Labels<ServiceAddress>, path: &[Step]) -> Value<'a> {
    let (name, part) = match path {
        [] => return Value::Addresses(labels),
        [Step::Key(name), Step::Field(part)] => (name, *part),
        _ => return Value::Absent,
    };
    match labels.get(name) {
        Some(found) if part == "Port" => Value::Number(found.port.into()),
        Some(found) => Value::text(&found.address),
        None => Value::Absent,
    }
}

/// What a path leads to in the description of a proxy. What is not described is empty, zero or false.
fn of_proxy<'a>(connect: Option<&'a ConnectDef>, path: &[Step]) -> Value<'a> {
    let described = connect.and_then(|connect| serde_json::from_str(&connect.proxy).ok());
    let described = described.unwrap_or(Json::Null);
    match (path, connect) {
        ([Step::Field("DestinationServiceName")], Some(connect)) => Value::text(&connect.destination),
        _ => of_described(&described, path, PROXY),
    }
}

fn of_described<'a>(json: &Json, path: &[Step], fields: &[Field]) -> Value<'a> {
    let Some((Step::Field(name), rest)) = path.split_first() else {
        return Value::Absent;
    };
    let Some(field) = fields.iter().find(|field| field.name == *name) else {
        return Value::Absent;
    };
    let json = json.get(name).unwrap_or(&Json::Null);
    match field.shape {
        Shape::Text => Value::Text(json.as_str().unwrap_or_default().to_owned().into()),
        Shape::Number => Value::Number(json.as_i64().unwrap_or_default()),
        Shape::Bool => Value::Bool(json.as_bool().unwrap_or_default()),
        Shape::Object(fields) => of_described(json, rest, fields),
        Shape::Objects(fields) => {
            let objects = json.as_array().map_or(&[][..], |objects| objects);
            if rest.is_empty() {
                return Value::Count(objects.len());
            }
            let values = objects.iter().map(|object| of_described(object, rest, fields));
            Value::AnyOf(values.collect())
        }
        Shape::Texts | Shape::Labels | Shape::Map(_) => Value::Absent,
    }
}
