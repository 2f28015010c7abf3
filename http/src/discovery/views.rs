//! Nodes, services and checks as JSON, straight from the catalog's records.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use lictor_catalog::{
    CheckDefinition, CheckRecord, ConnectDef, Instance, Labels, NodeRecord, ServiceAddress, ServiceDef,
    ServiceRecord, Text, Weights,
};
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::json::Array;
use crate::text::format_duration;

/// A node, and the data center that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeView<'a> {
    pub(crate) node: &'a NodeRecord,
    pub(crate) datacenter: &'a str,
}

impl Serialize for NodeView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a> {
            #[serde(rename = "ID")]
            id: Shown<'a, lictor_machine::NodeId>,
            node: &'a str,
            address: &'a str,
            datacenter: &'a str,
            tagged_addresses: OrNull<'a, Text>,
            meta: OrNull<'a, Text>,
            create_index: u64,
            modify_index: u64,
        }
        let def = &self.node.def;
        View {
            id: Shown(def.id.as_ref()),
            node: &def.name,
            address: &def.address,
            datacenter: self.datacenter,
            tagged_addresses: OrNull(&def.tagged_addresses),
            meta: OrNull(&def.meta),
            create_index: self.node.create_index.0,
            modify_index: self.node.modify_index.0,
        }
        .serialize(serializer)
    }
}

/// An instance, without its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceView<'a>(pub(crate) &'a ServiceRecord);

impl Serialize for ServiceView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_tags(&*self.0.def.tags, serializer)
    }
}

impl ServiceView<'_> {
    fn with_tags<S: Serializer>(self, tags: impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a, T> {
            #[serde(skip_serializing_if = "str::is_empty")]
            kind: &'a str,
            #[serde(rename = "ID")]
            id: &'a str,
            service: &'a str,
            tags: T,
            address: &'a str,
            #[serde(skip_serializing_if = "Addresses::is_empty")]
            tagged_addresses: Addresses<'a>,
            meta: OrNull<'a, Text>,
            port: u16,
            weights: WeightsView,
            enable_tag_override: bool,
            proxy: ProxyView<'a>,
            connect: ConnectView,
            create_index: u64,
            modify_index: u64,
        }
        let def = &self.0.def;
        View {
            kind: &def.kind,
            id: &def.id,
            service: &def.name,
            tags,
            address: &def.address,
            tagged_addresses: Addresses(&def.tagged_addresses),
            meta: OrNull(&def.meta),
            port: def.port,
            weights: def.weights.into(),
            enable_tag_override: def.enable_tag_override,
            proxy: ProxyView(def.connect.as_deref()),
            connect: ConnectView::of(def),
            create_index: self.0.create_index.0,
            modify_index: self.0.modify_index.0,
        }
        .serialize(serializer)
    }
}

/// The same, with `null` where there are no tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct BareServiceView<'a>(pub(super) &'a ServiceRecord);

impl Serialize for BareServiceView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ServiceView(self.0).with_tags(bare(&self.0.def.tags), serializer)
    }
}

fn bare(tags: &[Text]) -> Option<&[Text]> {
    (!tags.is_empty()).then_some(tags)
}

/// An instance and its node, in one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceNodeView<'a> {
    pub(super) node: NodeView<'a>,
    pub(super) service: &'a ServiceRecord,
}

impl Serialize for ServiceNodeView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a> {
            #[serde(rename = "ID")]
            id: Shown<'a, lictor_machine::NodeId>,
            node: &'a str,
            address: &'a str,
            datacenter: &'a str,
            tagged_addresses: OrNull<'a, Text>,
            node_meta: OrNull<'a, Text>,
            service_kind: &'a str,
            #[serde(rename = "ServiceID")]
            service_id: &'a str,
            service_name: &'a str,
            service_tags: &'a [Text],
            service_address: &'a str,
            #[serde(skip_serializing_if = "Addresses::is_empty")]
            service_tagged_addresses: Addresses<'a>,
            service_weights: WeightsView,
            service_meta: Map<'a, Text>,
            service_port: u16,
            service_enable_tag_override: bool,
            service_proxy: ProxyView<'a>,
            service_connect: ConnectView,
            create_index: u64,
            modify_index: u64,
        }
        let node = &self.node.node.def;
        let def = &self.service.def;
        View {
            id: Shown(node.id.as_ref()),
            node: &node.name,
            address: &node.address,
            datacenter: self.node.datacenter,
            tagged_addresses: OrNull(&node.tagged_addresses),
            node_meta: OrNull(&node.meta),
            service_kind: &def.kind,
            service_id: &def.id,
            service_name: &def.name,
            service_tags: &def.tags,
            service_address: &def.address,
            service_tagged_addresses: Addresses(&def.tagged_addresses),
            service_weights: def.weights.into(),
            service_meta: Map(&def.meta),
            service_port: def.port,
            service_enable_tag_override: def.enable_tag_override,
            service_proxy: ProxyView(def.connect.as_deref()),
            service_connect: ConnectView::of(def),
            create_index: self.service.create_index.0,
            modify_index: self.service.modify_index.0,
        }
        .serialize(serializer)
    }
}

/// A check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckView<'a>(pub(crate) &'a CheckRecord);

impl Serialize for CheckView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_tags(&*self.0.service_tags, serializer)
    }
}

impl CheckView<'_> {
    fn with_tags<S: Serializer>(self, tags: impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a, T> {
            node: &'a str,
            #[serde(rename = "CheckID")]
            check_id: &'a str,
            name: &'a str,
            status: &'static str,
            notes: &'a str,
            output: &'a str,
            #[serde(rename = "ServiceID")]
            service_id: &'a str,
            service_name: &'a str,
            service_tags: T,
            r#type: &'a str,
            definition: DefinitionView<'a>,
            create_index: u64,
            modify_index: u64,
        }
        let CheckRecord {
            node,
            def,
            service_name,
            service_tags: _,
            create_index,
            modify_index,
        } = self.0;
        View {
            node,
            check_id: &def.id,
            name: &def.name,
            status: def.status.as_str(),
            notes: &def.notes,
            output: &def.output,
            service_id: &def.service_id,
            service_name,
            service_tags: tags,
            r#type: &def.kind,
            definition: DefinitionView::new(def.definition.as_deref()),
            create_index: create_index.0,
            modify_index: modify_index.0,
        }
        .serialize(serializer)
    }
}

/// The same, with `null` where there are no tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct BareCheckView<'a>(pub(super) &'a CheckRecord);

impl Serialize for BareCheckView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CheckView(self.0).with_tags(bare(&self.0.service_tags), serializer)
    }
}

/// An instance, its node, and how well it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstanceView<'a> {
    pub(super) node: NodeView<'a>,
    pub(super) service: ServiceView<'a>,
    pub(super) checks: &'a [Arc<CheckRecord>],
}

impl<'a> InstanceView<'a> {
    pub(super) fn new(instance: &'a Instance, datacenter: &'a str) -> Self {
        let Instance {
            node,
            service,
            checks,
        } = instance;
        Self {
            node: NodeView { node, datacenter },
            service: ServiceView(service),
            checks,
        }
    }
}

impl Serialize for InstanceView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut view = serializer.serialize_struct("CheckServiceNode", 3)?;
        view.serialize_field("Node", &self.node)?;
        view.serialize_field("Service", &self.service)?;
        view.serialize_field(
            "Checks",
            &Array(|| self.checks.iter().map(|check| CheckView(check))),
        )?;
        view.end()
    }
}

/// The same, with `null` where there are no tags or checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BareInstanceView<'a> {
    node: NodeView<'a>,
    instance: &'a Instance,
}

impl<'a> BareInstanceView<'a> {
    pub(crate) fn new(instance: &'a Instance, datacenter: &'a str) -> Self {
        let node = NodeView {
            node: &instance.node,
            datacenter,
        };
        Self { node, instance }
    }
}

impl Serialize for BareInstanceView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let checks = &self.instance.checks;
        let some = (!checks.is_empty()).then_some(Array(|| checks.iter().map(|check| BareCheckView(check))));
        let mut view = serializer.serialize_struct("CheckServiceNode", 3)?;
        view.serialize_field("Node", &self.node)?;
        view.serialize_field("Service", &BareServiceView(&self.instance.service))?;
        view.serialize_field("Checks", &some)?;
        view.end()
    }
}

/// How a check is done, as far as that was told.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DefinitionView<'a> {
    #[serde(skip_serializing_if = "Span::is_zero")]
    interval: Span,
    #[serde(skip_serializing_if = "Span::is_zero")]
    timeout: Span,
    #[serde(skip_serializing_if = "Span::is_zero")]
    deregister_critical_service_after: Span,
    #[serde(rename = "HTTP", skip_serializing_if = "str::is_empty")]
    http: &'a str,
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "std::ops::Not::not")]
    tls_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Map<'a, lictor_catalog::Tags>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    body: &'a str,
    #[serde(rename = "TCP", skip_serializing_if = "str::is_empty")]
    tcp: &'a str,
}

impl<'a> DefinitionView<'a> {
    fn new(definition: Option<&'a CheckDefinition>) -> Self {
        let Some(definition) = definition else {
            return Self::default();
        };
        Self {
            interval: Span(definition.interval),
            timeout: Span(definition.timeout),
            deregister_critical_service_after: Span(definition.deregister_after),
            http: &definition.http,
            tls_skip_verify: definition.tls_skip_verify,
            header: (!definition.header.is_empty()).then_some(Map(&definition.header)),
            method: &definition.method,
            body: &definition.body,
            tcp: &definition.tcp,
        }
    }
}

/// A duration as text.
#[derive(Default)]
struct Span(Duration);

impl Span {
    const fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

/// Something as text, or the empty text.
struct Shown<'a, T>(Option<&'a T>);

impl<T: Display> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(shown) => serializer.collect_str(shown),
            None => serializer.serialize_str(""),
        }
    }
}

/// Labels as an object.
pub(crate) struct Map<'a, V>(pub(crate) &'a Labels<V>);

impl<V: Serialize> Serialize for Map<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (&**name, value)))
    }
}

/// Labels as an object, or `null` if there are none.
pub(super) struct OrNull<'a, V>(pub(super) &'a Labels<V>);

impl<V: Serialize> Serialize for OrNull<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_none();
        }
        Map(self.0).serialize(serializer)
    }
}

/// Addresses of an instance by name.
pub(crate) struct Addresses<'a>(pub(crate) &'a Labels<ServiceAddress>);

impl Addresses<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a> {
            address: &'a str,
            port: u16,
        }
        serializer.collect_map(self.0.iter().map(|(name, ServiceAddress { address, port })| {
            let view = View { address, port: *port };
            (&**name, view)
        }))
    }
}

/// How much of the load an instance should get.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WeightsView {
    passing: u16,
    warning: u16,
}

impl From<Weights> for WeightsView {
    fn from(Weights { passing, warning }: Weights) -> Self {
        Self { passing, warning }
    }
}

/// What an instance is in the service mesh.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ConnectView {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    native: bool,
}

impl ConnectView {
    pub(crate) fn of(def: &ServiceDef) -> Self {
        let native = def.connect.as_ref().is_some_and(|connect| connect.native);
        Self { native }
    }
}

/// The proxy that an instance is: as it was registered, or as one that says nothing.
pub(crate) struct ProxyView<'a>(pub(crate) Option<&'a ConnectDef>);

impl Serialize for ProxyView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Nothing {}

        let told = self.0.filter(|connect| !connect.proxy.is_empty());
        if let Some(Value::Object(told)) = told.and_then(|connect| serde_json::from_str(&connect.proxy).ok())
        {
            return told.serialize(serializer);
        }
        let destination = self.0.map_or("", |connect| &*connect.destination);
        let mut map = serializer.serialize_map(None)?;
        if !destination.is_empty() {
            map.serialize_entry("DestinationServiceName", destination)?;
        }
        map.serialize_entry("MeshGateway", &Nothing {})?;
        map.serialize_entry("Expose", &Nothing {})?;
        map.end()
    }
}
