//! What makes a registration wrong by itself, in the API's words where it has some.

use super::defs::{CheckDef, NodeDef, ServiceDef, Text};
use super::labels::Labels;
use super::registration::{
    MAX_CHECKS, MAX_LABELS, MAX_NAME_BYTES, MAX_OUTPUT_BYTES, MAX_PROXY_BYTES, MAX_TAGS, MAX_TEXT_BYTES,
    Registration,
};
use crate::quote::quote;

/// Separates the names that rows and tables are ordered by, so no name has it inside.
pub(super) const END: u8 = 0;

/// See [`Registration::check`].
pub(super) fn registration(registration: &Registration) -> Result<(), String> {
    let Registration {
        node: named,
        skip_node_update,
        service: offered,
        checks,
    } = registration;
    if named.name.is_empty() {
        return Err("Must provide node".to_owned());
    }
    if named.address.is_empty() && !skip_node_update {
        return Err("Must provide address if SkipNodeUpdate is not set".to_owned());
    }
    node(named)?;
    if let Some(offered) = offered {
        if offered.name.is_empty() && offered.id.is_empty() {
            return Err(
                "failed inserting service: failed inserting service: object missing primary index".to_owned(),
            );
        }
        service(offered)?;
    }
    if checks.len() > MAX_CHECKS {
        return Err(format!(
            "invalid registration: it has {} checks, and may have {MAX_CHECKS}",
            checks.len()
        ));
    }
    for one in checks {
        if one.name.is_empty() && one.id.is_empty() {
            return Err(format!(
                "failed inserting check: failed inserting check: object missing primary index on node {}",
                quote(named.name.as_bytes())
            ));
        }
        check(one)?;
    }
    Ok(())
}

/// Whether a node is within all bounds.
pub(super) fn node(def: &NodeDef) -> Result<(), String> {
    let NodeDef {
        id: _,
        name: named,
        address,
        tagged_addresses,
        meta,
    } = def;
    name("the node's name", named)?;
    bytes("the node's address", address, MAX_NAME_BYTES)?;
    labels("the node's tagged addresses", tagged_addresses)?;
    labels("the node's meta", meta)
}

/// Whether an instance is within all bounds.
pub(super) fn service(def: &ServiceDef) -> Result<(), String> {
    let ServiceDef {
        id,
        name: named,
        kind,
        tags,
        address,
        port: _,
        tagged_addresses,
        meta,
        weights: _,
        enable_tag_override: _,
        connect,
    } = def;
    if named.is_empty() {
        return Err("Must provide service name with ID".to_owned());
    }
    name("the service's id", id)?;
    name("the service's name", named)?;
    bytes("the service's kind", kind, MAX_NAME_BYTES)?;
    bytes("the service's address", address, MAX_NAME_BYTES)?;
    count("the service's tags", tags.len(), MAX_TAGS)?;
    for tag in tags.iter() {
        bytes("a tag of the service", tag, MAX_NAME_BYTES)?;
    }
    count(
        "the service's tagged addresses",
        tagged_addresses.len(),
        MAX_LABELS,
    )?;
    for (tag, at) in tagged_addresses.iter() {
        bytes("the service's tagged addresses", tag, MAX_TEXT_BYTES)?;
        bytes("the service's tagged addresses", &at.address, MAX_TEXT_BYTES)?;
    }
    labels("the service's meta", meta)?;
    if let Some(connect) = connect {
        name("the name of the service behind a proxy", &connect.destination)?;
        bytes("the service's proxy", &connect.proxy, MAX_PROXY_BYTES)?;
    }
    Ok(())
}

/// Whether a check is within all bounds.
pub(super) fn check(def: &CheckDef) -> Result<(), String> {
    let CheckDef {
        id,
        name: named,
        status: _,
        notes,
        output,
        service_id,
        kind,
        definition,
    } = def;
    name("the check's id", id)?;
    name("the check's name", named)?;
    name("the id of the check's service", service_id)?;
    bytes("the check's notes", notes, MAX_TEXT_BYTES)?;
    bytes("the check's output", output, MAX_OUTPUT_BYTES)?;
    bytes("the check's type", kind, MAX_NAME_BYTES)?;
    let Some(definition) = definition else {
        return Ok(());
    };
    for text in [
        &definition.http,
        &definition.method,
        &definition.body,
        &definition.tcp,
    ] {
        bytes("the check's definition", text, MAX_TEXT_BYTES)?;
    }
    count("the check's headers", definition.header.len(), MAX_LABELS)?;
    for (header, values) in definition.header.iter() {
        count("the check's headers", values.len(), MAX_LABELS)?;
        for text in values.iter().chain([header]) {
            bytes("the check's headers", text, MAX_TEXT_BYTES)?;
        }
    }
    Ok(())
}

fn name(what: &str, text: &Text) -> Result<(), String> {
    if text.as_bytes().contains(&END) {
        return Err(format!("invalid registration: {what} has a zero byte in it"));
    }
    bytes(what, text, MAX_NAME_BYTES)
}

fn labels(what: &str, labels: &Labels) -> Result<(), String> {
    count(what, labels.len(), MAX_LABELS)?;
    labels.iter().try_for_each(|(name, value)| {
        bytes(what, name, MAX_TEXT_BYTES)?;
        bytes(what, value, MAX_TEXT_BYTES)
    })
}

fn bytes(what: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.len() > limit {
        let len = text.len();
        return Err(format!(
            "invalid registration: {what} has {len} bytes, and may have {limit}"
        ));
    }
    Ok(())
}

fn count(what: &str, count: usize, limit: usize) -> Result<(), String> {
    if count > limit {
        return Err(format!(
            "invalid registration: {what} are {count}, and may be {limit}"
        ));
    }
    Ok(())
}
