//! What runs on this agent as JSON. The shapes differ a little from those of the catalog's answers.

use lictor_catalog::{CheckRecord, ConnectDef, ServiceRecord, Text};
use lictor_local::{LocalCheck, LocalService};
use lictor_machine::Index;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::discovery::views::{Addresses, ConnectView, Map, ProxyView, WeightsView};

/// The kinds of services that are proxies, whose answers say so.
pub(super) const GATEWAYS: [&str; 3] = ["mesh-gateway", "terminating-gateway", "ingress-gateway"];

/// A service of this agent.
pub(super) struct LocalServiceView<'a> {
    pub(super) service: &'a LocalService,
    /// Whether it is told which version of the service this is.
    pub(super) with_hash: bool,
}

/// Which version of a service this is.
pub(super) fn content_hash(service: &LocalService) -> String {
    format!("{:x}", service.hash)
}

impl Serialize for LocalServiceView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a> {
            #[serde(skip_serializing_if = "str::is_empty")]
            kind: &'a str,
            #[serde(rename = "ID")]
            id: &'a str,
            service: &'a str,
            tags: &'a [Text],
            meta: Map<'a, Text>,
            port: u16,
            address: &'a str,
            #[serde(skip_serializing_if = "Addresses::is_empty")]
            tagged_addresses: Addresses<'a>,
            weights: WeightsView,
            enable_tag_override: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            content_hash: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            proxy: Option<LocalProxyView<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            connect: Option<ConnectView>,
        }
        let def = &self.service.def;
        let is_proxy =
            *def.kind == *lictor_catalog::ServiceDef::CONNECT_PROXY || GATEWAYS.contains(&&*def.kind);
        let native = def.connect.as_ref().is_some_and(|connect| connect.native);
        View {
            kind: &def.kind,
            id: &def.id,
            service: &def.name,
            tags: &def.tags,
            meta: Map(&def.meta),
            port: def.port,
            address: &def.address,
            tagged_addresses: Addresses(&def.tagged_addresses),
            weights: def.weights.into(),
            enable_tag_override: def.enable_tag_override,
            content_hash: self.with_hash.then(|| content_hash(self.service)),
            proxy: is_proxy.then_some(LocalProxyView(def.connect.as_deref())),
            connect: native.then(|| ConnectView::of(def)),
        }
        .serialize(serializer)
    }
}

/// The proxy that a service is. Of its upstreams only what was said is told.
struct LocalProxyView<'a>(Option<&'a ConnectDef>);

impl Serialize for LocalProxyView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = self.0.map_or("", |connect| &connect.proxy);
        let Ok(Value::Object(mut told)) = serde_json::from_str(told) else {
            return ProxyView(self.0).serialize(serializer);
        };
        let upstreams = told.get_mut("Upstreams").and_then(Value::as_array_mut);
        for upstream in upstreams.into_iter().flatten().filter_map(Value::as_object_mut) {
            upstream.retain(|name, value| name != "Datacenter" || *value != "");
        }
        told.serialize(serializer)
    }
}

/// A service of this agent as if the catalog had it, for filters.
pub(super) fn service_record(service: &LocalService) -> ServiceRecord {
    ServiceRecord {
        node: Text::default(),
        def: service.def.clone(),
        create_index: Index::ZERO,
        modify_index: Index::ZERO,
    }
}

/// A check of the agent `node` as if the catalog had it, which it need not yet.
pub(super) fn check_record(check: &LocalCheck, node: &Text) -> CheckRecord {
    CheckRecord {
        node: node.clone(),
        def: check.def.clone(),
        service_name: check.service_name.clone(),
        service_tags: check.service_tags.clone(),
        create_index: Index::ZERO,
        modify_index: Index::ZERO,
    }
}

/// A check as those see it who ask how well a service is: without its type, and with a definition in which nothing is defined.
pub(super) struct BareCheckView<'a> {
    pub(super) node: &'a str,
    pub(super) check: &'a LocalCheck,
}

impl Serialize for BareCheckView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a> {
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
            service_tags: (),
            r#type: &'static str,
            definition: Undefined,
            create_index: u64,
            modify_index: u64,
        }
        let LocalCheck {
            def, service_name, ..
        } = self.check;
        View {
            node: self.node,
            check_id: &def.id,
            name: &def.name,
            status: def.status.as_str(),
            notes: &def.notes,
            output: &def.output,
            service_id: &def.service_id,
            service_name,
            service_tags: (),
            r#type: "",
            definition: Undefined::NEW,
            create_index: 0,
            modify_index: 0,
        }
        .serialize(serializer)
    }
}

/// What is said of how a check is done where nothing is said.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Undefined {
    interval: &'static str,
    timeout: &'static str,
    deregister_critical_service_after: &'static str,
    #[serde(rename = "HTTP")]
    http: &'static str,
    header: (),
    method: &'static str,
    body: &'static str,
    #[serde(rename = "TLSSkipVerify")]
    tls_skip_verify: bool,
    #[serde(rename = "TCP")]
    tcp: &'static str,
}

impl Undefined {
    const NEW: Self = Self {
        interval: "0s",
        timeout: "0s",
        deregister_critical_service_after: "0s",
        http: "",
        header: (),
        method: "",
        body: "",
        tls_skip_verify: false,
        tcp: "",
    };
}
