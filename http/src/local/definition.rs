//! Services that are to run here, as clients write them.

use lictor_catalog::{Labels, Registration, ServiceAddress, ServiceDef, Weights};
use lictor_local::{CheckSpec, ServiceSpec};

use super::check::Written as WrittenCheck;
use super::mesh_rules;
use crate::decode::{Fields, items_at};
use crate::discovery::decode::{addresses, labels, tags};
use crate::proxy::{Proxy, port};

/// The most labels that a service may have.
const MAX_META: usize = 64;
/// The longest name of a label, in bytes.
const MAX_META_NAME: usize = 128;
/// The longest value of a label, in bytes.
const MAX_META_VALUE: usize = 512;

/// A service as a client wrote it. What was not said is empty, 0 or false.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) tags: Vec<String>,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) tagged_addresses: Labels<ServiceAddress>,
    pub(super) meta: Vec<(String, String)>,
    /// For passing, and for warning.
    pub(super) weights: Option<(i64, i64)>,
    pub(super) enable_tag_override: bool,
    pub(super) token: String,
    pub(super) checks: Vec<WrittenCheck>,
    pub(super) proxy: Proxy,
    /// Whether it takes part in the mesh without a proxy.
    pub(super) native: bool,
    /// The proxy that is to run beside it.
    pub(super) sidecar: Option<Box<Self>>,
}

impl Written {
    /// Reads a service. The error is a text for the client.
    pub(super) fn new(mut fields: Fields) -> Result<Self, String> {
        fields.alias("enable_tag_override", "EnableTagOverride");
        fields.alias("tagged_addresses", "TaggedAddresses");
        let kind = fields.string("Kind", "structs.ServiceKind")?;
        let weights = match fields.object("Weights", "Weights")? {
            Some(mut weights) => {
                let both = (weights.int("Passing")?, weights.int("Warning")?);
                weights.finish()?;
                Some(both)
            }
            None => None,
        };
        let proxy = fields.object("Proxy", "ConnectProxyConfig")?;
        let mut proxy = proxy.map(Proxy::new).transpose()?.unwrap_or_default();
        for upstream in &mut proxy.upstreams {
            if upstream.kind.is_empty() {
                "service".clone_into(&mut upstream.kind);
            }
        }
        let (native, sidecar) = match fields.object("Connect", "ServiceConnect")? {
            Some(mut connect) => {
                connect.alias("sidecar_service", "SidecarService");
                let native = connect.bool("Native")?;
                let sidecar = connect.object("SidecarService", "ServiceDefinition")?;
                // Further members count for nothing, whatever they are: clients still send those of older versions.
                (native, sidecar.map(Self::new).transpose()?.map(Box::new))
            }
            None => (false, None),
        };
        let written = Self {
            id: fields.string("ID", "string")?,
            name: fields.string("Name", "string")?,
            kind,
            tags: fields.strings("Tags")?,
            address: fields.string("Address", "string")?,
            port: port(fields.int("Port")?)?,
            tagged_addresses: addresses(&mut fields)?,
            meta: fields.string_map("Meta")?,
            weights,
            enable_tag_override: fields.bool("EnableTagOverride")?,
            token: fields.string("Token", "string")?,
            checks: checks(&mut fields)?,
            proxy,
            native,
            sidecar,
        };
        fields.finish()?;
        Ok(written)
    }

    /// Whether it makes sense; all of it but for what [`mesh_rules`] and [`Self::check_checks`] look at. The error is a text for the
    /// client.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("Missing service name".to_owned());
        }
        if matches!(&self.address[..], "0.0.0.0" | "::" | "[::]") {
            return Err("Invalid service address".to_owned());
        }
        self.usable_weights()
            .map_err(|why| format!("Invalid Weights: {why}"))?;
        self.check_meta()
            .map_err(|why| format!("Invalid Service Meta: {why}"))?;
        mesh_rules::check(self)
    }

    /// Whether its labels make sense. The error is a text for the client.
    pub(super) fn check_meta(&self) -> Result<(), String> {
        if self.meta.len() > MAX_META {
            return Err(format!(
                "Node metadata cannot contain more than {MAX_META} key/value pairs"
            ));
        }
        self.meta.iter().try_for_each(|(name, value)| {
            check_label(name, value)
                .map_err(|why| format!("Couldn't load metadata pair ('{name}', '{value}'): {why}"))
        })
    }

    /// Whether its checks make sense. The error is a text for the client.
    pub(super) fn check_checks(&self) -> Result<(), &'static str> {
        self.checks.iter().try_for_each(WrittenCheck::check)
    }

    /// Its weights. The error is a text for the client.
    pub(super) fn usable_weights(&self) -> Result<Weights, &'static str> {
        let Some((passing, warning)) = self.weights else {
            return Ok(Weights::default());
        };
        if passing < 1 {
            return Err("Passing must be greater than 0");
        }
        if warning < 0 {
            return Err("Warning must be greater or equal than 0");
        }
        match (u16::try_from(passing), u16::try_from(warning)) {
            (Ok(passing), Ok(warning)) => Ok(Weights { passing, warning }),
            (Err(_), _) | (_, Err(_)) => Err("DNS Weight must be between 0 and 65535"),
        }
    }

    /// The same for the agent. The error is a text for the client: a check begins with a status that is none, or the catalog would never
    /// take it.
    pub(super) fn into_spec(self) -> Result<ServiceSpec, String> {
        let weights = self.usable_weights().unwrap_or_default();
        let checks = self.checks.into_iter().map(|check| {
            let status = check
                .first_status()
                .map_err(|_| "Status for checks must 'passing', 'warning', 'critical'")?;
            Ok(check.into_spec(status))
        });
        let checks = checks.collect::<Result<Vec<CheckSpec>, &str>>()?;
        let def = ServiceDef {
            id: self.id.into(),
            name: self.name.into(),
            kind: self.kind.into(),
            tags: tags(self.tags),
            address: self.address.into(),
            port: self.port,
            tagged_addresses: self.tagged_addresses,
            meta: labels(self.meta),
            weights,
            enable_tag_override: self.enable_tag_override,
            connect: self.proxy.into_def(self.native),
        };
        let spec = ServiceSpec {
            def,
            token: self.token.into(),
            checks,
        };
        spec.check()?;
        check_for_catalog(&spec.def)?;
        Ok(spec)
    }
}

/// Whether the catalog would take it, as far as that is known here.
fn check_for_catalog(def: &ServiceDef) -> Result<(), String> {
    let node = lictor_catalog::NodeDef {
        name: "this".into(),
        ..lictor_catalog::NodeDef::default()
    };
    let registration = Registration {
        node,
        skip_node_update: true,
        service: Some(def.clone()),
        checks: Vec::new(),
    };
    registration.check()
}

/// The one check, and then the others. A single check that says nothing is none.
fn checks(fields: &mut Fields) -> Result<Vec<WrittenCheck>, String> {
    let one = fields.object("Check", "structs.CheckType")?;
    let one = one.map(WrittenCheck::of_service).transpose()?;
    let place = fields.place("Checks", "structs.CheckType");
    let all = fields.place("Checks", "structs.CheckTypes");
    let others = items_at(fields.take("Checks").unwrap_or_default(), &all)?;
    let others = others
        .into_iter()
        .map(|check| WrittenCheck::of_service(Fields::new(check, "CheckType", &place)?));
    let one = one.filter(|check| !check.is_empty());
    one.into_iter().map(Ok).chain(others).collect()
}

fn check_label(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Key cannot be blank".to_owned());
    }
    let usual = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(usual) {
        return Err("Key contains invalid characters".to_owned());
    }
    if name.len() > MAX_META_NAME {
        return Err(format!("Key is too long (limit: {MAX_META_NAME} characters)"));
    }
    if name.starts_with("consul-") {
        return Err("Key prefix 'consul-' is reserved for internal use".to_owned());
    }
    if value.len() > MAX_META_VALUE {
        return Err(format!("Value is too long (limit: {MAX_META_VALUE} characters)"));
    }
    Ok(())
}
