//! What a transaction's body asks for.

use std::sync::Arc;

use bytes::Bytes;
use lictor_catalog::{
    CheckDef, CheckDefinition, KvPair, KvTxnOp, NodeDef, ServiceDef, SessionRef, Status, Text, TxnError,
    TxnOp, TxnVerb, Weights, quote,
};
use lictor_machine::Index;
use serde_json::Value;

use crate::decode::{Fields, items, parse};
use crate::discovery::decode::{definition, labels, tags, usable_weights};
use crate::discovery::node_id;
use crate::reply::Fault;

/// How many operations a transaction may have.
const MAX_OPS: usize = 64;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) ops: Vec<TxnOp>,
    /// Errors that make it pointless to try.
    pub(super) errors: Option<Vec<TxnError>>,
    /// Whether any of the operations changes anything.
    pub(super) writes: bool,
}

impl Plan {
    /// Reads a request's body. Values may have `max_value` bytes.
    pub(super) fn read(body: &[u8], max_value: usize) -> Result<Self, Fault> {
        let malformed = |why| Fault::bad_request(format!("Failed to parse body: {why}"));
        let ops = parse(body)
            .and_then(|value| items(value, "api.TxnOps"))
            .map_err(malformed)?;
        let count = ops.len();
        let ops = ops
            .into_iter()
            .map(Sent::read)
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed)?;
        if count > MAX_OPS {
            return Err(Fault::too_large(format!(
                "Transaction contains too many operations ({count} > {MAX_OPS})"
            )));
        }
        let mut plan = Self {
            ops: Vec::with_capacity(count),
            errors: None,
            writes: false,
        };
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for (position, op) in (0..).zip(ops.into_iter().flatten()) {
            if let Sent::Kv(KvOp { key, value, .. }) = &op
                && value.len() > max_value
            {
                return Err(Fault::too_large(format!(
                    "Value for key {} is too large ({} > {max_value} bytes)",
                    quote(key.as_bytes()),
                    value.len()
                )));
            }
            plan.writes |= op.writes();
            match op.into_catalog() {
                Ok(op) => plan.ops.push(op),
                Err(Wrong::AtOnce(what)) => early.push(TxnError { op: position, what }),
                Err(Wrong::WhenTried(what)) => late.push(TxnError { op: position, what }),
            }
        }
        // Whether operations make sense is looked at before anything is tried, verbs only while it is.
        plan.errors = [early, late].into_iter().find(|errors| !errors.is_empty());
        Ok(plan)
    }
}

/// What is wrong with an operation.
enum Wrong {
    /// It makes no sense, whatever the catalog holds.
    AtOnce(String),
    /// There is no such verb.
    WhenTried(String),
}

/// One operation as it was sent.
enum Sent {
    Kv(KvOp),
    Node(NodeOp),
    Service(ServiceOp),
    Check(CheckOp),
}

impl Sent {
    /// Reads an operation; `None` if it says nothing. Of several kinds in one operation, the first in the order of this code counts.
    fn read(value: Value) -> Result<Option<Self>, String> {
        let mut fields = Fields::new(value, "TxnOp", "value of type api.TxnOp")?;
        let mut of_kind = |name: &str, path: &'static str, kind_name: &str| {
            let place = fields.place(name, kind_name);
            let taken = fields.take(name);
            taken.map(|value| Fields::new(value, path, &place)).transpose()
        };
        let kv = of_kind("KV", "KVTxnOp.KV", "api.KVTxnOp")?;
        let node = of_kind("Node", "NodeTxnOp.Node", "api.NodeTxnOp")?;
        let service = of_kind("Service", "ServiceTxnOp.Service", "api.ServiceTxnOp")?;
        let check = of_kind("Check", "CheckTxnOp.Check", "api.CheckTxnOp")?;
        fields.finish()?;
        let kv = kv.map(KvOp::read).transpose()?.map(Self::Kv);
        let node = node.map(NodeOp::read).transpose()?.map(Self::Node);
        let service = service.map(ServiceOp::read).transpose()?.map(Self::Service);
        let check = check.map(CheckOp::read).transpose()?.map(Self::Check);
        Ok(kv.or(node).or(service).or(check))
    }

    /// Whether it changes anything, going by its verb alone.
    fn writes(&self) -> bool {
        match self {
            Self::Kv(op) => matches!(
                &*op.verb,
                "set" | "cas" | "lock" | "unlock" | "delete" | "delete-tree" | "delete-cas"
            ),
            Self::Node(NodeOp { verb, .. })
            | Self::Service(ServiceOp { verb, .. })
            | Self::Check(CheckOp { verb, .. }) => verb != "get",
        }
    }

    fn into_catalog(self) -> Result<TxnOp, Wrong> {
        match self {
            Self::Kv(op) => op.into_catalog().map(TxnOp::Kv),
            Self::Node(op) => op.into_catalog(),
            Self::Service(op) => op.into_catalog(),
            Self::Check(op) => op.into_catalog(),
        }
    }
}

struct KvOp {
    verb: String,
    key: String,
    value: Bytes,
    flags: u64,
    index: u64,
    session: String,
}

impl KvOp {
    fn read(mut fields: Fields) -> Result<Self, String> {
        let op = Self {
            verb: fields.string("Verb", "api.KVOp")?,
            key: fields.string("Key", "string")?,
            value: fields.blob("Value")?,
            flags: fields.uint("Flags")?,
            index: fields.uint("Index")?,
            session: fields.string("Session", "string")?,
        };
        // There are no namespaces, but clients may name one here.
        let _ignored = fields.string("Namespace", "string")?;
        fields.finish()?;
        Ok(op)
    }

    fn into_catalog(self) -> Result<KvTxnOp, Wrong> {
        let Self {
            verb,
            key,
            value,
            flags,
            index,
            session,
        } = self;
        if key.is_empty() && verb != "delete-tree" {
            return Err(Wrong::AtOnce("Must provide key".to_owned()));
        }
        let key = Bytes::from(key);
        let session = SessionRef(session);
        let pair = |key| KvPair { key, value, flags };
        Ok(match verb.as_str() {
            "set" => KvTxnOp::Set(pair(key)),
            "cas" => KvTxnOp::Cas(pair(key), Index(index)),
            "lock" => KvTxnOp::Lock(pair(key), session),
            "unlock" => KvTxnOp::Unlock(pair(key), session),
            "get" => KvTxnOp::Get(key),
            "get-or-empty" => KvTxnOp::GetOrEmpty(key),
            "get-tree" => KvTxnOp::GetTree(key),
            "check-index" => KvTxnOp::CheckIndex(key, Index(index)),
            "check-session" => KvTxnOp::CheckSession(key, session),
            // The fence goes where client libraries have a place for a number.
            "check-fence" => KvTxnOp::CheckFence(key, index),
            "check-not-exists" => KvTxnOp::CheckNotExists(key),
            "delete" => KvTxnOp::Delete(key),
            "delete-tree" => KvTxnOp::DeleteTree(key),
            "delete-cas" => KvTxnOp::DeleteCas(key, Index(index)),
            _ => return Err(unknown("KV", &verb)),
        })
    }
}

struct NodeOp {
    verb: String,
    /// As it was written.
    id: String,
    def: NodeDef,
    index: Index,
}

impl NodeOp {
    fn read(mut fields: Fields) -> Result<Self, String> {
        let verb = fields.string("Verb", "api.NodeOp")?;
        let mut node = inner(&mut fields, "Node", "Node.Node.Node", "api.Node")?;
        fields.finish()?;
        let op = Self {
            verb,
            id: node.string("ID", "string")?,
            def: NodeDef {
                id: None,
                name: node.string("Node", "string")?.into(),
                address: node.string("Address", "string")?.into(),
                tagged_addresses: labels(node.string_map("TaggedAddresses")?),
                meta: labels(node.string_map("Meta")?),
            },
            index: Index(node.uint("ModifyIndex")?),
        };
        node.ignore(&["Datacenter", "CreateIndex", "Partition", "PeerName", "Locality"]);
        node.finish()?;
        Ok(op)
    }

    fn into_catalog(self) -> Result<TxnOp, Wrong> {
        let Self {
            verb,
            id: text,
            def,
            index,
        } = self;
        let name = def.name.clone();
        if verb == "get" {
            let wrong = |why| format!("node lookup by ID failed, wrong UUID: {why} for '{text}'");
            let id = node_id(&text).map_err(|why| Wrong::WhenTried(wrong(why)))?;
            return Ok(match id {
                Some(id) => TxnOp::NodeById { id, name },
                None => TxnOp::Node(TxnVerb::Get(name)),
            });
        }
        if name.is_empty() {
            return Err(Wrong::AtOnce("Must provide node".to_owned()));
        }
        let id = node_id(&text).map_err(|why| Wrong::AtOnce(format!("Bad node ID: {why}")))?;
        let def = NodeDef { id, ..def };
        change("Node", &verb, def, name, index).map(TxnOp::Node)
    }
}

struct ServiceOp {
    verb: String,
    node: Text,
    def: ServiceDef,
    index: Index,
}

impl ServiceOp {
    fn read(mut fields: Fields) -> Result<Self, String> {
        let verb = fields.string("Verb", "api.ServiceOp")?;
        let node = fields.string("Node", "string")?.into();
        let mut service = inner(
            &mut fields,
            "Service",
            "AgentService.Service.Service",
            "api.AgentService",
        )?;
        fields.finish()?;
        let weights = match service.object("Weights", "AgentWeights")? {
            Some(mut weights) => {
                let (passing, warning) = (weights.int("Passing")?, weights.int("Warning")?);
                weights.finish()?;
                usable_weights(passing, warning)
            }
            None => Weights::default(),
        };
        let port = service.int("Port")?;
        let def = ServiceDef {
            id: service.string("ID", "string")?.into(),
            name: service.string("Service", "string")?.into(),
            tags: tags(service.strings("Tags")?),
            address: service.string("Address", "string")?.into(),
            port: u16::try_from(port)
                .map_err(|_| format!("a port must be in 0 to 65535, and one is {port}"))?,
            meta: labels(service.string_map("Meta")?),
            weights,
            enable_tag_override: service.bool("EnableTagOverride")?,
            ..ServiceDef::default()
        };
        let index = Index(service.uint("ModifyIndex")?);
        // Known, and not taken over by transactions.
        service.ignore(&[
            "Kind",
            "TaggedAddresses",
            "Proxy",
            "Connect",
            "CreateIndex",
            "ContentHash",
            "SocketPath",
            "Namespace",
            "Partition",
            "PeerName",
            "Datacenter",
            "Locality",
        ]);
        service.finish()?;
        Ok(Self {
            verb,
            node,
            def,
            index,
        })
    }

    fn into_catalog(self) -> Result<TxnOp, Wrong> {
        let Self {
            verb,
            node,
            mut def,
            index,
        } = self;
        let id = def.id.clone();
        if verb == "get" {
            let verb = TxnVerb::Get(id);
            return Ok(TxnOp::Service { node, verb });
        }
        if def.name.is_empty() && !id.is_empty() {
            return Err(Wrong::AtOnce("Must provide service name with ID".to_owned()));
        }
        if matches!(&*def.address, "0.0.0.0" | "::" | "[::]") {
            return Err(Wrong::AtOnce("Invalid service address".to_owned()));
        }
        if id.is_empty() {
            def.id = def.name.clone();
        }
        let id = def.id.clone();
        let verb = change("Service", &verb, def, id, index)?;
        Ok(TxnOp::Service { node, verb })
    }
}

struct CheckOp {
    verb: String,
    node: Text,
    status: String,
    def: CheckDef,
    index: Index,
}

impl CheckOp {
    fn read(mut fields: Fields) -> Result<Self, String> {
        let verb = fields.string("Verb", "api.CheckOp")?;
        let mut check = inner(&mut fields, "Check", "HealthCheck.Check.Check", "api.HealthCheck")?;
        fields.finish()?;
        let definition = check
            .object("Definition", "HealthCheckDefinition")?
            .map(definition)
            .transpose()?
            .filter(|definition| *definition != CheckDefinition::default());
        let op = Self {
            verb,
            node: check.string("Node", "string")?.into(),
            status: check.string("Status", "string")?,
            def: CheckDef {
                id: check.string("CheckID", "string")?.into(),
                name: check.string("Name", "string")?.into(),
                status: Status::default(),
                notes: check.string("Notes", "string")?.into(),
                output: check.string("Output", "string")?.into(),
                service_id: check.string("ServiceID", "string")?.into(),
                kind: Text::default(),
                definition: definition.map(Arc::new),
            },
            index: Index(check.uint("ModifyIndex")?),
        };
        // Known, and not taken over by transactions.
        check.ignore(&[
            "ServiceName",
            "ServiceTags",
            "Type",
            "Namespace",
            "Partition",
            "PeerName",
            "ExposedPort",
            "CreateIndex",
        ]);
        check.finish()?;
        Ok(op)
    }

    fn into_catalog(self) -> Result<TxnOp, Wrong> {
        let Self {
            verb,
            node,
            status,
            mut def,
            index,
        } = self;
        if verb == "get" {
            let verb = TxnVerb::Get(def.id);
            return Ok(TxnOp::Check { node, verb });
        }
        if !status.is_empty() {
            let wrong = |why| format!("invalid check status {}: {why}", quote(status.as_bytes()));
            def.status = status.parse().map_err(|why| Wrong::AtOnce(wrong(why)))?;
        }
        if def.id.is_empty() {
            def.id = def.name.clone();
        }
        let id = def.id.clone();
        let verb = change("Check", &verb, def, id, index)?;
        Ok(TxnOp::Check { node, verb })
    }
}

/// The object that an operation is about. `path` and `kind_name` are what errors call its members and itself.
fn inner(fields: &mut Fields, name: &str, path: &'static str, kind_name: &str) -> Result<Fields, String> {
    let place = fields.place(name, kind_name);
    Fields::new(fields.take(name).unwrap_or_default(), path, &place)
}

/// What a verb that changes something does with an object of this name.
fn change<D>(kind: &str, verb: &str, def: D, name: Text, index: Index) -> Result<TxnVerb<D>, Wrong> {
    Ok(match verb {
        "set" => TxnVerb::Set(Box::new(def)),
        "cas" => TxnVerb::Cas(Box::new(def), index),
        "delete" => TxnVerb::Delete(name),
        "delete-cas" => TxnVerb::DeleteCas(name, index),
        _ => return Err(unknown(kind, verb)),
    })
}

fn unknown(kind: &str, verb: &str) -> Wrong {
    Wrong::WhenTried(format!("unknown {kind} verb {}", quote(verb.as_bytes())))
}
