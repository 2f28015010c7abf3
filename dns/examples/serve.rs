//! Serves a catalog from a file, without any agent:
//!
//! ```text
//! cargo run -p lictor-dns --example serve -- catalog.json 127.0.0.1:8600 [alt-domain]
//! ```
//!
//! The file is a list of registrations as `PUT /v1/catalog/register` takes them, of which the fields that DNS speaks of are read.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use lictor_catalog::{
    Action, Changes, CheckDef, Command, ConnectDef, NodeDef, Registration, ServiceAddress, ServiceDef, State,
    Text, Weights,
};
use lictor_dns::{Ask, Config, Failure, Listener, Meters, Reading, Server, Snapshot, Source};
use lictor_machine::{Index, UnixMillis};
use lictor_metrics::Registry;
use serde_json::Value;

/// A catalog that does not change.
#[derive(Debug)]
struct Fixed(Snapshot);

#[async_trait]
impl Source for Fixed {
    fn snapshot(&self) -> Option<Snapshot> {
        Some(self.0.clone())
    }

    fn has_datacenter(&self, _name: &str) -> bool {
        false
    }

    async fn find(&self, ask: Ask) -> Result<Reading, Failure> {
        match ask.datacenter {
            Some(name) => Err(Failure::NoSuchDatacenter(name)),
            None => Err(Failure::Unavailable("all there is is here".to_owned())),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve CATALOG.json ADDRESS:PORT [ALT-DOMAIN]".into());
    };
    let registrations: Vec<Value> = serde_json::from_slice(&std::fs::read(&file)?)?;
    let mut state = State::new();
    for (index, value) in (1..).zip(&registrations) {
        let command = Command {
            stamp: UnixMillis(0),
            action: Action::Register(registration(value).into()),
        };
        state.apply(Index(index), &command, &mut Changes::default())?;
    }
    let source = Fixed(Snapshot {
        state: Arc::new(state),
        generation: 0,
        age: std::time::Duration::ZERO,
    });
    let mut config = Config::new("dc1");
    config.alt_domain = arguments.next().map(|domain| domain.parse()).transpose()?;
    let runtime = lictor_runtime_smol::runtime();
    let listener = Listener::bind(address.parse()?)?;
    let workers = std::thread::available_parallelism()?.get();
    let meters = Meters::new(&Registry::new(), "");
    let _server = Server::start(
        &runtime,
        vec![listener],
        Arc::new(source),
        config,
        workers,
        meters,
        1,
    )?;
    runtime.block_on(std::future::pending::<()>());
    Ok(())
}

fn text(value: &Value, key: &str) -> Text {
    value[key].as_str().unwrap_or_default().into()
}

fn number(value: &Value, key: &str) -> u16 {
    let number = value[key].as_u64().unwrap_or_default();
    u16::try_from(number).unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = (&str, Text)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?.into())))
}

fn registration(value: &Value) -> Registration {
    let checks = value["Checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    Registration {
        node: NodeDef {
            name: text(value, "Node"),
            address: text(value, "Address"),
            tagged_addresses: texts(&value["TaggedAddresses"]).collect(),
            meta: texts(&value["NodeMeta"]).collect(),
            ..NodeDef::default()
        },
        service: value["Service"].is_object().then(|| service(&value["Service"])),
        checks: checks.iter().chain(value.get("Check")).map(check).collect(),
        ..Registration::default()
    }
}

fn service(value: &Value) -> ServiceDef {
    let tags = value["Tags"].as_array().into_iter().flatten();
    let addresses = value["TaggedAddresses"].as_object().into_iter().flatten();
    let weights = &value["Weights"];
    ServiceDef {
        id: text(value, "ID"),
        name: text(value, "Service"),
        kind: text(value, "Kind"),
        tags: tags.filter_map(|tag| tag.as_str().map(Text::from)).collect(),
        address: text(value, "Address"),
        port: number(value, "Port"),
        tagged_addresses: addresses
            .map(|(key, value)| {
                let address = ServiceAddress {
                    address: text(value, "Address"),
                    port: number(value, "Port"),
                };
                (key.as_str(), address)
            })
            .collect(),
        meta: texts(&value["Meta"]).collect(),
        weights: if weights.is_object() {
            Weights {
                passing: number(weights, "Passing"),
                warning: number(weights, "Warning"),
            }
        } else {
            Weights::default()
        },
        connect: value["Proxy"].is_object().then(|| {
            Arc::new(ConnectDef {
                destination: text(&value["Proxy"], "DestinationServiceName"),
                ..ConnectDef::default()
            })
        }),
        ..ServiceDef::default()
    }
}

fn check(value: &Value) -> CheckDef {
    CheckDef {
        id: text(value, "CheckID"),
        name: text(value, "Name"),
        status: text(value, "Status").parse().unwrap_or_default(),
        service_id: text(value, "ServiceID"),
        ..CheckDef::default()
    }
}
